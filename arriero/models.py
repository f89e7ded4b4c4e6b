"""The client's values: jobs and their events. Built leniently, so that a newer gateway's extra fields do no harm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

TERMINAL = frozenset({"succeeded", "dead_lettered", "cancelled", "expired"})
JsonObject = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job, or one attempt of it, failed."""

    code: str
    message: str
    type: str = ""

    @classmethod
    def parse(cls, body: object) -> JobError | None:
        if not isinstance(body, Mapping):
            return None
        return cls(str(body.get("code") or ""), str(body.get("message") or ""), str(body.get("type") or ""))


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the gateway tells it. Times are Unix seconds; `raw` is the whole body."""

    id: str
    status: str
    type: str = ""
    priority: str = "normal"
    model: str = ""
    created_at: float = 0.0
    position: int | None = None
    """Jobs ahead of it, plus one; None once it runs."""
    expected_wait_s: float | None = None
    waits_for: str = ""
    """`waiting_for_slot`, `loading_model`...; empty when it does not wait."""
    attempts: Sequence[JsonObject] = ()
    result: JsonObject | None = None
    """The OpenAI answer, once succeeded."""
    error: JobError | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    raw: JsonObject = field(default_factory=dict, repr=False)

    @classmethod
    def parse(cls, body: JsonObject) -> Job:
        queue = body.get("queue")
        place: JsonObject = queue if isinstance(queue, Mapping) else {}
        result = body.get("result")
        return cls(
            id=str(body.get("id") or ""),
            status=str(body.get("status") or ""),
            type=str(body.get("type") or ""),
            priority=str(body.get("priority") or "normal"),
            model=str(body.get("model") or ""),
            created_at=float(body.get("created_at") or 0),
            position=place.get("position"),
            expected_wait_s=place.get("expected_wait_seconds"),
            waits_for=str(place.get("reason") or ""),
            attempts=tuple(body.get("attempts") or ()),
            result=result if isinstance(result, Mapping) else None,
            error=JobError.parse(body.get("error")),
            metadata=dict(body.get("metadata") or {}),
            raw=body,
        )

    @property
    def is_terminal(self) -> bool:
        return self.status in TERMINAL

    @property
    def succeeded(self) -> bool:
        return self.status == "succeeded"

    @property
    def text(self) -> str:
        """The answer's text of a chat or completion; empty while there is none."""
        choices = (self.result or {}).get("choices") or []
        if not choices:
            return ""
        message = choices[0].get("message") or {}
        return str(message.get("content") or choices[0].get("text") or "")

    @property
    def vectors(self) -> list[list[float]]:
        """The vectors of an embedding job, in input order; empty while there are none."""
        return [list(item["embedding"]) for item in (self.result or {}).get("data") or []]


@dataclass(frozen=True, slots=True)
class JobPage:
    """One page of a list, newest first. `next_cursor` is empty on the last page."""

    jobs: Sequence[Job]
    next_cursor: str = ""


@dataclass(frozen=True, slots=True)
class Queued:
    """The job waits; `position` counts from 1."""

    position: int
    id: str = ""


@dataclass(frozen=True, slots=True)
class Started:
    """A worker took the job."""

    attempt: int
    id: str = ""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of the answer. Deltas keep the model's own token boundaries."""

    deltas: Sequence[JsonObject]
    id: str = ""

    @property
    def text(self) -> str:
        return "".join(str(delta.get("content") or "") for delta in self.deltas)

    @property
    def thinking(self) -> str:
        return "".join(str(delta.get("thinking") or "") for delta in self.deltas)


@dataclass(frozen=True, slots=True)
class Restart:
    """The job starts over on another worker: what came before is void."""

    attempt: int
    id: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """The job's one end, with the whole job. Always the last event."""

    job: Job
    id: str = ""


Event = Queued | Started | Chunk | Restart | Ended
