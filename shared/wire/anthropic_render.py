"""Canonical answers and errors as the Messages API's bodies."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from shared.errors import ErrorRecord
from shared.jobs import JOB_ID_PREFIX
from shared.wire.canonical import TextAnswer, ToolCall, Usage
from shared.wire.openai_shapes import Body, finish_reason

STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
"""A stop sequence is told as `end_turn`: a model server does not say which one it met, nor always that it met one."""

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendering:
    """What an answer repeats. `model` is the name asked for, `request_id` the one that its errors name."""

    id: str
    model: str
    request_id: str = ""

    @classmethod
    def for_job(cls, job_id: str, model: str, request_id: str = "") -> Rendering:
        """One answer a job, so the job's random id serves as the message's."""
        return cls(id="msg_" + job_id.removeprefix(JOB_ID_PREFIX), model=model, request_id=request_id)


def message_body(r: Rendering, answer: TextAnswer) -> Body:
    """The whole answer: thinking, text, calls, each where there is any."""
    content: list[Body] = []
    if answer.thinking or answer.signature:
        content.append(thinking_block(answer.thinking, answer.signature))
    if answer.content:
        content.append({"type": "text", "text": answer.content})
    content += [{**use_block(call), "input": input_of(call)} for call in answer.tool_calls]
    return {
        # The name asked for, in the caller's spelling, unless another model stood in.
        **message_head(r, answer.model if answer.fallback_from else r.model),
        "content": content,
        "stop_reason": stop_reason(answer),
        "usage": usage_body(answer.usage),
    }


def message_head(r: Rendering, model: str) -> Body:
    """A message before anything is said."""
    return {
        "id": r.id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage_body(Usage()),
    }


def thinking_block(text: str, signature: str = "") -> Body:
    # Clients send the signature back with the block; only the service that gave it can check it.
    return {"type": "thinking", "thinking": text, "signature": signature}


def use_block(call: ToolCall) -> Body:
    """A call without its input."""
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}


def input_of(call: ToolCall) -> msgspec.Raw:
    """A call's arguments as JSON, not as text. A line break in JSON is only white space, and would here end a line."""
    return msgspec.Raw((call.arguments.strip() or "{}").translate(_ONE_LINE).encode())


def stop_reason(answer: TextAnswer) -> str:
    return STOP_REASONS[finish_reason(answer)]


def usage_body(usage: Usage) -> Body:
    return {"input_tokens": usage.prompt_tokens, "output_tokens": usage.completion_tokens}


def error_body(error: ErrorRecord, request_id: str = "") -> Body:
    """The API's error envelope. `code` is ours, for those who look closer."""
    inner: Body = {"type": error_type(error.http_status), "message": error.message, "code": error.code}
    return {"type": "error", "error": inner, "request_id": request_id or None}


def error_type(status: int) -> str:
    """The API's word for errors of this status."""
    return ERROR_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")


_ONE_LINE = str.maketrans("\r\n", "  ")
