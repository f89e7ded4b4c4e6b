"""Canonical answers and job records as OpenAI bodies."""

from __future__ import annotations

from base64 import b64encode
from typing import Literal

from shared.errors import ErrorRecord
from shared.jobs import Attempt, JobRecord, Kind
from shared.routes import Route
from shared.wire.canonical import EmbeddingAnswer, TextAnswer, unpack_vector
from shared.wire.codec import decode_answer
from shared.wire.openai_shapes import (
    SYSTEM_FINGERPRINT,
    Body,
    Rendering,
    chat_logprobs,
    completion_logprobs,
    error_body,
    finish_reason,
    plain_finish_reason,
    shown_model,
    to_json,
    tool_call_body,
    usage_body,
)
from shared.wire.openai_stream import StreamRenderer

__all__ = [
    "EncodingFormat",
    "Rendering",
    "StreamRenderer",
    "answer_body",
    "chat_body",
    "completion_body",
    "embedding_body",
    "error_body",
    "job_body",
    "route_body",
    "to_json",
]

EncodingFormat = Literal["float", "base64"]

JOB_TYPES: dict[Kind, str] = {
    Kind.CHAT: "chat.completion",
    Kind.COMPLETION: "completion",
    Kind.EMBEDDING: "embedding",
}


def chat_body(r: Rendering, answer: TextAnswer) -> Body:
    message: Body = {"role": "assistant", "content": answer.content or (None if answer.tool_calls else "")}
    if answer.thinking:
        message["reasoning"] = answer.thinking
    if answer.tool_calls:
        message["tool_calls"] = [tool_call_body(call) for call in answer.tool_calls]
    choice = {
        "index": 0,
        "message": message,
        "logprobs": chat_logprobs(answer.logprobs),
        "finish_reason": finish_reason(answer),
    }
    return {
        "id": r.id,
        "object": "chat.completion",
        "created": r.created,
        "model": shown_model(r, answer),
        "system_fingerprint": SYSTEM_FINGERPRINT,
        "choices": [choice],
        "usage": usage_body(answer.usage),
    }


def completion_body(r: Rendering, answer: TextAnswer) -> Body:
    choice = {
        "text": answer.content,
        "index": 0,
        "logprobs": completion_logprobs(answer.logprobs),
        "finish_reason": plain_finish_reason(answer),
    }
    return {
        "id": r.id,
        "object": "text_completion",
        "created": r.created,
        "model": shown_model(r, answer),
        "system_fingerprint": SYSTEM_FINGERPRINT,
        "choices": [choice],
        "usage": usage_body(answer.usage),
    }


def embedding_body(r: Rendering, answer: EmbeddingAnswer, encoding_format: EncodingFormat = "float") -> Body:
    """A list of vectors: numbers, or base64 of little-endian float32 (what the vectors are packed as already)."""
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": b64encode(packed).decode("ascii") if encoding_format == "base64" else unpack_vector(packed),
        }
        for index, packed in enumerate(answer.vectors)
    ]
    tokens = answer.usage.prompt_tokens
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": r.model, "usage": usage}


def answer_body(kind: Kind, r: Rendering, answer: TextAnswer | EmbeddingAnswer) -> Body:
    """The body of an answer of either type; embeddings as numbers."""
    if isinstance(answer, EmbeddingAnswer):
        return embedding_body(r, answer)
    return completion_body(r, answer) if kind is Kind.COMPLETION else chat_body(r, answer)


def job_body(
    record: JobRecord,
    position: int | None = None,
    expected_wait_seconds: float | None = None,
    reason: str | None = None,
    *,
    with_result: bool = True,
) -> Body:
    """A job as its owner sees it. Times are Unix seconds; `position` counts from 1, null unless the job is queued.
    `reason` says what it waits for, null unless it does.

    `with_result=False` leaves `result` null, for lists.
    """
    result: Body | None = None
    if with_result and record.result is not None:
        rendering = Rendering.for_job(record.kind, record.id, record.created_at, record.shown_model)
        result = answer_body(record.kind, rendering, decode_answer(record.kind, record.result))
    return {
        "id": record.id,
        "object": "job",
        "type": JOB_TYPES[record.kind],
        "status": record.state,
        "priority": record.priority,
        "model": record.shown_model,
        "route": None if record.route is None else route_body(record.route),
        "created_at": round(record.created_at, 3),
        "scheduled_for": record.scheduled_for and round(record.scheduled_for, 3),
        "started_at": record.started_at and round(record.started_at, 3),
        "finished_at": record.ended_at and round(record.ended_at, 3),
        "deadline_at": round(record.deadline_at, 3),
        "queue": {"position": position, "expected_wait_seconds": expected_wait_seconds, "reason": reason},
        "attempts": [_attempt_body(attempt) for attempt in record.attempts],
        "cancel_requested": record.cancel_requested,
        "result": result,
        "error": None if record.error is None else _job_error_body(record.error),
        "metadata": record.metadata,
        "request_id": record.request_id or None,
    }


def route_body(route: Route) -> Body:
    """Where a job may run, and why."""
    return {
        "candidates": route.candidates,
        "reason": route.reason,
        "local_only": route.local_only,
    }


def _attempt_body(attempt: Attempt) -> Body:
    return {
        "number": attempt.number,
        "worker": attempt.worker,
        "backend": attempt.backend or None,
        "model": attempt.model or None,
        "started_at": round(attempt.started_at, 3),
        "first_token_at": attempt.first_token_at and round(attempt.first_token_at, 3),
        "ended_at": attempt.ended_at and round(attempt.ended_at, 3),
        "outcome": attempt.outcome or "running",
        "error": None if attempt.error is None else _job_error_body(attempt.error),
    }


def _job_error_body(error: ErrorRecord) -> Body:
    return {
        "code": error.code,
        "message": error.message,
        "type": error.kind,
        "param": error.param,
        "http_status": error.http_status,
        "retryable": error.retryable,
        "retry_after_seconds": error.retry_after_s,
    }
