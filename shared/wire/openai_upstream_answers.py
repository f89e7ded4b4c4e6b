"""Answers of servers of OpenAI's dialect in canonical form, streamed or in one piece. Pure.

One reader takes every variety: text under `delta`, `message` or `text`, reasoning under two names, tool calls whole or
in pieces, logprobs in a chat's or a completion's shape, errors beside or inside a choice.
"""

from __future__ import annotations

import binascii
import math
from array import array
from base64 import b64decode
from typing import Any

import msgspec

from shared.backends.ollama_answers import FLOAT32_MAX, not_understood
from shared.backends.ollama_errors import incomplete
from shared.wire.canonical import (
    Delta,
    EmbeddingAnswer,
    EmbeddingRequest,
    Finish,
    FinishReason,
    Timings,
    Usage,
    pack_vector,
)
from shared.wire.openai_upstream_calls import CallAssembly, CallPiece
from shared.wire.openai_upstream_errors import classify_event

DONE = b"[DONE]"
_IGNORED_FIELDS = (b"event", b"id", b"retry")
_FINISH_REASONS: dict[str, FinishReason] = {
    "content_filter": "content_filter",
    "function_call": "tool_calls",
    "length": "length",
    "max_tokens": "length",
    "tool_calls": "tool_calls",
}
"""Every other word is a kind of `stop`."""


