"""Canonical answers as Ollama's bodies."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from shared.errors import ErrorRecord
from shared.jobs import Kind
from shared.wire.canonical import EmbeddingAnswer, TextAnswer, ToolCall, unpack_vector
from shared.wire.openai_shapes import Body, token_logprobs

NS_PER_S = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendering:
    """What an answer's every piece repeats. `model` is the name asked for, `began` when the request came, Unix seconds.

    `only_loads`: nothing was asked, but that the model be in memory.
    """

    kind: Kind
    model: str
    began: float
    only_loads: bool = False
    now: Callable[[], float] = time.time

    def stamp(self) -> str:
        """The time, as Ollama writes it."""
        return datetime.fromtimestamp(self.now(), UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")

    def shown_model(self, answer: TextAnswer) -> str:
        """The name asked for, in the caller's spelling, unless another model stood in."""
        return answer.model if answer.fallback_from else self.model


def text_body(r: Rendering, answer: TextAnswer) -> Body:
    """The answer to a chat or a generate in one piece."""
    body = {**head(r, answer), **said(r.kind, answer.content, answer.thinking, answer.tool_calls), **ending(r, answer)}
    if answer.logprobs:
        body["logprobs"] = token_logprobs(answer.logprobs)
    return body


def head(r: Rendering, answer: TextAnswer) -> Body:
    return {"model": r.shown_model(answer), "created_at": r.stamp()}


def said(
    kind: Kind, content: str, thinking: str = "", calls: list[ToolCall] | None = None, first_call: int = 0
) -> Body:
    """Text and calls, where each kind of answer has them. `first_call` is the first call's number in the answer."""
    extras: Body = {"thinking": thinking} if thinking else {}
    if kind is Kind.COMPLETION:
        return {"response": content, **extras}
    if calls:
        extras["tool_calls"] = [_call(call, index) for index, call in enumerate(calls, first_call)]
    return {"message": {"role": "assistant", "content": content, **extras}}


def ending(r: Rendering, answer: TextAnswer) -> Body:
    """`done` with its reason and figures; what is 0 is left out, as Ollama does.

    The whole duration is counted here, from the request on, so that it holds the wait in the queue. The others are the
    backend's.
    """
    if r.only_loads:
        return {"done": True, "done_reason": "load"}
    timings, usage = answer.timings, answer.usage
    figures = {
        "total_duration": _ns(max(timings.total_s, r.now() - r.began)),
        "load_duration": _ns(timings.load_s),
        "prompt_eval_count": usage.prompt_tokens,
        "prompt_eval_duration": _ns(timings.prompt_s),
        "eval_count": usage.completion_tokens,
        "eval_duration": _ns(timings.eval_s),
    }
    # Ollama has no other word for the end before a tool is called, or by a filter.
    reason = "length" if answer.finish_reason == "length" else "stop"
    return {"done": True, "done_reason": reason, **{name: figure for name, figure in figures.items() if figure}}


def embed_body(r: Rendering, answer: EmbeddingAnswer) -> Body:
    """The answer to /api/embed."""
    figures = {
        "total_duration": _ns(max(answer.timings.total_s, r.now() - r.began)),
        "load_duration": _ns(answer.timings.load_s),
        "prompt_eval_count": answer.usage.prompt_tokens,
    }
    vectors = [unpack_vector(packed) for packed in answer.vectors]
    known = {name: figure for name, figure in figures.items() if figure} if vectors else {}
    return {"model": r.model, "embeddings": vectors, **known}


def one_embedding_body(answer: EmbeddingAnswer) -> Body:
    """The answer to /api/embeddings."""
    return {"embedding": unpack_vector(answer.vectors[0]) if answer.vectors else []}


def error_body(error: ErrorRecord) -> Body:
    """All that Ollama's clients look at; status and headers say the rest."""
    return {"error": error.message}


def _call(call: ToolCall, index: int) -> Body:
    # As JSON, not as text. A line break in JSON is only ever white space, and would here end the line.
    arguments = msgspec.Raw((call.arguments.strip() or "{}").translate(_ONE_LINE).encode())
    return {"id": call.id, "function": {"index": index, "name": call.name, "arguments": arguments}}


_ONE_LINE = str.maketrans("\r\n", "  ")


def _ns(seconds: float) -> int:
    return max(0, round(seconds * NS_PER_S))
