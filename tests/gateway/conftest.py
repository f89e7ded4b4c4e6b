"""A gateway on a real server, and a worker whose jobs the test itself writes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from gateway.app import Gateway
from gateway.settings import GatewaySettings
from shared.jobs import Kind
from shared.queue.client import QueueClient
from shared.queue.connection import connect
from shared.queue.engine import EngineOptions, QueueWorker
from shared.queue.running import RunningJob
from shared.wire.canonical import Delta, TextAnswer, Usage
from shared.wire.codec import encode

NOBODY = "http://127.0.0.1:9"
"""A port on which nothing listens: the catalogue then knows no models, and every name is accepted."""
CHAT = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}]}

JobScript = Callable[[RunningJob], Awaitable[bytes]]
StartGateway = Callable[..., Awaitable["Served"]]


def settings_for(redis_url: str, **overrides: Any) -> GatewaySettings:
    values: dict[str, Any] = {
        "redis_url": redis_url,
        "gateway_port": 0,
        "ollama_base_urls": [NOBODY],
        "log_level": "WARNING",
        "drain_timeout": 2.0,
        **overrides,
    }
    return GatewaySettings(_env_file=None, **values)


@dataclass
class Served:
    """A running gateway and a client of it."""

    gateway: Gateway
    http: httpx.AsyncClient

    @property
    def port(self) -> int:
        return self.gateway.port

    @property
    def queue(self) -> QueueClient:
        assert self.gateway.services is not None
        return self.gateway.services.queue

    async def chat(self, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
        return await self.http.post("/v1/chat/completions", json={**CHAT, **more}, headers=headers)


@pytest.fixture
async def start_gateway(redis_url: str) -> AsyncIterator[StartGateway]:
    """`await start_gateway(setting=value)`; every gateway ends with the test."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(**overrides: Any) -> Served:
            gateway = Gateway(settings_for(overrides.pop("redis_url", redis_url), **overrides))
            await gateway.start()
            stack.push_async_callback(gateway.stop)
            http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.port}", timeout=20)
            await stack.enter_async_context(http)
            return Served(gateway, http)

        yield start


@pytest.fixture
async def served(start_gateway: StartGateway) -> Served:
    return await start_gateway()


async def say(job: RunningJob, text: str, *, pause_s: float = 0.0) -> bytes:
    """Answer word by word, as a model would."""
    words = [word if index == 0 else f" {word}" for index, word in enumerate(text.split(" "))]
    for word in words:
        job.publish(Delta(content=word))
        await asyncio.sleep(pause_s)
    return answer(text)


def answer(text: str, *, model: str = "llama3.2:latest") -> bytes:
    return encode(TextAnswer(model=model, content=text, usage=Usage(prompt_tokens=3, completion_tokens=5)))


async def hello(job: RunningJob) -> bytes:
    return await say(job, "Hello from the other side")


class HandWorker:
    """A real queue worker that runs `script` for every job."""

    def __init__(self, redis_url: str, **overrides: Any) -> None:
        self.script: JobScript = hello
        self.ran: list[str] = []
        self.stopped: list[str] = []
        settings = settings_for(redis_url, **overrides)

        async def run(ctx: dict[str, Any], job: RunningJob) -> bytes:
            self.ran.append(job.id)
            try:
                return await self.script(job)
            except asyncio.CancelledError:
                self.stopped.append(job.id)
                raise

        self.engine = QueueWorker(
            dict.fromkeys(Kind, run),
            redis=connect(settings),
            blocking=connect(settings, socket_timeout_s=15.0),
            shard=settings.queue_shard,
            options=EngineOptions(worker_id="hand", slots=8, drain_s=1.0, handle_signals=False),
        )


@pytest.fixture
async def worker(redis_url: str) -> AsyncIterator[HandWorker]:
    hand = HandWorker(redis_url)
    async with working(hand):
        yield hand


@contextlib.asynccontextmanager
async def working(hand: HandWorker) -> AsyncIterator[None]:
    """The worker works until the block ends."""
    task = asyncio.create_task(hand.engine.main())
    yield
    while not task.done():
        # A cancellation that meets the reply of a blocking Redis call can be lost in the timeout around it.
        task.cancel()
        await asyncio.wait({task}, timeout=0.2)
    with warnings.catch_warnings():
        # arq calls a method that redis-py has renamed.
        warnings.simplefilter("ignore", DeprecationWarning)
        await hand.engine.close()


def frames(text: str) -> list[dict[str, Any]]:
    """The JSON frames of an OpenAI stream, without the end mark."""
    return [
        json.loads(line.removeprefix("data: "))
        for line in text.splitlines()
        if line.startswith("data: ") and line != "data: [DONE]"
    ]


def streamed_text(text: str) -> str:
    return "".join(
        choice["delta"].get("content") or "" for frame in frames(text) for choice in frame.get("choices", ())
    )
