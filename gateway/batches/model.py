"""A batch and how far it is. Pure.

The requests of a batch are ordinary jobs. Their ids follow from the batch's, so a batch stores none of them, and no
answers either: its output file is written from the jobs whenever somebody reads it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from gateway import request_options
from shared.errors import ErrorRecord, NotFound
from shared.jobs import State

WINDOW_S = 86_400
"""The one completion window there is, as at OpenAI: 24 h. It is the jobs' deadline."""
Endpoint = Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings"]
JOB_TYPES: dict[str, str] = {
    "/v1/chat/completions": "chat.completion",
    "/v1/completions": "completion",
    "/v1/embeddings": "embedding",
}

UNFINISHED, SUCCEEDED, CANCELLED, EXPIRED, FAILED, REFUSED, LOST = ".scefrl"
"""What became of a request, a letter each: `REFUSED` by the queue, `LOST` with its job's record."""
OUTCOMES = {
    State.SUCCEEDED: SUCCEEDED,
    State.CANCELLED: CANCELLED,
    State.EXPIRED: EXPIRED,
    State.DEAD_LETTERED: FAILED,
}
_HEX = re.compile(r"[0-9a-f]{32}")
_OUTPUTS = re.compile(r"file-(output|errors)-([0-9a-f]{32})")


class FileNotFound(NotFound):
    """There is no such file: it was never there, was deleted, or its time is over."""

    code = "file_not_found"


class BatchNotFound(NotFound):
    """There is no such batch: it was never there, or its time is over."""

    code = "batch_not_found"


class Batch(msgspec.Struct, kw_only=True):
    """What is known of a batch from its beginning. Times are Unix seconds by Redis' clock."""

    id: str
    tenant: str
    endpoint: Endpoint
    input_file_id: str
    metadata: dict[str, str]
    created_at: int
    kept_until: int
    fingerprint: str
    """Hash of what was asked, to tell a repetition from a reused Idempotency-Key."""
    custom_ids: list[str]
    """One a request, in the order of the input file."""
    refused: dict[int, ErrorRecord]
    """Those the queue had no room for, by their place."""

    @property
    def hex(self) -> str:
        return self.id.removeprefix("batch_")

    def job_id(self, place: int) -> str:
        return request_options.idempotent_job_id(self.tenant, key_of(self.id, place))


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a batch is: a letter a request. Times are Unix seconds; 0: not so far."""

    outcomes: str
    cancelling_at: int = 0
    ended_at: int = 0

    @property
    def is_over(self) -> bool:
        return UNFINISHED not in self.outcomes

    @property
    def unfinished(self) -> list[int]:
        """Places of the requests that have not ended."""
        return [place for place, outcome in enumerate(self.outcomes) if outcome == UNFINISHED]

    @property
    def status(self) -> str:
        if not self.is_over:
            return "cancelling" if self.cancelling_at else "in_progress"
        if self.cancelling_at:
            return "cancelled"
        return "expired" if EXPIRED in self.outcomes else "completed"


def key_of(batch_id: str, place: int) -> str:
    """What the job of a request is named by. With a blank in it, it is no caller's Idempotency-Key."""
    return f"{batch_id} {place}"


def is_batch_id(text: str) -> bool:
    return text.startswith("batch_") and _HEX.fullmatch(text.removeprefix("batch_")) is not None


def is_file_id(text: str) -> bool:
    return text.startswith("file-") and _HEX.fullmatch(text.removeprefix("file-")) is not None


def output_of(file_id: str) -> tuple[str, bool] | None:
    """The batch whose output a file is, and whether it is that of the errors; None for any other file."""
    found = _OUTPUTS.fullmatch(file_id)
    return None if found is None else (f"batch_{found[2]}", found[1] == "errors")


def batch_body(batch: Batch, progress: Progress) -> dict[str, Any]:
    """The batch as OpenAI writes it."""
    outcomes, status = progress.outcomes, progress.status
    succeeded = outcomes.count(SUCCEEDED)
    failed = len(outcomes) - succeeded - outcomes.count(UNFINISHED)
    ended_at = progress.ended_at or None
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "errors": None,
        "input_file_id": batch.input_file_id,
        "completion_window": "24h",
        "status": status,
        "output_file_id": f"file-output-{batch.hex}" if progress.is_over and succeeded else None,
        "error_file_id": f"file-errors-{batch.hex}" if progress.is_over and failed else None,
        "created_at": batch.created_at,
        "in_progress_at": batch.created_at,
        "expires_at": batch.created_at + WINDOW_S,
        "finalizing_at": ended_at,
        "completed_at": ended_at if status == "completed" else None,
        "failed_at": None,
        "expired_at": ended_at if status == "expired" else None,
        "cancelling_at": progress.cancelling_at or None,
        "cancelled_at": ended_at if status == "cancelled" else None,
        "request_counts": {"total": len(outcomes), "completed": succeeded, "failed": failed},
        "metadata": batch.metadata,
    }
