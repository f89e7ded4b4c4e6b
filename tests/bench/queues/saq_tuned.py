"""SAQ with its settings for speed: msgpack, a hundred jobs at once, hiredis, uvloop.

Runs in the peer's own environment: `python -m tests.bench.queues.saq_tuned`, see `protocol.md`.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from typing import Any

import msgspec
import uvloop
from redis.asyncio import Redis
from saq import Worker
from saq.job import TERMINAL_STATUSES
from saq.queue.redis import RedisQueue

from tests.bench.queues.command_line import Options, parse, run, share_out, time_each

CONCURRENCY = 100
"""Each free place waits for a job on a connection of its own: of 20, 50, 100, 200 and 500 the fastest was taken."""
MAX_CONNECTIONS = 1000
MAX_CONCURRENT_OPS = 200
"""Redis calls at once; SAQ's own limit of 20 would hold back 50 callers."""
_encode, _decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder().decode


async def noop(ctx: dict[str, Any], *, body: dict[str, str]) -> None:
    """The job: nothing, so that only the queue is measured."""


def _queue(options: Options) -> Any:
    redis: Any = Redis.from_url(options.redis, max_connections=MAX_CONNECTIONS)
    return RedisQueue(redis, name="bench", dump=_encode, load=_decode, max_concurrent_ops=MAX_CONCURRENT_OPS)


def _worker(queue: Any, **hooks: Callable[[dict[str, Any]], Any]) -> Any:
    return Worker(queue, [noop], concurrency=CONCURRENCY, **hooks)


class SaqTuned:
    """See `protocol.md`."""

    async def enqueue(self, options: Options) -> dict[str, float]:
        queue, body = _queue(options), {"text": options.text}
        took_s = await share_out(options, lambda: queue.enqueue("noop", body=body))
        return {"per_s": options.jobs / took_s}

    async def drain(self, options: Options) -> dict[str, float]:
        done = 0

        async def count(_: dict[str, Any]) -> None:
            nonlocal done
            # SAQ calls this hook once the end of a job is in Redis.
            done += 1
            if done == options.jobs:
                worker.event.set()
                ended.set_result(time.perf_counter())

        worker = _worker(_queue(options), after_process=count)
        ended: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        started = time.perf_counter()
        running = asyncio.create_task(worker.start())
        took_s = await ended - started
        await running
        return {"per_s": options.jobs / took_s}

    async def work(self, options: Options) -> None:
        async def ready(_: dict[str, Any]) -> None:
            print('{"ready": true}', flush=True)

        await _worker(_queue(options), startup=ready).start()

    async def roundtrip(self, options: Options) -> dict[str, float]:
        queue, body = _queue(options), {"text": options.text}
        # SAQ ends its subscription with the last listener. One that stays keeps it up, and no end goes unheard.
        staying = asyncio.create_task(queue.listen(["nobody"], lambda *_: False, timeout=None))
        await queue.apply("noop", body=body)

        async def once() -> None:
            key = uuid.uuid4().hex
            ended = asyncio.create_task(queue.listen([key], lambda _, status: status in TERMINAL_STATUSES, timeout=30))
            job = await queue.enqueue("noop", key=key, body=body)
            await ended
            await job.refresh()

        answer = await time_each(options, once)
        staying.cancel()
        return answer


if __name__ == "__main__":
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(run(SaqTuned(), parse()))
