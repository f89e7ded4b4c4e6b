"""The queue's parts on a real server, for tests: jobs, job functions, workers that end with the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from shared.errors import ErrorRecord
from shared.jobs import Kind, NewJob
from shared.lua import Field
from shared.queue.admission import QueueLimits
from shared.queue.client import QueueClient
from shared.queue.connection import connect
from shared.queue.cron import CronEntry
from shared.queue.engine import EngineOptions, QueueWorker
from shared.queue.fleet import Capacity
from shared.queue.keys import Keys
from shared.queue.plans import Planner
from shared.queue.running import JobFunction, RunningJob
from shared.queue.scripts import Scripts
from shared.settings import BaseServiceSettings
from shared.wire.canonical import ChatRequest, Message, TextAnswer
from shared.wire.codec import encode

ANSWER = encode(TextAnswer(model="llama3.2", content="ok"))
LEASE_MS = 8000
HORIZON_MS = 1000
LINE = "t:llama3.2"
"""That `chat` jobs wait in."""


def settings_for(url: str, **fields: Any) -> BaseServiceSettings:
    return BaseServiceSettings(redis_url=url, **fields)


def chat(text: str = "hi", **fields: Any) -> NewJob:
    """A small chat job; `fields` as in NewJob."""
    request = ChatRequest(model="llama3.2", messages=[Message(role="user", content=text)])
    return NewJob(kind=Kind.CHAT, model=request.model, request=request, **fields)


async def answer(ctx: dict[str, Any], job: RunningJob) -> bytes:
    """A job function that succeeds at once."""
    job.request()
    return ANSWER


class Gate:
    """A job function that notes who came, and lets them pass once it is open."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.stopped: list[str] = []
        self._open = asyncio.Event()

    async def run(self, ctx: dict[str, Any], job: RunningJob) -> bytes:
        self.started.append(job.id)
        try:
            await self._open.wait()
        except asyncio.CancelledError:
            self.stopped.append(job.id)
            raise
        return ANSWER

    def open(self) -> None:
        self._open.set()


@asynccontextmanager
async def queue_client(url: str, *, depth_limit: int = 0) -> AsyncIterator[QueueClient]:
    client = await QueueClient.connect(settings_for(url), limits=QueueLimits(depth=depth_limit))
    try:
        yield client
    finally:
        await client.aclose()


@asynccontextmanager
async def working(
    url: str,
    function: JobFunction = answer,
    *,
    worker_id: str = "w1",
    slots: int = 5,
    lease_ms: int = LEASE_MS,
    drain_s: float = 1.0,
    settings: BaseServiceSettings | None = None,
    scripts: Callable[[Scripts], Scripts] = lambda scripts: scripts,
    on_settled: Callable[[RunningJob, str, float, ErrorRecord | None], None] | None = None,
    cron: Sequence[CronEntry] = (),
    planner: Planner | None = None,
    capacity: Capacity | None = None,
) -> AsyncIterator[QueueWorker]:
    """A running worker; left, it hands its jobs back and signs off. `scripts` may wrap the ones it runs."""
    settings = settings or settings_for(url)
    redis = connect(settings)
    keys = Keys(settings.queue_shard)
    worker = QueueWorker(
        dict.fromkeys(Kind, function),
        redis=redis,
        blocking=connect(settings, socket_timeout_s=15.0),
        shard=settings.queue_shard,
        options=EngineOptions(
            worker_id=worker_id, slots=slots, lease_ms=lease_ms, drain_s=drain_s, handle_signals=False,
            on_settled=on_settled, capacity=capacity,
        ),
        scripts=scripts(Scripts(redis, keys)),
        cron=cron,
        planner=planner,
    )  # fmt: skip
    task = asyncio.create_task(worker.async_run())
    try:
        yield worker
    finally:
        await worker.close()
        with suppress(asyncio.CancelledError):
            await task


class Claimed:
    """One row of a claim's answer, by name."""

    def __init__(self, row: list[Any]) -> None:
        self.id: str = row[0].decode()
        self.token: str = row[1].decode()
        self.payload: bytes = row[2]
        self.attempt: int = row[3]
        self.failures: int = row[4]
        self.created_ms: int = row[5]
        self.deadline_ms: int = row[6]
        self.now_ms: int = row[7]
        self.host: str = row[10].decode().partition("|")[0]
        self.batch: int = row[11]


async def claim(
    scripts: Scripts, count: int = 1, *, worker: str = "ghost", seed: str = "seed", lease_ms: int = LEASE_MS,
    plan: bytes = b"",
) -> list[Claimed]:  # fmt: skip
    """Claim by hand, as a worker would that then never renews."""
    _, _, *rows = await scripts.run("claim", worker, seed, count, lease_ms, HORIZON_MS, plan, "")
    return [Claimed(row) for row in rows]


async def settle(
    scripts: Scripts, job_id: str, token: str, verdict: str = "succeeded", *, error: bytes = b"", result: bytes = b"",
    delay_ms: int = 0,
) -> bytes:  # fmt: skip
    """Settle one run by hand; the script's reply."""
    row: tuple[Field, ...] = (job_id, token, verdict, error, result, delay_ms, b"")
    reply: list[bytes] = await scripts.run("settle", *row)
    return reply[0]


async def publish(scripts: Scripts, job: Claimed, seq: int, chunk: bytes = b"\x90", *, token: str = "") -> bytes:
    reply: list[bytes] = await scripts.run("publish", job.id, token or job.token, job.attempt, seq, chunk)
    return reply[0]


async def renew(
    scripts: Scripts, *held: tuple[str, str], worker: str = "ghost", lease_ms: int = LEASE_MS
) -> tuple[list[str], list[str]]:
    """(lost, to cancel)."""
    fields = [field for pair in held for field in pair]
    lost, cancelled = await scripts.run("renew", worker, lease_ms, b"beat", 15000, *fields)
    return [raw.decode() for raw in lost], [raw.decode() for raw in cancelled]


async def counter(client: QueueClient, name: str) -> int:
    return int(await client.redis.hget(client.keys.counters, name) or 0)  # type: ignore[misc]  # redis-py 5 types it as either
