"""The queue as producers and operators see it: enqueue, read, list, cancel, watch, count."""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError, ResponseError

from shared.errors import (
    ArrieroError,
    BadRequest,
    JobNotFound,
    MemoryPressure,
    PayloadTooLarge,
    QueueUnavailable,
)
from shared.jobs import JobRecord, NewJob, Priority, State
from shared.model_names import same
from shared.queue import records
from shared.queue.admission import QueueLimits
from shared.queue.arrivals import Accepted, Arrival, arrival, outcomes_of, packed
from shared.queue.batch import Batcher
from shared.queue.connection import connect, takes_no_writes, within
from shared.queue.dead_letters import DeadLetters
from shared.queue.fleet import Fleet, Standing, read_fleet, read_standing
from shared.queue.keys import Keys
from shared.queue.scripts import Scripts
from shared.queue.stats import QueueStats, read_calls, read_stats
from shared.settings import BaseServiceSettings

T = TypeVar("T")
ANSWER_WITHIN_S = 2.0
"""How long a call waits for a Redis that is away before it says so."""
NO_MEMORY_RETRY_AFTER_S = 15
_NO_WRITES = "The queue's Redis takes no writes: its disk is full, or its replicas are gone. Nothing was accepted."
NO_LIMITS = QueueLimits()
CALL_ROWS = 200
"""Jobs enqueued in one call: Redis serves nobody else meanwhile, 4 to 6 ms."""
LIST_SCAN_LIMIT = 2000
"""How many records one page of a filtered list looks at."""


@dataclass(slots=True, frozen=True)
class JobPage:
    """Newest first; `next_cursor` is empty on the last page."""

    jobs: list[JobRecord]
    next_cursor: str = ""


@dataclass(slots=True, frozen=True)
class Attached:
    """A job and its event log: (event id, fields) in order."""

    record: JobRecord
    events: list[tuple[str, dict[bytes, bytes]]]


