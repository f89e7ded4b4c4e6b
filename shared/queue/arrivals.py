"""New jobs as enqueue.lua takes them, and what it says of them.

Jobs of one call mostly come from requests that are alike, so what they have in common goes once a call, as a template:
every value costs the client, Redis' parser and Lua more than what is done with it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

from msgspec import Struct

from shared.errors import ArrieroError, IdempotencyMismatch, PayloadTooLarge
from shared.jobs import NewJob, State
from shared.lua import Field
from shared.queue import records
from shared.queue.admission import refusal
from shared.queue.fleet import Standing
from shared.queue.lines import HOME, line_of
from shared.wire.codec import MAX_PAYLOAD_BYTES, encode_job

ORDINARY_COST = "1"
"""A cost that the record does not tell."""


class Accepted(Struct):
    """The queue has the job. `duplicate`: it had it already, from the same body.

    Of a new one, `standing` is its place in line and `at` the time of its acceptance by Redis' clock, Unix seconds.
    """

    id: str
    state: State
    duplicate: bool = False
    standing: Standing | None = None
    at: float = 0.0

    @property
    def position(self) -> int:
        """1 = next; 0 while it does not wait."""
        return self.standing.position if self.standing else 0


class Arrival(NamedTuple):
    """One job: the template it shares, its id, its payload and the values of its own."""

    template: tuple[Field, ...]
    values: tuple[Field, ...]

    @property
    def line(self) -> str:
        return str(self.template[_LINE])


def arrival(job: NewJob) -> Arrival:
    """A job to be enqueued. Raises PayloadTooLarge."""
    line = line_of(job.kind, job.model, job.request, job.route.candidates[0].service if job.route else HOME)
    payload = encode_job(
        job.kind, job.request, restartable=job.restartable, enqueued_ms=int(time.time() * 1000), tenant=job.tenant,
        no_store=job.no_store, local_only=job.local_only, route=job.route, request_id=job.request_id,
        cache_as=job.cache_as,
    )  # fmt: skip
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise PayloadTooLarge(f"The job takes {len(payload)} bytes; at most {MAX_PAYLOAD_BYTES} fit the queue.")
    cost = f"{job.cost:.4g}"
    common: list[Field] = ["ttl", int(job.retention_s * 1000)]
    own: list[str] = []
    values: list[Field] = [job.id, payload]
    if cost != ORDINARY_COST:
        common += ("co", cost)
    if job.keep_events:
        common += ("ev", "1")
    if job.reply_to:
        common += ("rt", job.reply_to)
    if job.route is not None or job.metadata:
        common += ("md", records.descriptions_of(job.metadata, job.route))
    if job.request_id:
        own.append("rq")
        values.append(job.request_id)
    if job.fingerprint:
        own.append("fp")
        values.append(job.fingerprint)
    shared = template(
        job.priority, job.kind, job.model, job.tenant, int(job.timeout_s * 1000), int(job.delay_s * 1000), line, cost,
        common, own,
    )  # fmt: skip
    return Arrival(shared, tuple(values))


def template(
    priority: str, kind: str, model: str, tenant: str, timeout_ms: int, delay_ms: int, line: str, cost: Field,
    common: Iterable[Field], own: Iterable[str],
) -> tuple[Field, ...]:  # fmt: skip
    """What jobs have in common. `common`: further fields of their records, name and value in turn; `own`: names of
    fields that each has a value of its own for."""
    fields, names = tuple(common), tuple(own)
    return (
        priority, kind, model, tenant, timeout_ms, delay_ms, line, cost, len(fields), *fields, len(names), *names,
    )  # fmt: skip


_LINE = 6
"""Where a template has the line."""


def packed(arrivals: Iterable[Arrival]) -> list[Field]:
    """The script's arguments for these jobs, in their order."""
    numbers: dict[tuple[Field, ...], int] = {}
    jobs: list[Field] = []
    for shared, values in arrivals:
        jobs.append(numbers.setdefault(shared, len(numbers) + 1))
        jobs += values
    return [len(numbers), *chain.from_iterable(numbers), *jobs]


_WAITING = {state.value.encode(): state for state in (State.QUEUED, State.SCHEDULED)}


def outcomes_of(
    jobs: Sequence[NewJob], arrivals: Sequence[Arrival], reply: Sequence[Any]
) -> Iterator[Accepted | ArrieroError]:
    """What became of each, by the script's reply."""
    at = reply[0] / 1000
    answers = zip(reply[1::4], reply[2::4], reply[3::4], reply[4::4], strict=True)
    for job, each, answer in zip(jobs, arrivals, answers, strict=True):
        yield _outcome(job, each.line, at, *answer)


def _outcome(
    job: NewJob, line: str, at: float, said: bytes, position: int, in_class: int, in_line: int
) -> Accepted | ArrieroError:
    state = _WAITING.get(said)
    if state is not None:
        standing = Standing(priority=job.priority, line=line, position=position, in_class=in_class, in_line=in_line)
        return Accepted(job.id, state, standing=standing, at=at)
    match said[:1]:
        case b"#":
            return refusal(said)
        case b"!":
            return IdempotencyMismatch(param="Idempotency-Key")
    return Accepted(job.id, State(said[1:].decode()), duplicate=True)
