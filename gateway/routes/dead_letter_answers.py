"""What the dead letters' routes answer, as models that only describe; `gateway/openapi.py` turns them into schemas."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from gateway.openapi_answers import Answer, Count, JobAttempt, JobError, UnixSeconds


class DeadLetter(Answer):
    id: str
    object: Literal["dead_letter"]
    type: Literal["chat.completion", "completion", "embedding"]
    status: Literal["dead_lettered"]
    priority: Literal["high", "normal", "low"]
    model: str
    tenant: str
    reason: str
    created_at: UnixSeconds
    started_at: UnixSeconds | None
    finished_at: UnixSeconds | None
    deadline_at: UnixSeconds | None
    attempts: list[JobAttempt]
    error: JobError | None
    failures: Count
    crashes: Count
    metadata: Annotated[dict[str, str], Field(description="Texts are given as their lengths unless asked for.")]
    replay_of: str | None
    replayed_as: str | None


class DeadLetterList(Answer):
    object: Literal["list"]
    data: list[DeadLetter]
    has_more: bool
    next_cursor: str


class DeadLetterDetail(DeadLetter):
    request: Annotated[
        dict[str, Any] | None,
        Field(description="In Arriero's own form, texts as their lengths unless asked for; null when it is gone."),
    ]


class DeadLetterReplayed(Answer):
    object: Literal["dead_letter.replay"]
    id: Annotated[str, Field(description="The job that runs it again.")]
    replay_of: str
    before: Annotated[bool, Field(description="It was replayed before, as this job; nothing was done now.")]


class DeadLettersReplayed(Answer):
    object: Literal["dead_letter.replays"]
    data: list[DeadLetterReplayed]
    without_payload: Annotated[Count, Field(description="Left out, because their requests are gone or unreadable.")]
    refused: Annotated[
        dict[str, Any] | None, Field(description="Why the rest was not replayed: the queue took no more.")
    ]


class DeadLettersPurged(Answer):
    object: Literal["dead_letters.purged"]
    purged: Count


DEAD_LETTER_ANSWERS: tuple[type[Answer], ...] = (
    DeadLetter,
    DeadLetterList,
    DeadLetterDetail,
    DeadLetterReplayed,
    DeadLettersReplayed,
    DeadLettersPurged,
)