class QueueClient:
    """One shard of the queue. Calls raise QueueUnavailable when Redis stays away longer than `ANSWER_WITHIN_S`."""

    def __init__(self, redis: Redis, shard: str = "gw", *, limits: QueueLimits = NO_LIMITS) -> None:
        self.redis = redis
        self.keys = Keys(shard)
        self.scripts = Scripts(redis, self.keys)
        self._limits = limits
        self._packed_limits = limits.packed()
        self.dead_letters = DeadLetters(self.redis, self.keys, self.scripts, self._call, limits)
        self._enqueues: Batcher[tuple[float, NewJob], Accepted] = Batcher(self._send_enqueues)

    @classmethod
    async def connect(cls, settings: BaseServiceSettings, *, limits: QueueLimits = NO_LIMITS) -> QueueClient:
        """A client on its own connections. Does not wait for Redis to be there."""
        return cls(connect(settings), settings.queue_shard, limits=limits)

    async def _call(self, call: Callable[[], Awaitable[T]], limit_s: float = ANSWER_WITHIN_S) -> T:
        try:
            return await within(limit_s, call)
        except OutOfMemoryError as exc:
            raise MemoryPressure(retry_after_s=NO_MEMORY_RETRY_AFTER_S) from exc
        except ResponseError as exc:
            if takes_no_writes(exc):
                raise QueueUnavailable(_NO_WRITES, retry_after_s=10) from exc
            raise

    def enqueue(self, job: NewJob) -> Awaitable[Accepted]:
        """Put a job in the queue; it is accepted once this was awaited. Safe to repeat: the id makes it the same job.

        Raises, when awaited, Overloaded or one of its kinds, IdempotencyMismatch, PayloadTooLarge, QueueUnavailable.
        """
        return self._enqueues.put((time.monotonic() + ANSWER_WITHIN_S, job))

    async def enqueue_many(self, jobs: Sequence[NewJob]) -> list[Accepted | ArrieroError]:
        """Put jobs in the queue with one call for each `CALL_ROWS` of them. What became of each, in order.

        Refusals and mismatches are among the answers. Raises PayloadTooLarge before anything is stored, and
        QueueUnavailable; what was stored by then stays so, and to repeat the call is safe.
        """
        arrivals = [arrival(job) for job in jobs]
        outcomes: list[Accepted | ArrieroError] = []
        for first in range(0, len(arrivals), CALL_ROWS):
            last = first + CALL_ROWS
            outcomes += await self._enqueue(jobs[first:last], arrivals[first:last], ANSWER_WITHIN_S)
        return outcomes

    async def _enqueue(
        self, jobs: Sequence[NewJob], arrivals: Sequence[Arrival], limit_s: float
    ) -> Iterable[Accepted | ArrieroError]:
        call = functools.partial(self.scripts.run, "enqueue", self._packed_limits, *packed(arrivals))
        return outcomes_of(jobs, arrivals, await self._call(call, limit_s))

    async def _send_enqueues(self, waiting: list[tuple[float, NewJob]]) -> Sequence[Accepted | ArrieroError]:
        """What became of each job that is to be accepted by then, on the monotonic clock."""
        now = time.monotonic()
        outcomes: dict[int, Accepted | ArrieroError] = {}
        sent: dict[int, Arrival] = {}
        for place, (until, job) in enumerate(waiting):
            if until <= now:  # it waited in vain for the batch before this one
                outcomes[place] = QueueUnavailable(retry_after_s=2)
                continue
            try:
                sent[place] = arrival(job)
            except PayloadTooLarge as error:
                outcomes[place] = error
        if sent:
            # The patience of the first of them is that of all, so that nobody waits longer than promised.
            patience_s = waiting[next(iter(sent))][0] - now
            jobs = [waiting[place][1] for place in sent]
            outcomes.update(zip(sent, await self._enqueue(jobs, list(sent.values()), patience_s), strict=True))
        return [outcomes[place] for place in range(len(waiting))]

    async def get(self, job_id: str) -> JobRecord | None:
        """The job with its timeline and result; None when there is none."""
        return (await self._read([job_id]))[0]

    async def get_many(self, job_ids: Sequence[str], *, results: bool = True) -> Sequence[JobRecord | None]:
        """The jobs in the order of their ids, with one round trip; for a few hundred at a time."""
        return await self._read(job_ids, results=results)

    async def _read(self, job_ids: Sequence[str], *, results: bool = True) -> Sequence[JobRecord | None]:
        async def read() -> Sequence[JobRecord | None]:
            pipe = self.redis.pipeline(transaction=False)
            for job_id in job_ids:
                pipe.hgetall(self.keys.record(job_id))
                if results:
                    pipe.get(self.keys.result_root + job_id)
            replies = await pipe.execute()
            if not results:
                return [
                    records.parse(i, fields) if fields else None for i, fields in zip(job_ids, replies, strict=True)
                ]
            return [
                records.parse(job_id, fields, result) if fields else None
                for job_id, fields, result in zip(job_ids, replies[::2], replies[1::2], strict=True)
            ]

        return await self._call(read)

    async def list(
        self, tenant: str, *, state: State | None = None, model: str = "", cursor: str = "", limit: int = 20
    ) -> JobPage:
        """A tenant's jobs, newest first, without results. A filtered page may be short and still have a cursor."""
        index = self.keys.tenant(tenant)
        found: list[JobRecord] = []
        offset = _offset(cursor)
        last = offset + LIST_SCAN_LIMIT
        while offset < last:
            chunk = min(200, last - offset)
            ids = await self._ids(index, offset, offset + chunk - 1, newest_first=True)
            for job in await self._read(ids, results=False):
                offset += 1
                if job is None or (state and job.state is not state):
                    continue
                if model and model not in (job.model, job.shown_model):
                    continue
                found.append(job)
                if len(found) == limit:
                    return JobPage(found, str(offset))
            if len(ids) < chunk:
                return JobPage(found)
        return JobPage(found, str(offset))

    async def cancel(self, job_id: str) -> State | None:
        """Cancel a job: at once while it waits, within 2 s while it runs. The state now; None for an unknown job."""
        state: bytes = await self._call(lambda: self.scripts.run("cancel", job_id))
        return State(state.decode()) if state else None

    async def attach(self, job_id: str, gateway_id: str, after: str = "") -> Attached:
        """Watch a job from a gateway and read its log after event `after`, in one step. Raises JobNotFound."""
        reply = await self._call(lambda: self.scripts.run("attach", job_id, gateway_id, f"({after}" if after else "-"))
        if not reply:
            raise JobNotFound
        pairs, entries = reply
        fields = dict(zip(pairs[::2], pairs[1::2], strict=True))
        stored = await self._call(lambda: self.redis.get(self.keys.result_root + job_id))
        events = [(entry_id.decode(), dict(zip(kv[::2], kv[1::2], strict=True))) for entry_id, kv in entries]
        return Attached(records.parse(job_id, fields, stored), events)

    async def positions(self, job_ids: Sequence[str]) -> dict[str, int]:
        """Each waiting job's place in line, from 1; a job that does not wait is left out."""
        return {job_id: at.position for job_id, at in (await self.standings(job_ids)).items() if at.position}

    async def standings(self, job_ids: Sequence[str]) -> dict[str, Standing]:
        """Where each job stands; those that there are no records of are left out."""
        if not job_ids:
            return {}
        rows = await self._call(lambda: self.scripts.run("positions", *job_ids))
        found = zip(job_ids, map(read_standing, rows), strict=True)
        return {job_id: standing for job_id, standing in found if standing is not None}

    async def fleet(self) -> Fleet:
        """Who works, what waits and what is under way, as far as waiting times depend on it."""
        return await self._call(lambda: read_fleet(self.scripts))

    async def clear(self) -> int:
        """Cancel every queued and scheduled job. How many there were."""
        cleared = 0
        for priority in Priority:
            while lines := await self._ids(self.keys.lines(priority), 0, 0):
                for job_id in await self._ids(self.keys.line(priority, lines[0]), 0, 499):
                    cleared += await self.cancel(job_id) is State.CANCELLED
        for job_id in await self._ids(self.keys.alarms, 0, -1):
            job = (await self._read([job_id], results=False))[0]
            if job is not None and job.state in (State.SCHEDULED, State.QUEUED):
                cleared += await self.cancel(job.id) is State.CANCELLED
        return cleared

    async def _ids(self, zset: str, first: int, last: int, *, newest_first: bool = False) -> Sequence[str]:
        return [
            raw.decode() for raw in await self._call(lambda: self.redis.zrange(zset, first, last, desc=newest_first))
        ]

    async def sweep(self) -> None:
        """The safety net's turn: alarms that no worker rang, indexes to trim. Cheap when another gateway did it."""
        keep_ms, most = int(self._limits.dead_letter_ttl_s * 1000), self._limits.dead_letters
        await self._call(lambda: self.scripts.run("sweep", 900, keep_ms, most))

    async def stats(self) -> QueueStats:
        """Depths, oldest wait, totals, workers and what Redis promises."""
        return await self._call(lambda: read_stats(self.redis, self.keys))

    async def unfinished_by_model(self) -> dict[str, int]:
        """Jobs that wait or run, by the model they ask for; models without any are left out. One that another service
        than our Ollama hosts is asked for first is called `service~model`.

        The scripts that accept and end jobs keep the count. Names are spelled as `shared.model_names.same` does.
        """
        jobs: Counter[str] = Counter()
        fields: Any = await self._call(lambda: cast("Any", self.redis.hgetall(self.keys.unfinished_models)))
        for model, count in fields.items():
            jobs[same(model.decode())] += int(count)
        return dict(jobs)

    async def calls_by_model(self) -> dict[tuple[str, str], int]:
        """Calls under way by (model, host), as the workers' last heartbeats have it, so up to 5 s old.

        A job may be served by another model than it asks for; such a stand-in is found only here.
        """
        return await self._call(lambda: read_calls(self.redis, self.keys))

    async def ping(self) -> float:
        """Seconds for one round trip. Raises QueueUnavailable."""
        start = time.perf_counter()
        await self._call(self.redis.ping)
        return time.perf_counter() - start

    async def aclose(self) -> None:
        await self.redis.aclose(close_connection_pool=True)


def _offset(cursor: str) -> int:
    if cursor and not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 9):
        raise BadRequest("`cursor` is not one this server gave. Leave it out to start anew.", param="cursor")
    return int(cursor or 0)
