"""A job: its states, the moves between them, and the values that enter and leave the queue.

The table `MOVES` is the only statement of which state follows which; the Lua scripts receive it from
`shared.queue.scripts`.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct, field

from shared.errors import ErrorRecord
from shared.random_ids import RandomIds
from shared.routes import Route

JOB_ID_PREFIX = "job_"
POISON_CRASHES = 3
"""A job whose worker died this many times is set aside."""


class State(StrEnum):
    """Where a job is in its life."""

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    DEAD_LETTERED = "dead_lettered"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def is_terminal(self) -> bool:
        return not MOVES[self]


MOVES: dict[State, frozenset[State]] = {
    State.SCHEDULED: frozenset({State.QUEUED, State.CANCELLED, State.EXPIRED}),
    State.QUEUED: frozenset({State.RUNNING, State.CANCELLED, State.EXPIRED, State.DEAD_LETTERED}),
    State.RUNNING: frozenset(
        {
            State.QUEUED,
            State.SCHEDULED,
            State.SUCCEEDED,
            State.DEAD_LETTERED,
            State.CANCELLED,
            State.EXPIRED,
        }
    ),
    State.SUCCEEDED: frozenset(),
    State.DEAD_LETTERED: frozenset(),
    State.CANCELLED: frozenset(),
    State.EXPIRED: frozenset(),
}


class Kind(StrEnum):
    """What a job asks for; also the name of the arq function that runs it."""

    CHAT = "chat"
    COMPLETION = "completion"
    EMBEDDING = "embedding"
    MODEL_OP = "model_op"
    MAINTENANCE = "maintenance"


INFERENCE_KINDS = (Kind.CHAT, Kind.COMPLETION, Kind.EMBEDDING)
"""What clients may ask for and workers run. The others are the model managers' own, in a shard of theirs."""


class Priority(StrEnum):
    """Scheduling class. The classes share the workers 8:3:1 and none starves."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


new_job_id = RandomIds(JOB_ID_PREFIX, 16)
"""Draws a job id with 94 random bits."""


def shown_model(model: str, route: Route | None) -> str:
    """What answers call a job's model."""
    return model if route is None else route.shown_as or model


class NewJob(Struct, kw_only=True):
    """What a gateway hands to `QueueClient.enqueue`."""

    kind: Kind
    model: str
    """The model to ask first, by its own name there, without a service."""
    request: object
    """The canonical request, or what reads as one: ChatRequest, CompletionRequest or EmbeddingRequest; ModelOperation
    for a change to a model."""
    tenant: str = "default"
    priority: Priority = Priority.NORMAL
    cost: float = 1.0
    """The work it is expected to be, 1 that of an ordinary job: how far it moves its tenant's next job back in line."""
    timeout_s: float = 600.0
    """From acceptance to the absolute deadline, in seconds; Redis' clock decides."""
    delay_s: float = 0.0
    retention_s: float = 3600.0
    """How long record, result and event log stay readable after the end."""
    keep_events: bool = False
    """Keep a chunk log, so that the stream can be resumed or joined late. Set for streams and for submitted jobs."""
    restartable: bool = False
    """The client follows the events and understands a restart: a failure after the first chunk may be retried."""
    reply_to: str = ""
    """The gateway whose inbox gets the job's events; empty: nobody waits."""
    request_id: str = ""
    """Correlation id of the HTTP request."""
    metadata: dict[str, str] = {}
    fingerprint: str = ""
    """Hash of the request body, to tell a replayed Idempotency-Key from a misused one."""
    route: Route | None = None
    """Where it may run, in order; None: the model by its name alone, at the default service."""
    local_only: bool = False
    """It must not leave our own machines: no cloud service sees it, whatever fails, and no copy of its answer is
    kept."""
    no_store: bool = False
    """No copy of the answer may be kept for, or taken from, the store of answers."""
    cache_as: str = ""
    """Name under which the tenant's response cache keeps the answer; empty: it does not."""
    id: str = field(default_factory=new_job_id)

    @property
    def shown_model(self) -> str:
        """What answers call the model."""
        return shown_model(self.model, self.route)


class Attempt(Struct, kw_only=True):
    """One run of a job. Times are Unix seconds by Redis' clock, `first_token_at` by the worker's offset from it."""

    number: int
    worker: str
    started_at: float
    backend: str = ""
    model: str = ""
    first_token_at: float | None = None
    ended_at: float | None = None
    outcome: str = ""
    """succeeded | failed | retried | crashed | drained | handed_back | cancelled | expired; empty while it runs."""
    error: ErrorRecord | None = None


class JobRecord(Struct, kw_only=True):
    """A job as Redis holds it, decoded. `result` is the canonical answer in msgpack, present once succeeded."""

    id: str
    kind: Kind
    state: State
    priority: Priority
    tenant: str
    model: str
    created_at: float
    deadline_at: float
    updated_at: float
    scheduled_for: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    failures: int = 0
    crashes: int = 0
    attempts: list[Attempt] = []
    metadata: dict[str, str] = {}
    request_id: str = ""
    route: Route | None = None
    """Where it may run, as its gateway decided."""
    result: bytes | None = None
    error: ErrorRecord | None = None
    cancel_requested: bool = False
    keeps_events: bool = False
    dead_letter_reason: str = ""
    """Why it was set aside: the code of its error. Empty unless dead-lettered."""
    replay_of: str = ""
    """The dead letter this job runs again."""
    replayed_as: str = ""
    """The job that ran this dead letter again."""

    @property
    def shown_model(self) -> str:
        """What answers call the model."""
        return shown_model(self.model, self.route)
