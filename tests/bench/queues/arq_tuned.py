"""arq as fast as its settings allow: 1 ms polling, msgpack, 500 jobs at once, uvloop.

Runs in the peer's own environment: `python -m tests.bench.queues.arq_tuned`, see `protocol.md`.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

import msgspec
import uvloop
from arq import Worker
from arq.connections import ArqRedis, RedisSettings, create_pool

from tests.bench.queues.command_line import Options, parse, run, share_out, time_each

POLL_S = 0.001
MAX_JOBS = 500
_encode, _decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder().decode


async def noop(ctx: dict[Any, Any], body: dict[str, str]) -> None:
    """The job: nothing, so that only the queue is measured."""


def _worker(options: Options, *, burst: bool, on_startup: Any = None) -> Worker:
    return Worker(
        functions=[noop],
        redis_settings=RedisSettings.from_dsn(options.redis),
        poll_delay=POLL_S,
        max_jobs=MAX_JOBS,
        burst=burst,
        on_startup=on_startup,
        job_serializer=_encode,
        job_deserializer=_decode,
    )


class ArqTuned:
    """See `protocol.md`."""

    async def _pool(self, options: Options) -> ArqRedis:
        settings = RedisSettings.from_dsn(options.redis)
        return await create_pool(settings, job_serializer=_encode, job_deserializer=_decode)

    async def enqueue(self, options: Options) -> dict[str, float]:
        pool, body = await self._pool(options), {"text": options.text}
        took_s = await share_out(options, lambda: pool.enqueue_job("noop", body))
        return {"per_s": options.jobs / took_s}

    async def drain(self, options: Options) -> dict[str, float]:
        worker = _worker(options, burst=True)
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
            await _worker(options, burst=False, on_startup=ready).async_run()

    async def roundtrip(self, options: Options) -> dict[str, float]:
        pool, body = await self._pool(options), {"text": options.text}

        async def once() -> None:
            job = await pool.enqueue_job("noop", body)
            assert job is not None
            await job.result(timeout=30, poll_delay=POLL_S)

        return await time_each(options, once)


if __name__ == "__main__":
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(run(ArqTuned(), parse()))
