"""Arriero's own queue with all its safety on: leases, fences, records, deadlines.

`python -m tests.bench.queues.arriero_queue`, see `protocol.md`.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

import uvloop

from shared.jobs import Kind, NewJob, State
from shared.queue.client import QueueClient
from shared.queue.connection import connect
from shared.queue.engine import EngineOptions, QueueWorker
from shared.queue.running import RunningJob
from shared.settings import BaseServiceSettings
from shared.wire.canonical import ChatRequest, Message, TextAnswer
from shared.wire.codec import encode
from tests.bench.queues.command_line import Options, parse, run, share_out, time_each

SLOTS = 500
"""As many as the other peers run at once."""
DRAIN_LOOK_S = 0.01
INBOX = "bench"
_ANSWER = encode(TextAnswer(model="noop", content="ok"))


async def noop(ctx: dict[str, Any], job: RunningJob) -> bytes:
    """The job: decode the request, as every real one does, and answer."""
    job.request()
    return _ANSWER


def _settings(options: Options) -> BaseServiceSettings:
    return BaseServiceSettings(redis_url=options.redis)


def _worker(settings: BaseServiceSettings, *, handle_signals: bool) -> QueueWorker:
    return QueueWorker(
        {Kind.CHAT: noop},
        redis=connect(settings),
        blocking=connect(settings, socket_timeout_s=30.0),
        shard=settings.queue_shard,
        options=EngineOptions(worker_id="bench", slots=SLOTS, handle_signals=handle_signals),
    )


class ReplyReader:
    """Reads one inbox stream as a gateway does, and wakes whoever waits for a job's end."""

    def __init__(self, client: QueueClient, settings: BaseServiceSettings) -> None:
        self._client = client
        self._blocking = connect(settings, socket_timeout_s=30.0)
        self._last = b"0"
        self._waiting: dict[str, asyncio.Future[dict[bytes, bytes]]] = {}

    async def open(self) -> None:
        """Make the inbox: workers never do, so that a dead gateway's is not made anew."""
        self._last = await self._client.redis.xadd(self._client.keys.inbox(INBOX), {"t": "hello"})

    async def run(self) -> None:
        inbox, last = self._client.keys.inbox(INBOX), self._last
        while True:
            for _, entries in await self._blocking.xread({inbox: last}, count=500, block=5000):
                for entry_id, fields in entries:
                    last = entry_id
                    waiter = self._waiting.pop(fields[b"j"].decode(), None) if fields[b"t"] == b"e" else None
                    if waiter is not None:
                        waiter.set_result(fields)

    async def end_of(self, job: NewJob) -> None:
        """Enqueue the job and wait for its end."""
        waiter: asyncio.Future[dict[bytes, bytes]] = asyncio.get_running_loop().create_future()
        self._waiting[job.id] = waiter
        await self._client.enqueue(job)
        ended = await waiter
        if ended[b"s"] != State.SUCCEEDED.encode() or not ended[b"d"]:
            raise SystemExit(f"job {job.id} ended as {ended}")


class ArrieroQueue:
    """See `protocol.md`."""

    async def enqueue(self, options: Options) -> dict[str, float]:
        client = await QueueClient.connect(_settings(options))
        request = _request(options)
        took_s = await share_out(options, lambda: client.enqueue(_job(request)))
        await client.aclose()
        return {"per_s": options.jobs / took_s}

    async def drain(self, options: Options) -> dict[str, float]:
        settings = _settings(options)
        client, worker = await QueueClient.connect(settings), _worker(settings, handle_signals=False)
        started = time.perf_counter()
        running = asyncio.create_task(worker.async_run())
        # Every unfinished job has an alarm; the last settlement takes the last alarm away.
        while await client.redis.zcard(client.keys.alarms):
            await asyncio.sleep(DRAIN_LOOK_S)
            if running.done():
                await running
        took_s = time.perf_counter() - started
        done = (await client.stats()).counters.get(State.SUCCEEDED, 0)
        if done != options.jobs:
            raise SystemExit(f"Arriero finished {done} of {options.jobs} jobs")
        await _end(running)
        await worker.close()
        await client.aclose()
        return {"per_s": options.jobs / took_s}

    async def work(self, options: Options) -> None:
        worker = _worker(_settings(options), handle_signals=True)
        print('{"ready": true}', flush=True)
        # arq ends a worker that got SIGTERM by cancelling it.
        with suppress(asyncio.CancelledError):
            await worker.async_run()
        await worker.close()

    async def roundtrip(self, options: Options) -> dict[str, float]:
        settings = _settings(options)
        client = await QueueClient.connect(settings)
        replies = ReplyReader(client, settings)
        await replies.open()
        reading = asyncio.create_task(replies.run())
        request = _request(options)
        answer = await time_each(options, lambda: replies.end_of(_job(request, reply_to=INBOX)))
        reading.cancel()
        await client.aclose()
        return answer


async def _end(running: asyncio.Task[None]) -> None:
    # On Python 3.11 asyncio.wait_for swallows a cancellation that comes together with its result: ask until heard.
    while not running.done():
        running.cancel()
        await asyncio.wait([running], timeout=0.1)


def _request(options: Options) -> ChatRequest:
    return ChatRequest(model="noop", messages=[Message(role="user", content=options.text)])


def _job(request: ChatRequest, reply_to: str = "") -> NewJob:
    return NewJob(kind=Kind.CHAT, model=request.model, request=request, reply_to=reply_to)


if __name__ == "__main__":
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(run(ArrieroQueue(), parse()))
