"""Everything a worker writes about its jobs, in order, over one call at a time.

While a call is under way the next one gathers. A settlement takes the job's last deltas with it, so an end never
overtakes a chunk. A Redis that is away delays the writes, it does not lose them: the same call is repeated until it
is answered, which the scripts allow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property

import structlog
from redis.exceptions import RedisError

from shared.lua import Field
from shared.queue.connection import is_outage
from shared.queue.running import RunningJob, Verdict
from shared.queue.scripts import Scripts
from shared.wire.codec import encode

log = structlog.get_logger()

STALE = b"!"
CHUNK_INTERVAL_S = 0.02
MAX_BATCH = 200
MAX_PAUSE_S = 0.5
MAX_REFUSALS = 24
"""Tries of a write that Redis finds wrong, over about 10 s: the leases are over by then, and others wait behind it."""


class Outbox:
    """The ordered writer of one worker.

    `on_lost(job_id, token)` is called when Redis refuses a chunk because the lease went elsewhere, `on_cancel` when
    the job is to stop.
    """

    def __init__(
        self, scripts: Scripts, *, on_lost: Callable[[str, str], None], on_cancel: Callable[[str, str], None]
    ) -> None:
        self._scripts = scripts
        self._on_lost = on_lost
        self._on_cancel = on_cancel
        self._dirty: dict[str, RunningJob] = {}
        self._settlements: list[tuple[tuple[Field, ...], asyncio.Future[bytes]]] = []
        self._chunks: list[tuple[str, str, int, int, bytes]] = []
        self._due = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._writing = False
        self.stale_writes = 0
        """Writes Redis refused because another worker holds the job."""

    @cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        # Looked up once: before Python 3.12 each look asks the kernel for the process id.
        return asyncio.get_running_loop()

    def has_deltas(self, job: RunningJob, *, urgent: bool) -> None:
        """Note that `job.pending` holds deltas."""
        self._dirty[job.token] = job
        if urgent:
            self._wake()
        elif self._timer is None:
            self._timer = self._loop.call_later(CHUNK_INTERVAL_S, self._wake)

    def settle(
        self, job: RunningJob, verdict: Verdict, *, error: bytes = b"", result: bytes = b"", delay_s: float = 0.0
    ) -> asyncio.Future[bytes]:
        """The job's state after the settlement; `!` if another worker holds the job."""
        if job.pending:
            self._chunks.append(self._chunk(job))
            self._dirty.pop(job.token, None)
        future: asyncio.Future[bytes] = self._loop.create_future()
        notes = encode(job.notes)
        item = (job.id, job.token, verdict, error, result, int(delay_s * 1000), notes)
        self._settlements.append((item, future))
        self._wake()
        return future

    def forget(self, job: RunningJob) -> None:
        """Drop what was not yet written: the lease is lost."""
        job.pending.clear()
        self._dirty.pop(job.token, None)

    def _chunk(self, job: RunningJob) -> tuple[str, str, int, int, bytes]:
        job.published += 1
        deltas, job.pending = job.pending, []
        return (job.id, job.token, job.attempt, job.published, encode(deltas))

    def _wake(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._due.set()

    def start(self) -> None:
        self._task = self._task or asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Write what is left, then stop. Returns at once if not started."""
        if self._task is None:
            return
        while self._settlements or self._dirty or self._chunks or self._writing:
            self._due.set()
            await asyncio.sleep(0.005)
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._task = None

    async def _run(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            while self._dirty or self._chunks or self._settlements:
                self._writing = True
                try:
                    await self._write()
                finally:
                    self._writing = False
                if not self._settlements and not self._chunks and self._timer is not None:
                    break  # only deltas that may still gather

    async def _write(self) -> None:
        chunks = self._chunks
        self._chunks = []
        chunks += [self._chunk(job) for job in self._dirty.values() if job.pending]
        self._dirty.clear()
        settlements = self._settlements[:MAX_BATCH]
        del self._settlements[: len(settlements)]
        if chunks:
            replies = await self._call("publish", chunks)
            for (job_id, token, *_), reply in zip(chunks, replies, strict=True):
                if reply == STALE:
                    self.stale_writes += 1
                    self._on_lost(job_id, token)
                elif reply:
                    self._on_cancel(job_id, token)
        if settlements:
            replies = await self._call("settle", [item for item, _ in settlements])
            for (_, future), reply in zip(settlements, replies, strict=True):
                self.stale_writes += reply == STALE
                if not future.done():
                    future.set_result(reply)

    async def _call(self, script: str, items: Sequence[tuple[Field, ...]]) -> list[bytes]:
        rows = [field for item in items for field in item]
        pause_s = 0.02
        refusals = 0
        while refusals < MAX_REFUSALS:
            try:
                replies: list[bytes] = await self._scripts.run(script, *rows)
                return replies
            except (RedisError, OSError) as exc:
                refusals += not is_outage(exc)
                why = str(exc) or type(exc).__name__
                log.warning("queue.write_delayed", script=script, items=len(items), error=why)
            await asyncio.sleep(pause_s)
            pause_s = min(MAX_PAUSE_S, pause_s * 2)
        log.error("queue.write_given_up", script=script, items=len(items))
        return [STALE] * len(items)
