"""The monitor as a process, and what its tests ask of it."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from shared.jobs import Kind, NewJob, Priority
from shared.queue.client import QueueClient
from shared.wire.canonical import ChatRequest, Message
from tests.arriero.daemon import Daemon
from tests.house.redis_server import free_port

QUICK = {"MONITOR_INTERVAL": "200ms", "ALERT_DURATION": "300ms", "ALERT_CLEAR_DURATION": "300ms"}


@asynccontextmanager
async def monitor(redis_url: str, **settings: str) -> AsyncIterator[httpx.AsyncClient]:
    """A monitor, and a client of its pages; afterwards it must have ended well."""
    nobody = f"http://127.0.0.1:{free_port()}"
    environment = {"MONITOR_PORT": "0", "REDIS_URL": redis_url, "OLLAMA_BASE_URL": nobody, **QUICK, **settings}
    async with (
        Daemon([sys.executable, "-m", "monitor"], environment) as daemon,
        httpx.AsyncClient(base_url=daemon.url, timeout=10, trust_env=False) as http,
    ):
        yield http
    assert daemon.status == 0, daemon.output.decode()


@asynccontextmanager
async def simulator() -> AsyncIterator[str]:
    """A model server with mistral alone; its address."""
    arguments = ["--port", "0", "--models", "mistral"]
    async with Daemon([sys.executable, "-m", "infra.simulator", *arguments], {}) as daemon:
        yield daemon.url


async def enqueue(
    queue: QueueClient, jobs: int = 1, *, model: str = "mistral", priority: Priority = Priority.LOW
) -> None:
    request = ChatRequest(model=model, messages=[Message(role="user", content="x")])
    for _ in range(jobs):
        await queue.enqueue(NewJob(kind=Kind.CHAT, model=model, request=request, priority=priority))


async def get(http: httpx.AsyncClient, path: str) -> Any:
    return (await http.get(path)).raise_for_status().json()


async def active(http: httpx.AsyncClient) -> dict[str, str]:
    """Alert -> its state."""
    return {alert["alert"]: alert["state"] for alert in (await get(http, "/alerts"))["active"]}
