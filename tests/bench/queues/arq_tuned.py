"""arq as fast as its settings allow: 1 ms polling, msgpack, 500 jobs at once, uvloop.

Runs in the peer's own environment: `python -m tests.bench.queues.arq_tuned`, see `protocol.md`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec
import uvloop
from arq import Worker
from arq.connections import ArqRedis, RedisSettings, create_pool

from tests.bench.queues.command_line import Options, parse, run, share_out, time_each

_MSGPACK = {"job_serializer": msgspec.msgpack.Encoder().encode, "job_deserializer": msgspec.msgpack.Decoder().decode}


@dataclass(slots=True, frozen=True, kw_only=True)
class Settings:
    """What arq is told: arguments of its worker and of its pool, and how often a caller looks for a result."""

    worker: Mapping[str, Any] = field(default_factory=dict)
    pool: Mapping[str, Any] = field(default_factory=dict)
    result_poll_s: float


TUNED = Settings(worker={"poll_delay": 0.001, "max_jobs": 500, **_MSGPACK}, pool=_MSGPACK, result_poll_s=0.001)


async def noop(ctx: dict[Any, Any], body: dict[str, str]) -> None:
    """The job: nothing, so that only the queue is measured."""


class ArqQueue:
    """See `protocol.md`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def _worker(self, options: Options, *, burst: bool, on_startup: Any = None) -> Worker:
        redis = RedisSettings.from_dsn(options.redis)
        return Worker([noop], redis_settings=redis, burst=burst, on_startup=on_startup, **self._settings.worker)

    async def _pool(self, options: Options) -> ArqRedis:
        return await create_pool(RedisSettings.from_dsn(options.redis), **self._settings.pool)

    async def enqueue(self, options: Options) -> dict[str, float]:
        pool, body = await self._pool(options), {"text": options.text}
        took_s = await share_out(options, lambda: pool.enqueue_job("noop", body))
        return {"per_s": options.jobs / took_s}

    async def drain(self, options: Options) -> dict[str, float]:
        worker = self._worker(options, burst=True)
        started = time.perf_counter()
        # A burst worker returns when the queue is empty and every job is settled.
        await worker.async_run()
        took_s = time.perf_counter() - started
        if worker.jobs_complete != options.jobs:
            raise SystemExit(f"arq finished {worker.jobs_complete} of {options.jobs} jobs")
        await worker.close()
        return {"per_s": options.jobs / took_s}

    async def work(self, options: Options) -> None:
        async def ready(_: dict[Any, Any]) -> None:
            print('{"ready": true}', flush=True)

        # arq ends a worker that got SIGTERM by cancelling it.
        with suppress(asyncio.CancelledError):
            await self._worker(options, burst=False, on_startup=ready).async_run()

    async def roundtrip(self, options: Options) -> dict[str, float]:
        pool, body = await self._pool(options), {"text": options.text}

        async def once() -> None:
            job = await pool.enqueue_job("noop", body)
            assert job is not None
            await job.result(timeout=30, poll_delay=self._settings.result_poll_s)

        return await time_each(options, once)


if __name__ == "__main__":
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(run(ArqQueue(TUNED), parse()))
