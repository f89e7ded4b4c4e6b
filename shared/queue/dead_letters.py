"""Dead letters: jobs that failed for good, kept with their request and history to be looked at and run again.

A dead letter never changes: it is replayed as a new job, which names it (`replay_of`), and once (`replayed_as`).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from msgspec import structs
from redis.asyncio import Redis

from shared.errors import (
    BadRequest,
    DeadLetterNotFound,
    ErrorRecord,
    Overloaded,
    PayloadLost,
    UndecodableJob,
    shown,
)
from shared.jobs import JobRecord, State, new_job_id
from shared.lua import Field
from shared.queue import records
from shared.queue.admission import QueueLimits, refusal
from shared.queue.keys import Keys
from shared.queue.scripts import Scripts
from shared.queue.stored_requests import for_model, length, line_of, redacted, request_of

T = TypeVar("T")

REPLAY_TIMEOUT_S = 600.0
REPLAY_RETENTION_S = 86_400.0
"""At least: who waited for the first run has long gone, and whoever replays it wants to read the answer."""
MOST_AT_ONCE = 10_000
_CHUNK = 100
CURSOR_PATTERN = "([0-9]{1,15})-(job_[0-9A-Za-z_]{1,60})"
_CURSOR = re.compile(CURSOR_PATTERN)


class Call(Protocol):
    """`QueueClient._call`: the call's answer, or QueueUnavailable."""

    def __call__(self, call: Callable[[], Awaitable[T]]) -> Awaitable[T]: ...


@dataclass(slots=True, frozen=True, kw_only=True)
class DeadLetterFilter:
    """Which dead letters are meant; what is left empty does not count. `since`: Unix seconds of their end."""

    reason: str = ""
    """Code of the error that ended them."""
    model: str = ""
    tenant: str = ""
    since: float = 0.0

    def takes(self, job: JobRecord) -> bool:
        return (
            (not self.reason or job.dead_letter_reason == self.reason)
            and (not self.model or job.model == self.model)
            and (not self.tenant or job.tenant == self.tenant)
            and (job.ended_at or 0.0) >= self.since
        )

    @property
    def is_empty(self) -> bool:
        return self == DeadLetterFilter()


@dataclass(slots=True, frozen=True)
class DeadLetterPage:
    """Newest first; `next_cursor` is empty on the last page."""

    jobs: list[JobRecord]
    next_cursor: str = ""


@dataclass(slots=True, frozen=True)
class DeadLetter:
    """A dead letter with its request as plain data; None when the request is gone or cannot be read."""

    job: JobRecord
    request: dict[str, Any] | None


@dataclass(slots=True, frozen=True)
class Replayed:
    """`id` runs `replay_of` again. `before`: it did so already, and this call changed nothing."""

    id: str
    replay_of: str
    before: bool = False


@dataclass(slots=True, frozen=True)
class ReplayedMany:
    """What came of replaying all that matched; `refused` says why the rest was not, when the queue took no more."""

    replayed: list[Replayed]
    without_payload: int = 0
    refused: Overloaded | None = None


