"""A worker's side loops: renewing leases and listening for cancels."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.queue.connection import REDIS_GONE
from shared.queue.running import RunningJob, StopReason
from shared.queue.scripts import Scripts
from shared.queue.stats import Heartbeat
from shared.wire.codec import encode

if TYPE_CHECKING:
    from shared.queue.engine import QueueWorker

log = structlog.get_logger()

RENEW_S = 2.0
IDLE_BEAT_S = 5.0
BEAT_TTL_MS = 15_000
RETRY_S = 0.3


class Heartbeats:
    """Renews every lease of a worker in one call each 2 s, and passes on cancels from the control channel.

    A renewal that fails is tried again at once: the jobs keep running meanwhile, because until another worker has
    claimed them the lease can be revived. Redis says which were lost.
    """

    def __init__(self, worker: QueueWorker, redis: Redis, blocking: Redis, scripts: Scripts) -> None:
        self._worker = worker
        self._redis = redis
        self._blocking = blocking
        self._scripts = scripts
        self._started_at = time.time()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._renew()), asyncio.create_task(self._listen())]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def sign_off(self) -> None:
        """Take this worker off the list."""
        keys, worker_id = self._worker.keys, self._worker.options.worker_id
        await self._redis.zrem(keys.workers, worker_id)
        await self._redis.delete(keys.worker(worker_id))

    async def _renew(self) -> None:
        last_beat = 0.0
        failing = False
        while True:
            now = self._worker.loop.time()
            if self._worker.running or now - last_beat >= IDLE_BEAT_S:
                try:
                    await self.beat()
                    last_beat = now
                    failing = False
                except (RedisError, OSError) as exc:
                    if not failing:  # once an outage; it is tried every RETRY_S
                        log.warning("queue.renewal_failed", error=type(exc).__name__, leases=len(self._worker.running))
                    failing = True
                    await asyncio.sleep(RETRY_S)
                    continue
            await asyncio.sleep(RENEW_S)

    async def beat(self) -> None:
        """One renewal of everything held."""
        worker, options, runs = self._worker, self._worker.options, self._worker.runs
        held = {job_id: job.token for job_id, job in worker.running.items()}
        beat = Heartbeat(
            id=options.worker_id, pid=os.getpid(), slots=options.slots, running=len(held), version=options.version,
            started_at=self._started_at, at=time.time(), calls=_calls(worker.running.values()),
            capacity=options.capacity,
        )  # fmt: skip
        lost, cancelled = await self._scripts.run(
            "renew",
            options.worker_id,
            options.lease_ms,
            encode(beat),
            BEAT_TTL_MS,
            *(field for pair in held.items() for field in pair),
        )
        for job_id in (raw.decode() for raw in lost):
            # A job settled or claimed anew while the call was under way is not lost.
            if runs.holds(job_id, held[job_id]) and not runs.is_settling(job_id):
                log.warning("job.lease_lost", job_id=job_id)
                runs.stop(job_id, StopReason.LOST)
        for raw in cancelled:
            runs.stop(raw.decode(), StopReason.CANCELLED)

    async def _listen(self) -> None:
        prefix = f"cancel {self._worker.options.worker_id} ".encode()
        while True:
            pubsub = self._blocking.pubsub(ignore_subscribe_messages=True)
            try:
                await pubsub.subscribe(self._worker.keys.control)
                while True:
                    message = await pubsub.get_message(timeout=IDLE_BEAT_S)
                    if message and message["data"].startswith(prefix):
                        self._worker.runs.stop(message["data"][len(prefix) :].decode(), StopReason.CANCELLED)
            except REDIS_GONE:
                await asyncio.sleep(RETRY_S)  # a cancel missed meanwhile comes with the next renewal
            except RedisError:
                log.exception("queue.listen_failed")
                await asyncio.sleep(RENEW_S)
            finally:
                with suppress(RedisError, OSError):
                    await pubsub.aclose()  # type: ignore[no-untyped-call]  # redis-py 5


def _calls(jobs: Iterable[RunningJob]) -> list[tuple[str, str, int]]:
    calls = Counter((job.notes.model, job.notes.backend) for job in jobs if job.notes.model)
    return [(model, backend, count) for (model, backend), count in calls.items()]
