"""Celery with one prefork process and its settings for speed: msgpack, no rate limits, no gossip, a deep prefetch.

Its client blocks, so it has one caller at a time: jobs are enqueued by one, and no round trips are made at once.

Runs in the peer's own environment: `python -m tests.bench.queues.celery_prefork`, see `protocol.md`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace
from typing import Any

from billiard.sharedctypes import Value
from celery import Celery
from celery.signals import task_postrun, worker_ready
from celery.worker import state

from tests.bench.queues.command_line import Options, parse, run, share_out, time_each

PREFETCH = 1000
LOOK_S = 0.01


def _app(options: Options) -> tuple[Any, Any]:
    """The application and its task."""
    app = Celery("bench", broker=options.redis, backend=options.redis)
    app.conf.update(
        task_serializer="msgpack",
        result_serializer="msgpack",
        accept_content=["msgpack"],
        result_expires=3600,
        task_send_sent_event=False,
        worker_send_task_events=False,
        worker_disable_rate_limits=True,
        worker_prefetch_multiplier=PREFETCH,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,  # what it prints is the answer
        broker_connection_retry_on_startup=True,
    )

    @app.task(name="noop")  # type: ignore[untyped-decorator] # Celery is not installed where types are checked
    def noop(body: dict[str, str]) -> None:
        """The job: nothing, so that only the queue is measured."""

    return app, noop


def _worker(app: Any) -> Any:
    return app.Worker(
        pool="prefork", concurrency=1, without_gossip=True, without_mingle=True, without_heartbeat=True,
        optimization="fair", loglevel="ERROR", quiet=True,
    )  # fmt: skip


class CeleryPrefork:
    """See `protocol.md`."""

    async def enqueue(self, options: Options) -> dict[str, float]:
        app, task = _app(options)
        body = {"text": options.text}
        with app.producer_pool.acquire(block=True) as producer:
            one_caller = replace(options, callers=1)
            took_s = await share_out(one_caller, lambda: _at_once(task.apply_async((body,), producer=producer)))
        return {"per_s": options.jobs / took_s}

    async def drain(self, options: Options) -> dict[str, float]:
        app, _ = _app(options)
        done: Any = Value("i", 0, lock=False)
        times: dict[str, float] = {}

        def count(**_: Any) -> None:
            # In the one pool process, after the result was stored; the memory is shared with this one.
            done.value += 1

        def ready(**_: Any) -> None:
            times["started"] = time.perf_counter()

        def watch() -> None:
            while done.value < options.jobs:
                time.sleep(LOOK_S)
            times["ended"] = time.perf_counter()
            # Read by the worker's loop, which then leaves in good order.
            state.should_stop = 0

        task_postrun.connect(count, weak=False)
        worker_ready.connect(ready, weak=False)
        worker = _worker(app)
        threading.Thread(target=watch, daemon=True).start()
        worker.start()
        return {"per_s": options.jobs / (times["ended"] - times["started"])}

    async def work(self, options: Options) -> None:
        app, _ = _app(options)

        def ready(**_: Any) -> None:
            print('{"ready": true}', flush=True)

        worker_ready.connect(ready, weak=False)
        _worker(app).start()

    async def roundtrip(self, options: Options) -> dict[str, float]:
        _, task = _app(options)
        body = {"text": options.text}
        return await time_each(replace(options, callers=1), lambda: _at_once(task.delay(body).get(timeout=30)))


async def _at_once(_: object) -> None:
    """Celery's call has been made by the time there is anything to await."""


if __name__ == "__main__":
    asyncio.run(run(CeleryPrefork(), parse()))
