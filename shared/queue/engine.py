"""The arq seam: arq's worker with our claiming, running and settling.

arq keeps: construction, functions and `ctx`, start-up and shutdown, signals and drain, cron, hooks, the pool. We
replace what costs it 10 round trips a job and its lack of a fence: `_poll_iteration` (one claim script for all free
slots, see `Claims`, and a blocking wake-up in place of polling) and `run_job` (see `Runs`: payloads come with the
claim, ends go through `Outbox`). `tests/contract/test_arq_pins.py` pins what we rely on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from signal import Signals
from typing import Any, cast

import structlog
from arq.connections import ArqRedis
from arq.worker import Worker, func
from redis.exceptions import RedisError

from shared.errors import ArrieroError, ErrorRecord
from shared.jobs import State
from shared.queue.claims import Claims
from shared.queue.client import QueueClient
from shared.queue.connection import REDIS_GONE, is_outage
from shared.queue.cron import CronEntry, Schedule
from shared.queue.fleet import Capacity
from shared.queue.heartbeat import Heartbeats
from shared.queue.keys import Keys
from shared.queue.plans import AnyLine, Planner
from shared.queue.running import JobFunction, RunningJob
from shared.queue.runs import Runs
from shared.queue.scripts import Scripts

log = structlog.get_logger()

LEASE_MS = 6000
"""Three renewals: a worker may miss two. What it holds when it dies starts elsewhere this much later, or sooner."""
TICK_S = 1.0
"""A worker that slept this long looks at the queue even if nobody woke it: a lost wake-up costs at most this."""
CLAIM_LIMIT = 200
MAX_PAUSE_S = 1.0
LAST_WORDS_S = 5.0
"""How long a worker that leaves tries to tell Redis what became of its jobs."""


@dataclass(slots=True, frozen=True, kw_only=True)
class EngineOptions:
    """How a worker takes part. `drain_s` bounds the wait for running jobs after SIGTERM."""

    worker_id: str
    slots: int = 5
    drain_s: float = 30.0
    lease_ms: int = LEASE_MS
    version: str = ""
    capacity: Capacity | None = None
    """What it gives each model host, told in its heartbeats."""
    handle_signals: bool = True
    on_settled: Callable[[RunningJob, str, float, ErrorRecord | None], None] | None = None
    """Called with the job, its state now ('!' if it was lost), the run's seconds and its error. Must not raise."""


