"""New jobs as enqueue.lua takes them.

Jobs of one call mostly come from requests that are alike, so what they have in common goes once a call, as a template:
every value costs the client, Redis' parser and Lua more than what is done with it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from itertools import chain
from typing import NamedTuple

from shared.errors import PayloadTooLarge
from shared.jobs import NewJob
from shared.lua import Field
from shared.queue import records
from shared.wire.codec import MAX_PAYLOAD_BYTES, encode_job

ORDINARY_COST = "1"
"""A cost that the record does not tell."""


class Arrival(NamedTuple):
    """One job: the template it shares, its id, its payload and the values of its own."""

    template: tuple[Field, ...]
    values: tuple[Field, ...]


def arrival(job: NewJob, line: str) -> Arrival:
    """A job to wait in that line. Raises PayloadTooLarge."""
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


def packed(arrivals: Iterable[Arrival]) -> list[Field]:
    """The script's arguments for these jobs, in their order."""
    numbers: dict[tuple[Field, ...], int] = {}
    jobs: list[Field] = []
    for shared, values in arrivals:
        jobs.append(numbers.setdefault(shared, len(numbers) + 1))
        jobs += values
    return [len(numbers), *chain.from_iterable(numbers), *jobs]
