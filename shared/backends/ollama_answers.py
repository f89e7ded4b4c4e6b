"""Ollama's answers in canonical form. Pure.

Answers are read a line at a time by `ChatReader` and `GenerateReader`, whose decoders are made once. Lines may come
from a server of the built-in runner (to 0.24) or of llama-server (from 0.30): tool calls may stand in a line of their
own or in the final one, ids and metrics may be absent.
"""

from __future__ import annotations

import secrets
from typing import Any

import msgspec

from shared.backends import ollama_errors
from shared.errors import BackendProtocolError
from shared.wire.canonical import (
    Delta,
    EmbeddingAnswer,
    EmbeddingRequest,
    Finish,
    FinishReason,
    Timings,
    ToolCall,
    Usage,
    pack_vector,
)

NS_PER_S = 1e9
FLOAT32_MAX = 3.4028235677973362e38
"""From here on a number rounds to infinity as float32."""


class _Function(msgspec.Struct):
    name: str
    arguments: msgspec.Raw = msgspec.Raw(b"{}")


class _Call(msgspec.Struct):
    function: _Function
    id: str | None = None


class _Message(msgspec.Struct):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_Call] | None = None


class _Alternative(msgspec.Struct):
    token: str
    logprob: float
    bytes: list[int] | None = None


class _TokenLogprob(_Alternative):
    top_logprobs: list[_Alternative] | None = None


class _Metrics(msgspec.Struct):
    """Nanoseconds and counts; the server leaves out what is 0."""

    total_duration: float = 0.0
    load_duration: float = 0.0
    prompt_eval_duration: float = 0.0
    eval_duration: float = 0.0
    prompt_eval_count: int = 0
    eval_count: int = 0


class _Line(_Metrics):
    done: bool = False
    done_reason: str | None = None
    error: str | dict[str, Any] | None = None
    logprobs: list[_TokenLogprob] | None = None


class _ChatLine(_Line):
    message: _Message | None = None


class _GenerateLine(_Line):
    response: str | None = None
    thinking: str | None = None
    tool_calls: list[_Call] | None = None


class _Embedded(_Metrics):
    embeddings: list[list[float]] | None = None


_CHAT_LINE = msgspec.json.Decoder(_ChatLine)
_GENERATE_LINE = msgspec.json.Decoder(_GenerateLine)
_EMBEDDED = msgspec.json.Decoder(_Embedded)
_OBJECT = msgspec.json.Decoder(dict[str, Any])


def not_understood(what: str, exc: BaseException | None = None) -> BackendProtocolError:
    """The error for bytes that are not what the API promises. The bytes stay out of it, since they may be a user's
    text."""
    error = BackendProtocolError(f"The model server's answer was not understood: {what}.")
    if exc is not None:
        error.add_note(str(exc))
    return error


class ChatReader:
    """Reads the lines of one /api/chat answer. `finish` is set once a line with `done` was read; lines after that are
    not for it."""

    __slots__ = ("_called", "finish", "model")

    endpoint = "/api/chat"
    line_factor = 1

    def __init__(self, model: str) -> None:
        self.model = model
        self.finish: Finish | None = None
        self._called = False

    def read(self, line: bytes) -> Delta | None:
        """What the line adds, if anything. Raises the classified error of an `error` line, BackendProtocolError for
        anything else."""
        try:
            found = _CHAT_LINE.decode(line)
        except (ValueError, RecursionError) as exc:
            raise not_understood("a line is not the JSON expected here", exc) from None
        message = found.message
        if message is None:
            return self._add(found, None, None, None, found.done)
        return self._add(found, message.content, message.thinking, message.tool_calls, True)

    def _add(
        self, found: _Line, content: str | None, thinking: str | None, calls: list[_Call] | None, is_whole: bool
    ) -> Delta | None:
        if found.error is not None:
            text = found.error if isinstance(found.error, str) else str(found.error.get("message", ""))
            raise ollama_errors.classify_line(text, endpoint=self.endpoint, model=self.model)
        if not is_whole:
            raise not_understood("a line has neither text, nor an error, nor an end")
        delta = None
        if content or thinking or calls or found.logprobs:
            delta = Delta(content or "", thinking or "")
            if calls:
                self._called = True
                delta.tool_calls = [_tool_call(call) for call in calls]
            if found.logprobs:
                delta.logprobs = [_logprob(token) for token in found.logprobs]
        if found.done:
            self.finish = Finish(
                reason=_finish_reason(found.done_reason, self._called), usage=_usage(found), timings=_timings(found)
            )
        return delta


class GenerateReader(ChatReader):
    """Reads the lines of one /api/generate answer."""

    __slots__ = ()

    endpoint = "/api/generate"
    line_factor = 8
    """The last line repeats the whole context as numbers."""

    def read(self, line: bytes) -> Delta | None:
        try:
            found = _GENERATE_LINE.decode(line)
        except (ValueError, RecursionError) as exc:
            raise not_understood("a line is not the JSON expected here", exc) from None
        is_whole = found.done or found.response is not None or found.thinking is not None
        return self._add(found, found.response, found.thinking, found.tool_calls, is_whole)


def read_embedding(body: bytes, request: EmbeddingRequest) -> EmbeddingAnswer:
    """The answer to /api/embed. Raises BackendProtocolError unless there is one finite vector of one dimension for
    each input."""
    try:
        found = _EMBEDDED.decode(body)
    except (ValueError, RecursionError) as exc:
        raise not_understood("it is not JSON with vectors of numbers", exc) from None
    vectors = found.embeddings or []
    if len(vectors) != len(request.inputs):
        raise not_understood(f"{len(vectors)} vectors came for {len(request.inputs)} inputs")
    if len({len(vector) for vector in vectors}) > 1:
        raise not_understood("the vectors differ in dimension")
    if not all(vector and min(vector) > -FLOAT32_MAX and max(vector) < FLOAT32_MAX for vector in vectors):
        raise not_understood("a vector is empty or holds a number that is not finite")
    return EmbeddingAnswer(
        model=request.model,
        vectors=[pack_vector(vector) for vector in vectors],
        usage=_usage(found),
        timings=_timings(found),
    )


def _tool_call(call: _Call) -> ToolCall:
    arguments = bytes(call.function.arguments)
    try:
        text = arguments.decode()
        _OBJECT.decode(text)
    except (ValueError, RecursionError):
        raise not_understood("the arguments of a tool call are not an object") from None
    return ToolCall(id=call.id or f"call_{secrets.token_hex(12)}", name=call.function.name, arguments=text)


def _logprob(token: _TokenLogprob) -> dict[str, Any]:
    return {
        "token": token.token,
        "logprob": token.logprob,
        "bytes": token.bytes,
        "top_logprobs": [
            {"token": other.token, "logprob": other.logprob, "bytes": other.bytes} for other in token.top_logprobs or ()
        ],
    }


def _finish_reason(done_reason: str | None, called: bool) -> FinishReason:
    if called:
        return "tool_calls"
    return "length" if done_reason == "length" else "stop"


def _usage(found: _Metrics) -> Usage:
    return Usage(prompt_tokens=found.prompt_eval_count, completion_tokens=found.eval_count)


def _timings(found: _Metrics) -> Timings:
    return Timings(
        total_s=found.total_duration / NS_PER_S,
        load_s=found.load_duration / NS_PER_S,
        prompt_s=found.prompt_eval_duration / NS_PER_S,
        eval_s=found.eval_duration / NS_PER_S,
    )
