"""What a job tells those who wait for it, in order: chunks, restarts, one end."""

from __future__ import annotations

from dataclasses import dataclass, field

from shared.errors import ErrorRecord
from shared.jobs import State
from shared.wire.canonical import Delta


@dataclass(slots=True, kw_only=True)
class Chunk:
    """Deltas of one run. (`attempt`, `seq`) is the event's id and grows; `seq` counts from 1 within an attempt."""

    attempt: int
    seq: int
    deltas: list[Delta] = field(default_factory=list)

    @property
    def id(self) -> str:
        return f"{self.attempt}-{self.seq}"


@dataclass(slots=True, kw_only=True)
class Started:
    """A worker took the job; `attempt` > 1 means what earlier attempts sent is void (a restart)."""

    attempt: int


@dataclass(slots=True, kw_only=True)
class Ended:
    """The job's one end. `result` is the canonical answer in msgpack when succeeded."""

    state: State
    result: bytes | None = None
    error: ErrorRecord | None = None
    attempts: int = 0
    """How many runs it took."""
    queue_ms: int = 0
    """From acceptance to the start of the last run."""
    run_ms: int = 0


Event = Started | Chunk | Ended
