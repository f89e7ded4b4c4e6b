"""Fills a queue, and times enqueue and claim on a queue that stays as deep as it is.

    python -m tests.bench.depth_probe fill --redis URL --jobs N     -> {"overhead_bytes"}
    python -m tests.bench.depth_probe probe --redis URL --jobs N    -> {"enqueue_p50_ms", ..., "claim_p99_ms"}

Both print one line of JSON. The claims are those of the real worker, with one free slot.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import defaultdict
from typing import Any

import uvloop

from shared.jobs import Kind, NewJob, State
from shared.lua import Field
from shared.queue.arrivals import Accepted
from shared.queue.client import QueueClient
from shared.queue.connection import connect
from shared.queue.engine import EngineOptions, QueueWorker
from shared.queue.running import RunningJob
from shared.queue.scripts import Scripts
from shared.settings import BaseServiceSettings
from shared.wire.canonical import ChatRequest, Message, TextAnswer
from shared.wire.codec import encode, encode_job
from tests.bench.figures import percentile

TENANTS, MODELS = 20, 4
TEXT_BYTES = 1024
CHUNK = 250
TIMEOUT_S = 24 * 3600.0
"""Nothing expires meanwhile."""
WARM_UP_ROUNDS = 50
_ANSWER = encode(TextAnswer(model="noop", content="ok"))


def new_job(number: int) -> NewJob:
    """The tenants and models take turns."""
    model = f"model-{number % MODELS}"
    request = ChatRequest(model=model, messages=[Message(role="user", content="x" * TEXT_BYTES)])
    return NewJob(
        kind=Kind.CHAT, model=model, request=request, tenant=f"tenant-{number % TENANTS}", timeout_s=TIMEOUT_S
    )


async def fill(settings: BaseServiceSettings, jobs: int) -> dict[str, float]:
    """Queue so many jobs; what Redis holds for each of them beyond the payload, bytes."""
    client = await QueueClient.connect(settings)
    before = await _used_bytes(client)
    for first in range(0, jobs, CHUNK):
        chunk = [new_job(number) for number in range(first, min(jobs, first + CHUNK))]
        refused = [each for each in await client.enqueue_many(chunk) if not isinstance(each, Accepted)]
        if refused:
            raise SystemExit(f"refused: {refused[0]}")
    each = (await _used_bytes(client) - before) / jobs
    await client.aclose()
    return {"overhead_bytes": each - _payload_bytes(new_job(0))}


async def _used_bytes(client: QueueClient) -> int:
    # redis-py declares one return type for its blocking and its asynchronous client.
    memory: Any = await client.redis.info("memory")
    return int(memory["used_memory"])


def _payload_bytes(job: NewJob) -> int:
    payload = encode_job(
        job.kind, job.request, restartable=False, enqueued_ms=int(time.time() * 1000), tenant=job.tenant,
        no_store=False, request_id="",
    )  # fmt: skip
    return len(payload)


class TimedScripts(Scripts):
    """Notes how long each script call takes, seen from the process that makes it."""

    took_ms: dict[str, list[float]]

    async def run(self, name: str, *args: Field) -> Any:
        started = time.perf_counter()
        try:
            return await super().run(name, *args)
        finally:
            self.took_ms[name].append((time.perf_counter() - started) * 1000)


class Turnstile:
    """The job: it ends when the next round lets it through."""

    def __init__(self) -> None:
        self._started, self._let_through = asyncio.Semaphore(0), asyncio.Semaphore(0)

    async def job(self, ctx: dict[str, Any], job: RunningJob) -> bytes:
        self._started.release()
        await self._let_through.acquire()
        return _ANSWER

    async def next(self) -> None:
        """End the running job, and wait until the worker has claimed and started another."""
        self._let_through.release()
        await self._started.acquire()

    async def first(self) -> None:
        await self._started.acquire()


async def probe(settings: BaseServiceSettings, rounds: int) -> dict[str, float]:
    """One job in and one out, so many times, ms."""
    client, redis = await QueueClient.connect(settings), connect(settings)
    scripts = TimedScripts(redis, client.keys)
    scripts.took_ms = defaultdict(list)
    turnstile = Turnstile()
    enqueue_ms: list[float] = []
    worker = QueueWorker(
        {Kind.CHAT: turnstile.job},
        redis=redis,
        blocking=connect(settings, socket_timeout_s=30.0),
        shard=settings.queue_shard,
        options=EngineOptions(worker_id="probe", slots=1, handle_signals=False),
        scripts=scripts,
    )
    running = asyncio.create_task(worker.async_run())
    await turnstile.first()
    for number in range(WARM_UP_ROUNDS + rounds):
        if number == WARM_UP_ROUNDS:
            scripts.took_ms.clear()
            enqueue_ms.clear()
        started = time.perf_counter()
        accepted = await client.enqueue(new_job(number))
        enqueue_ms.append((time.perf_counter() - started) * 1000)
        if accepted.state is not State.QUEUED:
            raise SystemExit(f"job {accepted.id} is {accepted.state}")
        await turnstile.next()
    claim_ms = list(scripts.took_ms["claim"])
    running.cancel()
    await asyncio.wait([running])
    await worker.close()
    await client.aclose()
    times = {"enqueue": enqueue_ms, "claim": claim_ms}
    shares = {"p50": 0.5, "p99": 0.99}
    return {f"{what}_{p}_ms": percentile(ms, share) for what, ms in times.items() for p, share in shares.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("fill", "probe"))
    parser.add_argument("--redis", required=True)
    parser.add_argument("--jobs", type=int, required=True)
    given = parser.parse_args()
    settings = BaseServiceSettings(redis_url=given.redis)
    command = {"fill": fill, "probe": probe}[given.command]
    print(json.dumps(uvloop.run(command(settings, given.jobs))))


if __name__ == "__main__":
    main()