class QueueWorker(Worker):
    """An arq worker on our queue. `redis` runs scripts, `blocking` waits for wake-ups and must allow a long reply."""

    def __init__(
        self,
        functions: Mapping[str, JobFunction],
        *,
        redis: ArqRedis,
        blocking: ArqRedis,
        shard: str,
        options: EngineOptions,
        ctx: dict[str, Any] | None = None,
        scripts: Scripts | None = None,
        cron: Sequence[CronEntry] = (),
        planner: Planner | None = None,
    ) -> None:
        self.keys = Keys(shard)
        self._planner = planner or AnyLine()
        self._schedule = Schedule(cron, QueueClient(redis, shard))
        super().__init__(
            [func(cast("Any", coroutine), name=name) for name, coroutine in functions.items()],
            queue_name=self.keys.queue_name,
            redis_pool=redis,
            max_jobs=options.slots,
            poll_delay=0,
            job_completion_wait=max(1, round(options.drain_s)),
            handle_signals=options.handle_signals,
            health_check_key=f"{self.keys.root}arq-health:{options.worker_id}",
            cron_jobs=self._schedule.jobs,
            timezone=UTC,
            ctx=ctx,
            log_results=False,
        )
        self.options = options
        self._blocking = blocking
        self._scripts = scripts or Scripts(redis, self.keys)
        self.runs = Runs(self._scripts, self._call, self.tasks, queue_name=self.queue_name, on_end=self._report)
        self.outbox = self.runs.outbox
        self._claims = Claims(
            self._scripts, self.outbox, self._planner, self.running,
            worker_id=options.worker_id, lease_ms=options.lease_ms,
        )  # fmt: skip
        self._heartbeats = Heartbeats(self, redis, blocking, self._scripts)
        self._turned_at = self.loop.time()
        self._pause_s = 0.0

    # -- life cycle -------------------------------------------------------------------------------------------------

    async def main(self) -> None:
        self.outbox.start()
        self._heartbeats.start()
        while True:
            try:
                return await super().main()
            except REDIS_GONE as exc:  # only before the first claim: later ones are met where they happen
                log.warning("queue.redis_away", error=type(exc).__name__, hint="is REDIS_URL right and Redis running?")
                await asyncio.sleep(MAX_PAUSE_S)

    async def record_health(self) -> None:
        """arq's one-line health key is replaced by our heartbeats."""

    async def run_cron(self, n: datetime, delay: float, num_windows: int = 2) -> None:
        """arq's turn of the clock, about once a second; what is due goes into our queue instead of arq's."""
        if self.allow_pick_jobs:
            await self._schedule.turn(n)

    def handle_sig_wait_for_completion(self, signum: Signals) -> None:
        """First signal: stop claiming, let jobs finish for `drain_s`. Second: hand them back now."""
        if not self.allow_pick_jobs:
            return self.handle_sig(signum)
        return super().handle_sig_wait_for_completion(signum)

    async def close(self) -> None:
        """Wait for the last settlements, then sign off. Jobs cancelled by the drain have gone back to the queue."""
        if not self._handle_signals:
            self.handle_sig(Signals.SIGUSR1)
        try:
            async with asyncio.timeout(LAST_WORDS_S):
                await asyncio.gather(*filter(None, (self.main_task, *self.tasks.values())), return_exceptions=True)
                await self._claims.disown_lost()
                await self.outbox.stop()
                await self._heartbeats.sign_off()
        except (RedisError, OSError, TimeoutError) as exc:
            # Not told in time, Redis finds out by itself: the leases end.
            log.warning("queue.left_without_farewell", error=type(exc).__name__, leases=len(self.running))
        await self._heartbeats.stop()
        try:
            if self.on_shutdown:
                await self.on_shutdown(self.ctx)
        finally:
            # Not arq's own close(): it still calls redis-py's deprecated one, and has nothing else to do here.
            await self.pool.aclose(close_connection_pool=True)
            await self._blocking.aclose(close_connection_pool=True)

    # -- claiming ---------------------------------------------------------------------------------------------------

    @property
    def idle_for_s(self) -> float:
        """Since the claim loop last turned; it turns at least once in `TICK_S`."""
        return self.loop.time() - self._turned_at

    async def _poll_iteration(self) -> None:
        self._turned_at = self.loop.time()
        try:
            await self._claim_or_wait()
            self._pause_s = 0.0
        except (RedisError, OSError) as exc:
            if not is_outage(exc):
                log.exception("queue.claim_failed")
                self._pause_s = MAX_PAUSE_S
            elif not self._pause_s:
                log.warning("queue.redis_away", error=type(exc).__name__, reason=str(exc))
            self._pause_s = min(MAX_PAUSE_S, max(0.05, self._pause_s * 2))
            await asyncio.sleep(self._pause_s)
        if self.cron_jobs:
            await self.heart_beat()

    async def _claim_or_wait(self) -> None:
        if self._pause_s and self.running:
            await self._heartbeats.beat()  # after an outage: claiming acts on lapsed leases, so ours come first
        free = self.max_jobs - self.runs.calls
        if not self.allow_pick_jobs or free <= 0:
            await self.runs.wait_for_end(TICK_S)
            return
        want = min(free, CLAIM_LIMIT)
        taken = await self._claims.take(want, within_s=TICK_S)
        for job, payload in taken.jobs:
            self.runs.start(job, payload)
        if len(taken.jobs) < want and not taken.replanned:
            await self._wait_for_work(min(TICK_S, self._planner.pause_s(), max(0.001, taken.due_s)))

    async def _wait_for_work(self, timeout_s: float) -> None:
        marker = await self._blocking.bzpopmin([self.keys.wake], timeout=timeout_s)
        if marker and not self.allow_pick_jobs:
            await self.pool.zadd(self.keys.wake, {b"w": 0})  # this worker is leaving: wake another

    # -- running ----------------------------------------------------------------------------------------------------

    @property
    def running(self) -> Mapping[str, RunningJob]:
        """The jobs under way here, by id."""
        return self.runs.jobs

    async def _call(self, job: RunningJob) -> bytes:
        """The job's function, called as arq calls it."""
        function = self.functions.get(job.kind)
        if function is None:
            raise ArrieroError(f"No worker of this release runs jobs of kind {job.kind!r}.")
        ctx = {**self.ctx, "job_id": job.id, "job_try": job.attempt}
        if self.on_job_start:
            await self.on_job_start(ctx)
        return cast("bytes", await function.coroutine(ctx, job))

    def _report(self, job: RunningJob, state: bytes, seconds: float, error: ErrorRecord | None) -> None:
        name = state.lstrip(b"=").decode()
        if name == State.SUCCEEDED:
            self.jobs_complete += 1
        elif name in ("queued", "scheduled"):
            self.jobs_retried += 1
        else:
            self.jobs_failed += 1
        if self.options.on_settled:
            self.options.on_settled(job, name, seconds, error)
