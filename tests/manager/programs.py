"""Managers as processes before a simulator, and what their tests ask of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from infra.simulator import Simulator, running
from shared.queue.client import QueueClient
from shared.queue.connection import connect
from shared.settings import BaseServiceSettings
from tests.house.redis_server import free_port
from tests.integration.processes import Program

MODELS = ("llama3.2", "mistral", "phi3", "nomic-embed-text")
Body = dict[str, Any]


class ManagerProgram(Program):
    """`python -m manager`, and a client of its pages. An async context manager; `kill` may come before its end."""

    def __init__(self, folder: Path, redis_url: str, *hosts: str, **settings: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        ours = {
            "MANAGER_PORT": str(port),
            "REDIS_URL": redis_url,
            "OLLAMA_BASE_URLS": ",".join(hosts),
            "MEMORY_CLEANUP_INTERVAL": "1",
            "LOG_FORMAT": "json",
        }
        folder.mkdir(exist_ok=True)
        super().__init__("manager", (), {**ours, **settings}, folder, self.url + "/health/live")

    async def __aenter__(self) -> ManagerProgram:
        self.start()
        try:
            self.wait(30.0)
        except BaseException:
            self.stop()
            raise
        self.http = httpx.AsyncClient(base_url=self.url, timeout=40.0, trust_env=False)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.http.aclose()
        self.stop()

    async def read(self, path: str, **query: Any) -> Body:
        answer = await self.http.get(path, params=query)
        assert answer.status_code == 200, answer.text
        body: Body = answer.json()
        return body

    async def order(self, path: str, **fields: Any) -> Body:
        """Post; the body of a 200 or 202."""
        answer = await self.http.post(path, json=fields)
        assert answer.status_code in (200, 202), answer.text
        body: Body = answer.json()
        return body

    async def ended(self, operation_id: str) -> Body:
        """The operation once it has ended."""
        while True:
            operation = await self.read(f"/models/operations/{operation_id}", wait=20)
            if operation["finished_at"] is not None:
                return operation

    async def done(self, path: str, **fields: Any) -> Body:
        """Post, and the operation once it has ended."""
        return await self.ended((await self.order(path, **fields))["id"])

    async def loaded(self) -> set[str]:
        return {model["name"] for model in (await self.read("/models"))["models"] if model["loaded_on"]}

    async def leads(self) -> bool:
        return bool((await self.read("/leader"))["is_me"])


@asynccontextmanager
async def simulator(**options: Any) -> AsyncIterator[Simulator]:
    """A model server with room for eight models, which it loads in an instant."""
    quick = {"load_seconds": 0.05, "ready_poll_seconds": 0.05, "max_loaded_models": 8, "models": MODELS, "port": 0}
    async with running(**{**quick, **options}) as server:
        yield server


@asynccontextmanager
async def queue_client(url: str, shard: str = "gw") -> AsyncIterator[QueueClient]:
    client = QueueClient(connect(BaseServiceSettings(redis_url=url)), shard)
    try:
        yield client
    finally:
        await client.aclose()