class DeadLetters:
    """The dead letters of one shard. Made by `QueueClient`; calls raise what its calls raise."""

    def __init__(self, redis: Redis, keys: Keys, scripts: Scripts, call: Call, limits: QueueLimits) -> None:
        self._redis = redis
        self._keys = keys
        self._scripts = scripts
        self._call = call
        self._limits = limits

    async def list(
        self, wanted: DeadLetterFilter | None = None, *, cursor: str = "", limit: int = 20, scan: int = 2000
    ) -> DeadLetterPage:
        """One page, newest first. It looks at no more than `scan`, so a filtered page may be short and not the last."""
        wanted = wanted or DeadLetterFilter()
        found: list[JobRecord] = []
        seen, last = 0, cursor
        async for job, at in self._walk(cursor):
            if (job.ended_at or 0.0) < wanted.since:
                return DeadLetterPage(found)
            seen, last = seen + 1, at
            if wanted.takes(job):
                found.append(_without_texts(job))
            if len(found) == limit or seen == scan:
                return DeadLetterPage(found, last)
        return DeadLetterPage(found)

    async def _walk(self, cursor: str) -> AsyncIterator[tuple[JobRecord, str]]:
        """Every dead letter after the cursor, with its own. Stays in step however many come and go meanwhile."""
        after = _position(cursor)
        top: int | str = after[0] if after else "+inf"
        offset = 0
        while True:
            ids = await self._page(top, offset)
            wanted = [at for at in ids if after is None or at < after]
            jobs = await self._records([job_id for _, job_id in wanted])
            for (score, job_id), job in zip(wanted, jobs, strict=True):
                after = (score, job_id)
                if job is not None:
                    yield job, f"{score}-{job_id}"
            if len(ids) < _CHUNK:
                return
            # Many may have ended in the same millisecond: those seen already are passed over.
            offset = offset + _CHUNK if ids[-1][0] == top else sum(score == ids[-1][0] for score, _ in ids)
            top = ids[-1][0]

    async def _page(self, top: int | str, offset: int) -> Sequence[tuple[int, str]]:
        redis: Any = self._redis  # redis-py 5 takes the bounds for ranks
        options = {"desc": True, "byscore": True, "withscores": True, "offset": offset, "num": _CHUNK}
        rows = await self._call(lambda: redis.zrange(self._keys.dead_letters, top, "-inf", **options))
        return [(int(score), raw.decode()) for raw, score in rows]

    async def _records(self, job_ids: Sequence[str]) -> Sequence[JobRecord | None]:
        async def read() -> Sequence[JobRecord | None]:
            pipe = self._redis.pipeline(transaction=False)
            for job_id in job_ids:
                pipe.hgetall(self._keys.record(job_id))
            fields = await pipe.execute()
            return [records.parse(i, f) if f else None for i, f in zip(job_ids, fields, strict=True)]

        return await self._call(read) if job_ids else []

    async def show(self, job_id: str, *, content: bool = False) -> DeadLetter:
        """One dead letter. Its texts are given as their lengths unless `content`. Raises DeadLetterNotFound."""
        [job] = await self._records([job_id])
        if job is None or job.state is not State.DEAD_LETTERED:
            raise DeadLetterNotFound
        payload = await self._payload(job_id)
        request = request_of(payload) if payload else None
        if not content:
            request = None if request is None else redacted(request)
            job = _without_texts(job)
        return DeadLetter(job, request)

    async def replay(self, job_id: str, *, model: str = "", request_id: str = "") -> Replayed:
        """Run it again, on `model` if given. A second time it gives the first one's job.

        Raises DeadLetterNotFound, PayloadLost, UndecodableJob (only for another model), Overloaded.
        """
        row = await self._row(job_id, model, delay_ms=0, request_id=request_id)
        [reply] = await self._replay([row])
        if reply == b"?":
            raise DeadLetterNotFound
        if reply == b"~":
            raise PayloadLost
        if reply[:1] == b"#":
            raise refusal(reply)
        return _replayed(row, reply)

    async def replay_matching(
        self, wanted: DeadLetterFilter, *, per_second: float = 0.0, model: str = "", most: int = MOST_AT_ONCE,
        request_id: str = "", on_progress: Callable[[int, int], None] | None = None,
    ) -> ReplayedMany:  # fmt: skip
        """Run again all that match and were not replayed yet, newest first.

        `on_progress` hears how many of how many have been looked at.

        `per_second`: how many of them start each second; 0: all at once. The queue keeps the pace, since later ones
        are scheduled: nobody has to stay for it.
        """
        chosen = [job.id async for job, _ in self._matching(wanted) if not job.replayed_as]
        done: list[Replayed] = []
        lost = 0
        for start in range(0, min(len(chosen), most), _CHUNK):
            if on_progress is not None:
                on_progress(start, min(len(chosen), most))
            rows: list[tuple[Field, ...]] = []
            for place, job_id in enumerate(chosen[start : min(start + _CHUNK, most)], start):
                delay_ms = int(place / per_second * 1000) if per_second > 0 else 0
                try:
                    rows.append(await self._row(job_id, model, delay_ms=delay_ms, request_id=request_id))
                except UndecodableJob:
                    lost += 1
            for row, reply in zip(rows, await self._replay(rows) if rows else [], strict=True):
                if reply[:1] == b"#":
                    return ReplayedMany(done, lost, refusal(reply))
                lost += reply == b"~"
                if reply not in (b"~", b"?"):
                    done.append(_replayed(row, reply))
        return ReplayedMany([each for each in done if not each.before], lost)

    async def _matching(self, wanted: DeadLetterFilter) -> AsyncIterator[tuple[JobRecord, str]]:
        async for job, at in self._walk(""):
            if (job.ended_at or 0.0) < wanted.since:
                return
            if wanted.takes(job):
                yield job, at

    async def _row(self, job_id: str, model: str, *, delay_ms: int, request_id: str) -> tuple[Field, ...]:
        """replay.lua's arguments for one."""
        stored = await self._payload(job_id) if model else None
        # Without a payload the script says whether that, or the dead letter itself, is missing.
        payload = for_model(stored, model) if stored else b""
        line = line_of(payload) if payload else ""
        return (job_id, new_job_id(), model, payload, delay_ms, request_id, line)

    async def _payload(self, job_id: str) -> bytes | None:
        return await self._call(lambda: self._redis.get(self._keys.payload_root + job_id))

    async def _replay(self, rows: Sequence[tuple[Field, ...]]) -> Sequence[bytes]:
        least = (int(REPLAY_TIMEOUT_S * 1000), int(REPLAY_RETENTION_S * 1000))
        fields = [field for row in rows for field in row]
        replies: Sequence[bytes] = await self._call(
            lambda: self._scripts.run("replay", self._limits.packed(), *least, *fields)
        )
        return replies

    async def purge(self, job_id: str) -> bool:
        """Forget a dead letter, its request and its record. Whether there was one."""
        return bool(await self._call(lambda: self._scripts.run("purge", job_id)))

    async def purge_matching(self, wanted: DeadLetterFilter) -> int:
        """Forget all that match; an empty filter means all. How many there were."""
        chosen = [job.id async for job, _ in self._matching(wanted)]
        purged = 0
        for start in range(0, len(chosen), _CHUNK):
            ids = chosen[start : start + _CHUNK]
            purged += await self._call(lambda ids=ids: self._scripts.run("purge", *ids))  # type: ignore[misc]  # lambda defaults
        return purged


def _without_texts(job: JobRecord) -> JobRecord:
    return structs.replace(
        job,
        metadata={name: length(text) for name, text in job.metadata.items()},
        error=_without_quotes(job.error),
        attempts=[structs.replace(attempt, error=_without_quotes(attempt.error)) for attempt in job.attempts],
    )


def _without_quotes(error: ErrorRecord | None) -> ErrorRecord | None:
    return None if error is None else dataclasses.replace(error, message=shown(error))


def _replayed(row: tuple[Field, ...], reply: bytes) -> Replayed:
    old, new = str(row[0]), str(row[1])
    if reply[:1] != b"=":
        return Replayed(new, old)
    known = reply[1:].decode()
    # Our own id: the first answer to this very call got lost on its way.
    return Replayed(known, old, before=known != new)


def _position(cursor: str) -> tuple[int, str] | None:
    if not cursor:
        return None
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise BadRequest("`cursor` is not one this server gave. Leave it out to start anew.", param="cursor")
    return int(found[1]), found[2]
