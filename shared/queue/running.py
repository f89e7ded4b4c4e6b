"""One claimed job while a worker runs it: what its function gets to see and to call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec

from shared.errors import ArrieroError
from shared.jobs import POISON_CRASHES
from shared.queue.records import AttemptNotes
from shared.routes import Route
from shared.wire.canonical import Delta, Request, Usage
from shared.wire.codec import decode_request
from shared.wire.operations import OperationProgress

if TYPE_CHECKING:
    from shared.queue.outbox import Outbox


class Verdict(StrEnum):
    """A worker's last word on a run, as settle.lua knows it."""

    SUCCEEDED = "succeeded"
    DEAD_LETTERED = "dead_lettered"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    RETRIED = "retried"
    RELEASED = "released"


class StopReason(StrEnum):
    """Why a running job was stopped from outside."""

    CANCELLED = "cancelled"
    EXPIRED = "expired"
    LOST = "lost"
    """The lease went to someone else: nothing more may be written."""
    DRAIN = "drain"


class RetryLater(Exception):
    """Raised by a job function: this run failed with `error`, run the job again after `delay_s`. Costs one failure."""

    def __init__(self, error: ArrieroError, delay_s: float) -> None:
        self.error = error
        self.delay_s = delay_s
        super().__init__(error.message)


class HandBack(Exception):
    """Raised by a job function: put the job back, at no cost to it.

    It keeps its place in line and runs again no sooner than in `delay_s`; at its deadline it expires all the same.
    `reason`, an error's code such as `backend_busy` or a few words, goes on its timeline.
    """

    def __init__(self, delay_s: float = 0.0, reason: str = "") -> None:
        self.delay_s = delay_s
        self.reason = reason
        super().__init__(reason)


@dataclass(slots=True, eq=False, weakref_slot=True)
class Batch:
    """Jobs claimed together to be served by one call. `left` of them have not ended."""

    left: int = 0


@dataclass(slots=True, eq=False, kw_only=True)
class RunningJob:
    """A claimed job. `deadline` is in the event loop's time; `failures` counts earlier runs that failed."""

    id: str
    kind: str
    token: str
    attempt: int
    failures: int
    enqueued_ms: int
    claimed_ms: int
    deadline: float
    keeps_events: bool
    restartable: bool
    raw_request: msgspec.Raw
    outbox: Outbox
    crashes: int = 0
    """How often its worker died."""
    host: str = ""
    unit: str = ""
    """Where it has a slot; empty without one."""
    batch: Batch | None = None
    """The jobs that one call is to serve, this one among them."""
    notes: AttemptNotes = field(default_factory=AttemptNotes)
    pending: list[Delta | OperationProgress] = field(default_factory=list)
    usage: Usage | None = None
    """Tokens, once a backend has said how many."""
    published: int = 0
    """Chunks handed over so far; the next one's sequence number less one."""
    past: list[AttemptNotes] = field(default_factory=list)
    """What the earlier runs that failed noted, in order."""
    tenant: str = ""
    request_id: str = ""
    """Correlation id of the HTTP request that made the job."""
    route: Route | None = None
    """Where it may run, as its gateway decided; None: the model by its name alone, at the default service."""
    local_only: bool = False
    """It must not leave our own machines, whatever its route says."""
    no_store: bool = False
    """The caller wants no copy kept: neither stored for others of its tenant nor answered from such a store."""
    cache_as: str = ""
    """Name under which the tenant's response cache keeps the answer; empty: it does not."""

    @property
    def is_suspect(self) -> bool:
        """Whether one crash more would set it aside as poison."""
        return self.crashes >= POISON_CRASHES - 1

    @property
    def queue_wait_s(self) -> float:
        """From enqueueing to this claim, by Redis' clock."""
        return (self.claimed_ms - self.enqueued_ms) / 1000

    @property
    def time_left_s(self) -> float:
        """Until the job's deadline; negative once it has passed."""
        return self.deadline - asyncio.get_running_loop().time()

    def request(self) -> Request:
        """The typed request. Raises BadRequest for one that does not fit."""
        return decode_request(self.kind, self.raw_request)

    def publish(self, delta: Delta | OperationProgress) -> None:
        """Send a delta to whoever watches: the first at once, later ones gathered for a moment. Does not wait."""
        self.pending.append(delta)
        if len(self.pending) == 1:  # of more, the outbox knows already
            self.outbox.has_deltas(self, urgent=not self.published)


JobFunction = Callable[[dict[str, Any], RunningJob], Awaitable[bytes]]
"""Runs a job and gives its canonical answer in msgpack. Raises RetryLater, HandBack or an ArrieroError."""
