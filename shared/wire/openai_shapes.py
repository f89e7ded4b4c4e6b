"""Shapes that a whole body and a stream's frames share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from shared.errors import ErrorRecord
from shared.jobs import JOB_ID_PREFIX, Kind
from shared.services.names import TILDE
from shared.wire.canonical import TextAnswer, ToolCall, Usage

Body = dict[str, Any]

SYSTEM_FINGERPRINT = "fp_arriero"
_ID_PREFIXES = {Kind.CHAT: "chatcmpl-", Kind.COMPLETION: "cmpl-", Kind.EMBEDDING: "embd-"}

to_json = msgspec.json.Encoder().encode
"""JSON bytes of a body; text stays UTF-8, not escapes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendering:
    """What an answer's every piece repeats. `model` is the name asked for, `created` Unix seconds."""

    id: str
    created: int
    model: str

    @classmethod
    def for_job(cls, kind: Kind, job_id: str, created: float, model: str) -> Rendering:
        """One answer a job, so the job's random id serves as the answer's: unique, and found again from it."""
        return cls(id=_ID_PREFIXES[kind] + job_id.removeprefix(JOB_ID_PREFIX), created=int(created), model=model)


def tool_call_body(call: ToolCall) -> Body:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def shown_model(r: Rendering, answer: TextAnswer) -> str:
    """The name asked for, in the caller's spelling, unless another model stood in. It is named in the same form."""
    if not answer.fallback_from:
        return r.model
    return f"{answer.service}{TILDE}{answer.model}" if TILDE in r.model and answer.service else answer.model


def finish_reason(answer: TextAnswer) -> str:
    # Ollama says `stop` after tool calls; OpenAI clients wait for `tool_calls` before they run any.
    return "tool_calls" if answer.tool_calls and answer.finish_reason == "stop" else answer.finish_reason


def usage_body(usage: Usage) -> Body:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def _token(entry: Body) -> Body:
    text = str(entry.get("token", ""))
    raw = entry.get("bytes")
    return {
        "token": text,
        "logprob": entry.get("logprob", 0.0),
        "bytes": list(text.encode()) if raw is None else raw,
    }


def plain_finish_reason(answer: TextAnswer) -> str:
    """A completion's: it knows no tools."""
    return "stop" if answer.finish_reason == "tool_calls" else answer.finish_reason


def token_logprobs(entries: list[Body]) -> list[Body]:
    """Each token with its alternatives, in the shape that OpenAI and Ollama share."""
    return [
        {**_token(entry), "top_logprobs": [_token(other) for other in entry.get("top_logprobs") or ()]}
        for entry in entries
    ]


def chat_logprobs(entries: list[Body]) -> Body | None:
    """`{"content": [...]}`, or None."""
    return {"content": token_logprobs(entries), "refusal": None} if entries else None


def completion_logprobs(entries: list[Body], *, offset: int = 0) -> Body | None:
    """The older, column-wise shape. `offset` is the first token's place in the text, in characters."""
    if not entries:
        return None
    tokens = [str(entry.get("token", "")) for entry in entries]
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token)
    return {
        "tokens": tokens,
        "token_logprobs": [entry.get("logprob", 0.0) for entry in entries],
        "top_logprobs": [
            {str(other.get("token", "")): other.get("logprob", 0.0) for other in entry.get("top_logprobs") or ()}
            for entry in entries
        ],
        "text_offset": offsets,
    }


def error_body(error: ErrorRecord, request_id: str = "") -> Body:
    """OpenAI's error envelope. The request id is in it as well, since clients print the body and drop the headers."""
    inner: Body = {"message": error.message, "type": error.kind, "param": error.param, "code": error.code}
    if request_id:
        inner["request_id"] = request_id
    return {"error": inner}
