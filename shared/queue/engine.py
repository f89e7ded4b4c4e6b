"""The arq seam: arq's worker with our claiming, running and settling.

arq keeps: construction, functions and `ctx`, start-up and shutdown, signals and drain, cron, hooks, the pool. We
replace what costs it 10 round trips a job and its lack of a fence: `_poll_iteration` (one claim script for all free
slots, a blocking wake-up in place of polling) and `run_job` (payloads come with the claim, ends go through `Outbox`).
`tests/contract/test_arq_pins.py` pins what we rely on.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from signal import Signals
from typing import Any, cast

import msgspec
import structlog
from arq.connections import ArqRedis
from arq.worker import Worker, func
from redis.exceptions import RedisError
from structlog.contextvars import bind_contextvars

from shared.errors import ArrieroError, ErrorRecord
from shared.jobs import State
from shared.lua import Field
from shared.queue import records
from shared.queue.client import QueueClient
from shared.queue.connection import REDIS_GONE, is_outage
from shared.queue.cron import CronEntry, Schedule
from shared.queue.endings import CRASHED, STOPPED, Ending, ending_of
from shared.queue.fleet import Capacity
from shared.queue.heartbeat import Heartbeats
from shared.queue.keys import Keys
from shared.queue.outbox import STALE, Outbox
from shared.queue.plans import AnyLine, Planner, read_view
from shared.queue.running import Batch, JobFunction, RunningJob, StopReason, Verdict
from shared.queue.scripts import Scripts
from shared.wire.codec import decode_job, encode, encode_result

log = structlog.get_logger()

LEASE_MS = 6000
"""Three renewals: a worker may miss two. What it holds when it dies starts elsewhere this much later, or sooner."""
TICK_S = 1.0
"""A worker that slept this long looks at the queue even if nobody woke it: a lost wake-up costs at most this."""
CLAIM_LIMIT = 200
MAX_PAUSE_S = 1.0
SUSPECT_PAUSE_MS = 1000
LAST_WORDS_S = 5.0
"""How long a worker that leaves tries to tell Redis what became of its jobs."""
_NOTHING = msgspec.Raw(b"")

Claimed = tuple[RunningJob, bytes]
"""A job and its payload."""


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
        self.lease_ms = options.lease_ms
        self._blocking = blocking
        self._scripts = scripts or Scripts(redis, self.keys)
        self.outbox = Outbox(self._scripts, on_lost=self._lose, on_cancel=self._cancel)
        self.running: dict[str, RunningJob] = {}
        # By token, not by id: a job may come back to this worker while its old run is still stopping.
        self._stopped: dict[str, StopReason] = {}
        self._settling: set[str] = set()
        self._slot_free = asyncio.Event()
        self._lost_claims: list[str] = []
        self._riders = 0
        """Running jobs that share the call of another."""
        self._heartbeats = Heartbeats(self, redis, blocking, self._scripts)
        self.lost_leases = 0
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
                await self._disown_lost_claims()
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
        free = self.max_jobs - (len(self.tasks) - self._riders)
        if not self.allow_pick_jobs or free <= 0:
            self._slot_free.clear()
            with suppress(TimeoutError):
                # Not wait_for: on 3.11 it can swallow the cancel that ends this worker.
                async with asyncio.timeout(TICK_S):
                    await self._slot_free.wait()
            return
        want = min(free, CLAIM_LIMIT)
        wait_ms, replanned, claimed = await self._claim(want)
        for job, payload in claimed:
            self._start(job, payload)
        if len(claimed) < want and not replanned:
            await self._wait_for_work(min(TICK_S, self._planner.pause_s(), max(0.001, wait_ms / 1000)))

    async def _claim(self, want: int) -> tuple[int, bool, Sequence[Claimed]]:
        """(ms until something is due, whether the plan is another one now, jobs)."""
        await self._disown_lost_claims()
        seed = secrets.token_hex(12)
        if self._planner.must_look():
            _, view = await self._run_claim(seed, 0, "1")
            self._planner.see(read_view(view))
        try:
            wait_ms, view, *rows = await self._run_claim(seed, want, "1" if self._planner.wants_view() else "")
            claimed = await self._one_suspect(self._read_all(rows))
        except (RedisError, OSError, asyncio.CancelledError):
            self._lost_claims.append(seed)  # it may have happened: those jobs must not wait for their lease to end
            raise
        return wait_ms, bool(view) and self._planner.see(read_view(view)), claimed

    async def _one_suspect(self, claimed: Sequence[Claimed]) -> Sequence[Claimed]:
        """What of a claim to run here: a poison job takes the jobs beside it down, and they come back together. So that
        they are not set aside with it, a worker runs one suspect at a time; the others go back, at no cost, before it
        starts.
        """
        taken = any(job.is_suspect for job in self.running.values())
        chosen: list[Claimed] = []
        fields: list[Field] = []
        for job, payload in claimed:
            if job.is_suspect and taken:
                fields += (job.id, job.token, Verdict.RELEASED, b"", b"", SUSPECT_PAUSE_MS, b"")
                continue
            taken = taken or job.is_suspect
            chosen.append((job, payload))
        if fields:
            await self._scripts.run("settle", *fields)
        return chosen

    async def _disown_lost_claims(self) -> None:
        while self._lost_claims:
            back = await self._scripts.run("disown", self._lost_claims[-1], self.lease_ms)
            log.info("queue.claim_disowned", jobs=back)
            self._lost_claims.pop()

    async def _wait_for_work(self, timeout_s: float) -> None:
        marker = await self._blocking.bzpopmin([self.keys.wake], timeout=timeout_s)
        if marker and not self.allow_pick_jobs:
            await self.pool.zadd(self.keys.wake, {b"w": 0})  # this worker is leaving: wake another

    # -- running ----------------------------------------------------------------------------------------------------

    async def _run_claim(self, seed: str, want: int, look: str) -> Any:
        return await self._scripts.run(
            "claim", self.options.worker_id, seed, want, self.lease_ms, int(TICK_S * 1000), self._planner.packed(), look
        )

    def _read_all(self, rows: Sequence[Sequence[Any]]) -> list[Claimed]:
        batches: dict[int, Batch] = {}
        return [self._read(row, batches) for row in rows]

    def _read(self, row: Sequence[Any], batches: dict[int, Batch]) -> Claimed:
        """A claim's row; the jobs of one batch get the same object."""
        job_id, token, payload, attempt, failures, created_ms, deadline_ms, now_ms, keeps_events, crashes = row[:10]
        slot, batch, *past = row[10:]
        host, _, unit = slot.partition(b"|")
        job = RunningJob(
            id=job_id.decode(),
            kind="",
            token=token.decode(),
            attempt=attempt,
            failures=failures,
            enqueued_ms=created_ms,
            claimed_ms=now_ms,
            deadline=self.loop.time() + (deadline_ms - now_ms) / 1000,
            keeps_events=keeps_events == b"1",
            restartable=False,
            raw_request=_NOTHING,
            outbox=self.outbox,
            crashes=crashes,
            host=host.decode(),
            unit=unit.decode(),
            batch=batches.setdefault(batch, Batch()) if batch else None,
            past=[records.notes_of(ended) for ended in past],
        )
        return job, payload

    def _start(self, job: RunningJob, payload: bytes) -> None:
        if job.id in self.running:  # its lease lapsed unnoticed, so that run has lost the job to this one
            self.stop_job(job.id, StopReason.LOST)
        self.running[job.id] = job
        if job.batch is not None:
            self._riders += job.batch.left > 0
            job.batch.left += 1
        task = self.loop.create_task(self._run(job, payload))
        self.tasks[job.id] = self.job_tasks[job.id] = task
        task.add_done_callback(lambda task: self._done(job, task))

    def _done(self, job: RunningJob, task: asyncio.Task[None]) -> None:
        stopped = self._stopped.pop(job.token, None)
        if task.cancelled() and job.token not in self._settling and stopped is not StopReason.LOST:
            # Cancelled before its first step, so nothing of it ran: only the drain does that.
            self.outbox.settle(job, Verdict.RELEASED)
        self._settling.discard(job.token)
        if job.batch is not None:
            job.batch.left -= 1
            self._riders -= job.batch.left > 0
        # A job that came back to this worker while the old run was still stopping has taken over the place.
        if self.running.get(job.id) is job:
            del self.running[job.id], self.tasks[job.id], self.job_tasks[job.id]
        self._slot_free.set()

    async def _run(self, job: RunningJob, payload: bytes) -> None:
        start = self.loop.time()
        timer = self.loop.call_at(job.deadline, self.stop_job, job.id, StopReason.EXPIRED)
        try:
            ending = await self._ending(job, payload)
        finally:
            timer.cancel()
        if self._stopped.get(job.token) is StopReason.LOST:
            self.outbox.forget(job)
            self._report(job, STALE, start, None)
            return
        self._settling.add(job.token)
        state = await self._settle(job, ending)
        self._report(job, state, start, ending.error)

    async def _ending(self, job: RunningJob, payload: bytes) -> Ending:
        """Run the function; what it came to. Never raises but for the loop's own end."""
        try:
            stored = decode_job(payload)
            job.kind, job.raw_request, job.restartable = stored.f, stored.k.request, stored.k.restartable
            job.tenant, job.no_store, job.request_id = stored.k.tenant, stored.k.no_store, stored.k.request_id
            job.route, job.local_only, job.cache_as = stored.k.route, stored.k.local_only, stored.k.cache_as
            # On every log line of this run: each job has a task, and with it a context, of its own.
            bind_contextvars(job_id=job.id, attempt=job.attempt)
            if job.request_id:
                bind_contextvars(request_id=job.request_id)
            function = self.functions.get(stored.f)
            if function is None:
                raise ArrieroError(f"No worker of this release runs jobs of kind {stored.f!r}.")
            ctx = {**self.ctx, "job_id": job.id, "job_try": job.attempt}
            if self.on_job_start:
                await self.on_job_start(ctx)
            return Ending(Verdict.SUCCEEDED, await function.coroutine(ctx, job))
        except asyncio.CancelledError:
            return STOPPED[self._stopped.get(job.token, StopReason.DRAIN)]
        except Exception as exc:
            ending = ending_of(exc)
            if ending is CRASHED:
                log.exception("job.crashed_in_code", job_id=job.id, kind=job.kind)
            return ending

    async def _settle(self, job: RunningJob, ending: Ending) -> bytes:
        verdict, noted = ending.verdict, ending.handed_back_for
        error = b"" if ending.error is None else encode(ending.error)
        result = b""
        if verdict in (Verdict.SUCCEEDED, Verdict.DEAD_LETTERED):
            result = encode_result(
                succeeded=ending.error is None, value=ending.value, attempt=job.attempt, kind=job.kind,
                enqueued_ms=job.enqueued_ms, started_ms=job.claimed_ms, finished_ms=int(time.time() * 1000),
                queue_name=self.queue_name, job_id=job.id,
            )  # fmt: skip
        if verdict is not Verdict.RELEASED:
            job.notes.error = error
        elif noted is not None:
            job.notes.error = encode(noted)
        return await self.outbox.settle(job, verdict, error=error, result=result, delay_s=ending.delay_s)

    def _report(self, job: RunningJob, state: bytes, start: float, error: ErrorRecord | None) -> None:
        name = state.lstrip(b"=").decode()
        if name == State.SUCCEEDED:
            self.jobs_complete += 1
        elif name in ("queued", "scheduled"):
            self.jobs_retried += 1
        else:
            self.jobs_failed += 1
        if self.options.on_settled:
            self.options.on_settled(job, name, self.loop.time() - start, error)

    # -- stopping ---------------------------------------------------------------------------------------------------

    def is_settling(self, job_id: str) -> bool:
        """The run is over and its verdict is on the way; nothing can stop it any more."""
        job = self.running.get(job_id)
        return job is not None and job.token in self._settling

    def stop_job(self, job_id: str, reason: StopReason) -> None:
        """Stop a running job; what it was stopped for decides its verdict. The first reason given stands."""
        job = self.running.get(job_id)
        if job is not None and job.token not in self._stopped and job.token not in self._settling:
            self._stopped[job.token] = reason
            self.lost_leases += reason is StopReason.LOST
            self.tasks[job_id].cancel()

    def _lose(self, job_id: str, token: str) -> None:
        if self.holds(job_id, token):
            self.stop_job(job_id, StopReason.LOST)

    def _cancel(self, job_id: str, token: str) -> None:
        if self.holds(job_id, token):
            self.stop_job(job_id, StopReason.CANCELLED)

    def holds(self, job_id: str, token: str) -> bool:
        """Whether this very run is the one under way here."""
        job = self.running.get(job_id)
        return job is not None and job.token == token
