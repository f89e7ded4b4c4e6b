"""A plain client of a simulator, for its tests."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp

from infra.simulator import Simulator

INSTANT = {"load_seconds": 0.0, "first_token_seconds": 0.0, "tokens_per_second": 0.0}
"""Options of a simulator that takes no time."""


@dataclass(slots=True)
class Reply:
    """An answer read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.split(b"\n") if line]

    @property
    def text(self) -> str:
        """All content of an NDJSON chat or generate answer, joined."""
        return "".join(line["message"]["content"] if "message" in line else line["response"] for line in self.lines)


class Api:
    """Calls one simulator over HTTP."""

    def __init__(self, simulator: Simulator, session: aiohttp.ClientSession) -> None:
        self.simulator = simulator
        self._session = session

    async def call(self, method: str, path: str, body: object = None, **headers: str) -> Reply:
        """`headers` in snake case: `x_sim_fault=...`."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self._session.request(method, self.simulator.url + path, data=data, headers=sent) as response:
            return Reply(response.status, {k.lower(): v for k, v in response.headers.items()}, await response.read())

    async def post(self, path: str, body: object, **headers: str) -> Reply:
        return await self.call("POST", path, body, **headers)

    async def get(self, path: str) -> Reply:
        return await self.call("GET", path)

    async def chat(self, text: str = "hello", *, model: str = "llama3.2", **fields: object) -> Reply:
        messages = [{"role": "user", "content": text}]
        return await self.post("/api/chat", {"model": model, "messages": messages, **fields})

    async def generate(self, text: str = "hello", *, model: str = "llama3.2", **fields: object) -> Reply:
        return await self.post("/api/generate", {"model": model, "prompt": text, **fields})

    async def loaded(self) -> list[str]:
        return [model["name"] for model in (await self.get("/api/ps")).json["models"]]

    async def events(self, event: str) -> list[dict[str, Any]]:
        calls = (await self.get("/_sim/calls")).json["calls"]
        return [call for call in calls if call["event"] == event]

    async def timed_lines(self, path: str, body: object) -> AsyncIterator[tuple[float, Any]]:
        """Lines with the seconds since the request at which they came."""
        started = time.perf_counter()
        async with self._session.post(self.simulator.url + path, json=body) as response:
            async for line in response.content:
                yield time.perf_counter() - started, json.loads(line)

    def start_chat(self, text: str = "hello", **fields: object) -> asyncio.Task[Reply]:
        """A chat in the background; cancelling the task closes its connection."""
        return asyncio.create_task(self.chat(text, **fields))  # type: ignore[arg-type]  # `model` may be among the fields
