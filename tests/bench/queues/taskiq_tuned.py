"""taskiq on a Redis list with its settings for speed: msgpack, 500 tasks at once, no check of parameters, uvloop.

A list has no acknowledgement: what a worker that dies had taken is lost, which the other queues here pay not to happen.

Runs in the peer's own environment: `python -m tests.bench.queues.taskiq_tuned`, see `protocol.md`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import uvloop
from taskiq import TaskiqMiddleware
from taskiq.api import run_receiver_task
from taskiq.serializers import MSGPackSerializer
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

from tests.bench.queues.command_line import Options, parse, run, share_out, time_each

MAX_TASKS = 500
RESULT_TTL_S = 3600
LOOK_S = 0.001
"""How often a caller looks for its result; taskiq's own 0.2 s would be all that is measured."""


async def noop(body: dict[str, str]) -> None:
    """The job: nothing, so that only the queue is measured."""


class _Count(TaskiqMiddleware):  # type: ignore[misc] # taskiq is not installed where types are checked
    """Calls `on_saved` once a task's result is in Redis."""

    def __init__(self, on_saved: Callable[[], None]) -> None:
        super().__init__()
        self._on_saved = on_saved

    def post_save(self, message: Any, result: Any) -> None:
        self._on_saved()


def _broker(options: Options) -> tuple[Any, Any]:
    """A broker and the task that it knows."""
    serializer = MSGPackSerializer()
    results: Any = RedisAsyncResultBackend(options.redis, result_ex_time=RESULT_TTL_S, serializer=serializer)
    broker = ListQueueBroker(options.redis).with_result_backend(results).with_serializer(serializer)
    return broker, broker.register_task(noop, task_name="noop")


def _receive(broker: Any) -> asyncio.Task[None]:
    return asyncio.create_task(
        run_receiver_task(
            broker, max_async_tasks=MAX_TASKS, max_prefetch=MAX_TASKS, validate_params=False, run_startup=True
        )
    )


async def _end(receiving: asyncio.Task[None]) -> None:
    receiving.cancel()
    with suppress(asyncio.CancelledError):
        await receiving


class TaskiqTuned:
    """See `protocol.md`."""

    async def enqueue(self, options: Options) -> dict[str, float]:
        _, task = _broker(options)
        body = {"text": options.text}
        took_s = await share_out(options, lambda: task.kiq(body))
        return {"per_s": options.jobs / took_s}

    async def drain(self, options: Options) -> dict[str, float]:
        done, ended = 0, asyncio.Event()

        def count() -> None:
            nonlocal done
            done += 1
            if done == options.jobs:
                ended.set()

        broker, _ = _broker(options)
        broker.add_middlewares(_Count(count))
        started = time.perf_counter()
        receiving = _receive(broker)
        await ended.wait()
        took_s = time.perf_counter() - started
        await _end(receiving)
        return {"per_s": options.jobs / took_s}

    async def work(self, options: Options) -> None:
        receiving = _receive(_broker(options)[0])
        print('{"ready": true}', flush=True)
        await receiving

    async def roundtrip(self, options: Options) -> dict[str, float]:
        _, task = _broker(options)
        body = {"text": options.text}

        async def once() -> None:
            sent = await task.kiq(body)
            result = await sent.wait_result(check_interval=LOOK_S, timeout=30)
            result.raise_for_error()

        return await time_each(options, once)


if __name__ == "__main__":
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(run(TaskiqTuned(), parse()))