class _Said(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[CallPiece] | None = None


class _Alternative(msgspec.Struct):
    token: str
    logprob: float
    bytes: list[int] | None = None


class _Token(_Alternative):
    top_logprobs: list[_Alternative] | None = None


class _Logprobs(msgspec.Struct):
    """A chat's (`content`), or a completion's (columns)."""

    content: list[_Token] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    delta: _Said | None = None
    message: _Said | None = None
    text: str | None = None
    logprobs: _Logprobs | None = None
    finish_reason: str | None = None
    error: Any = None


class _Counts(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Milliseconds(msgspec.Struct):
    """llama.cpp's own measurements."""

    prompt_ms: float = 0.0
    predicted_ms: float = 0.0


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: _Counts | None = None
    timings: _Milliseconds | None = None
    error: Any = None


class _Vector(msgspec.Struct):
    embedding: str | list[float]
    index: int | None = None


class _Vectors(msgspec.Struct):
    data: list[_Vector]
    usage: _Counts | None = None


_CHUNK = msgspec.json.Decoder(_Chunk)
_VECTORS = msgspec.json.Decoder(_Vectors)


def event_data(line: bytes) -> bytes | None:
    """What a line of a stream carries: `DONE`, JSON, or None. Raises BackendProtocolError for what is no such line."""
    name, colon, value = line.rstrip(b"\r").partition(b":")
    if not name:  # an empty line, or a comment
        return None
    if colon and name == b"data":
        return value.strip() or None
    if colon and name == b"error":  # older llama.cpp
        return b'{"error":' + value + b"}"
    if name in _IGNORED_FIELDS:
        return None
    raise not_understood("it is not a stream of events")


class AnswerReader:
    """Reads one answer. `is_whole` once the server said why it ended; what follows then is only the usage."""

    __slots__ = ("_calls", "_endpoint", "_model", "_reason", "_secret", "_seen", "_timings", "_usage")

    def __init__(self, model: str, endpoint: str, secret: str = "") -> None:
        """`secret`: the service's key, to be hidden in errors."""
        self._model = model
        self._endpoint = endpoint
        self._secret = secret
        self._calls = CallAssembly()
        self._reason: str | None = None
        self._seen = False
        self._usage = Usage()
        self._timings = Timings()

    @property
    def is_whole(self) -> bool:
        return self._reason is not None

    def read(self, data: bytes) -> Delta | None:
        """What a chunk, or a whole body, adds to the text. Raises the classified error it carries, or
        BackendProtocolError."""
        try:
            found = _CHUNK.decode(data)
        except (ValueError, RecursionError) as exc:
            raise not_understood("a part of it is not the JSON expected here", exc) from None
        self._refuse(found.error)
        if found.usage is not None:
            self._usage = Usage(
                prompt_tokens=found.usage.prompt_tokens or 0, completion_tokens=found.usage.completion_tokens or 0
            )
        if found.timings is not None:
            prompt_s, eval_s = found.timings.prompt_ms / 1000, found.timings.predicted_ms / 1000
            self._timings = Timings(total_s=prompt_s + eval_s, prompt_s=prompt_s, eval_s=eval_s)
        return next((self._add(choice) for choice in found.choices or () if choice.index == 0), None)

    def _refuse(self, error: Any) -> None:
        if error:
            raise classify_event(error, endpoint=self._endpoint, model=self._model, secret=self._secret)

    def _add(self, choice: _Choice) -> Delta | None:
        self._refuse(choice.error)
        if choice.finish_reason == "error":
            self._refuse({"message": ""})
        said = choice.delta or choice.message or _Said()
        for piece in said.tool_calls or ():
            self._calls.add(piece)
        delta = Delta(
            choice.text or said.content or said.refusal or "",
            said.reasoning_content or said.reasoning or "",
            logprobs=_logprobs(choice.logprobs) if choice.logprobs is not None else [],
        )
        self._reason = choice.finish_reason or self._reason
        if not (delta.content or delta.thinking or delta.logprobs):
            self._seen = self._seen or bool(said.tool_calls)
            return None
        self._seen = True
        return delta

    def end(self, *, was_announced: bool) -> tuple[Delta | None, Finish]:
        """The tool calls, if any, and the end. `was_announced`: the server sent the end mark, which some send without a
        reason before it. Raises AnswerIncomplete."""
        if self._reason is None and not (was_announced and self._seen):
            raise incomplete(self._seen)
        reason = _FINISH_REASONS.get(self._reason or "", "stop")
        calls = self._calls.whole(cut_short=reason == "length")
        if reason in ("stop", "tool_calls"):
            reason = "tool_calls" if calls else "stop"
        finish = Finish(reason=reason, usage=self._usage, timings=self._timings)
        return Delta(tool_calls=calls) if calls else None, finish


def _logprobs(found: _Logprobs) -> list[dict[str, Any]]:
    if found.content is not None:
        return [
            {**_token(token), "top_logprobs": [_token(other) for other in token.top_logprobs or ()]}
            for token in found.content
        ]
    tokens = found.tokens or []
    chances = found.token_logprobs or [None] * len(tokens)
    others = found.top_logprobs or [None] * len(tokens)
    return [
        {
            "token": token,
            # None stands before the first token of an echoed prompt: there it is certain.
            "logprob": 0.0 if chance is None else chance,
            "bytes": None,
            "top_logprobs": [
                {"token": name, "logprob": value, "bytes": None} for name, value in (alternatives or {}).items()
            ],
        }
        for token, chance, alternatives in zip(tokens, chances, others, strict=False)
    ]


def _token(token: _Alternative) -> dict[str, Any]:
    return {"token": token.token, "logprob": token.logprob, "bytes": token.bytes}


def read_embedding(body: bytes, request: EmbeddingRequest) -> EmbeddingAnswer:
    """The answer to /embeddings, in the order of the inputs whatever order it came in. Raises BackendProtocolError
    unless there is one finite vector of one dimension for each input."""
    try:
        found = _VECTORS.decode(body)
    except (ValueError, RecursionError) as exc:
        raise not_understood("it is not JSON with vectors", exc) from None
    vectors = {at if each.index is None else each.index: _packed(each.embedding) for at, each in enumerate(found.data)}
    if len(found.data) != len(vectors) or sorted(vectors) != list(range(len(request.inputs))):
        raise not_understood(f"{len(found.data)} vectors came for {len(request.inputs)} inputs")
    if len({len(vector) for vector in vectors.values()}) > 1:
        raise not_understood("the vectors differ in dimension")
    return EmbeddingAnswer(
        model=request.model,
        vectors=[vectors[at] for at in range(len(request.inputs))],
        usage=Usage(prompt_tokens=(found.usage.prompt_tokens or 0) if found.usage is not None else 0),
    )


def _packed(embedding: str | list[float]) -> bytes:
    if isinstance(embedding, list):
        if embedding and min(embedding) > -FLOAT32_MAX and max(embedding) < FLOAT32_MAX:
            return pack_vector(embedding)
    else:
        try:
            packed = b64decode(embedding, validate=True)
            values = array("f", packed)
        except (binascii.Error, ValueError) as exc:
            raise not_understood("a vector is not base64 of 32-bit numbers", exc) from None
        if values and all(map(math.isfinite, values)):
            return packed
    raise not_understood("a vector is empty or holds a number that is not finite")
