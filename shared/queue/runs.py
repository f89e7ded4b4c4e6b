"""The runs under way in one worker: each goes from its payload to an ending, and to what the queue is told of that."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import cached_property, partial

import structlog

from shared.errors import ErrorRecord
from shared.queue.endings import CRASHED, STOPPED, Ending, ending_of
from shared.queue.outbox import STALE, Outbox
from shared.queue.running import RunningJob, StopReason, Verdict
from shared.queue.scripts import Scripts
from shared.telemetry.logging import ATTEMPT, JOB_ID, REQUEST_ID
from shared.wire.codec import decode_job, encode, encode_result

log = structlog.get_logger()

Tasks = dict[str, asyncio.Task[None]]
OnEnd = Callable[[RunningJob, bytes, float, ErrorRecord | None], None]
"""Hears of a run's end: the job, its state as settled, the run's seconds, its error."""


class Runs:
    """Starts, stops and settles runs. `jobs` are those under way, by id."""

    def __init__(
        self,
        scripts: Scripts,
        call: Callable[[RunningJob], Awaitable[bytes]],
        tasks: Tasks,
        *,
        queue_name: str,
        on_end: OnEnd,
    ) -> None:
        """`call` does a job's work. `tasks`, by job id, are the caller's: it may cancel them to hand the jobs back."""
        self.outbox = Outbox(scripts, on_lost=self._lose, on_cancel=self._cancel)
        self.jobs: dict[str, RunningJob] = {}
        self.lost_leases = 0
        self._call = call
        self._tasks = tasks
        self._queue_name = queue_name
        self._on_end = on_end
        # By token, not by id: a job may come back to this worker while its old run is still stopping.
        self._stopped: dict[str, StopReason] = {}
        self._settling: set[str] = set()
        self._ended = asyncio.Event()
        self._riders = 0
        """Running jobs that share the call of another."""

    @cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        # Looked up once: before Python 3.12 each look asks the kernel for the process id.
        return asyncio.get_running_loop()

    @property
    def calls(self) -> int:
        """Calls under way: the jobs of a batch share one."""
        return len(self._tasks) - self._riders

    async def wait_for_end(self, limit_s: float) -> None:
        """Until a run ends, or for `limit_s`."""
        self._ended.clear()
        with suppress(TimeoutError):
            # Not wait_for: on 3.11 it can swallow the cancel that ends this worker.
            async with asyncio.timeout(limit_s):
                await self._ended.wait()

    # -- from start to end ------------------------------------------------------------------------------------------

    def start(self, job: RunningJob, payload: bytes) -> None:
        """Run a claimed job. What comes of it is told to the queue, and to `on_end`."""
        if job.id in self.jobs:  # its lease lapsed unnoticed, so that run has lost the job to this one
            self.stop(job.id, StopReason.LOST)
        self.jobs[job.id] = job
        if job.batch is not None:
            self._riders += job.batch.left > 0
            job.batch.left += 1
        task = self._tasks[job.id] = self._loop.create_task(self._run(job, payload))
        task.add_done_callback(partial(self._done, job))

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
        if self.jobs.get(job.id) is job:
            del self.jobs[job.id], self._tasks[job.id]
        self._ended.set()

    async def _run(self, job: RunningJob, payload: bytes) -> None:
        loop = self._loop
        start = loop.time()
        timer = loop.call_at(job.deadline, self.stop, job.id, StopReason.EXPIRED)
        try:
            ending = await self._ending(job, payload)
        finally:
            timer.cancel()
        if self._stopped.get(job.token) is StopReason.LOST:
            self.outbox.forget(job)
            self._on_end(job, STALE, loop.time() - start, None)
            return
        self._settling.add(job.token)
        state = await self._settle(job, ending)
        self._on_end(job, state, loop.time() - start, ending.error)

    async def _ending(self, job: RunningJob, payload: bytes) -> Ending:
        """Do the job's work; what it came to. Never raises but for the loop's own end."""
        try:
            stored = decode_job(payload)
            job.kind, job.raw_request, job.restartable = stored.f, stored.k.request, stored.k.restartable
            job.tenant, job.no_store, job.request_id = stored.k.tenant, stored.k.no_store, stored.k.request_id
            job.route, job.local_only, job.cache_as = stored.k.route, stored.k.local_only, stored.k.cache_as
            # On every log line of this run: each job has a task, and with it a context, of its own.
            JOB_ID.set(job.id)
            ATTEMPT.set(job.attempt)
            if job.request_id:
                REQUEST_ID.set(job.request_id)
            return Ending(Verdict.SUCCEEDED, await self._call(job))
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
                queue_name=self._queue_name, job_id=job.id,
            )  # fmt: skip
        if verdict is not Verdict.RELEASED:
            job.notes.error = error
        elif noted is not None:
            job.notes.error = encode(noted)
        return await self.outbox.settle(job, verdict, error=error, result=result, delay_s=ending.delay_s)

    # -- stopping ---------------------------------------------------------------------------------------------------

    def is_settling(self, job_id: str) -> bool:
        """The run is over and its verdict is on the way; nothing can stop it any more."""
        job = self.jobs.get(job_id)
        return job is not None and job.token in self._settling

    def stop(self, job_id: str, reason: StopReason) -> None:
        """Stop a running job; what it was stopped for decides its verdict. The first reason given stands."""
        job = self.jobs.get(job_id)
        if job is not None and job.token not in self._stopped and job.token not in self._settling:
            self._stopped[job.token] = reason
            self.lost_leases += reason is StopReason.LOST
            self._tasks[job_id].cancel()

    def holds(self, job_id: str, token: str) -> bool:
        """Whether this very run is the one under way here."""
        job = self.jobs.get(job_id)
        return job is not None and job.token == token

    def _lose(self, job_id: str, token: str) -> None:
        if self.holds(job_id, token):
            self.stop(job_id, StopReason.LOST)

    def _cancel(self, job_id: str, token: str) -> None:
        if self.holds(job_id, token):
            self.stop(job_id, StopReason.CANCELLED)
