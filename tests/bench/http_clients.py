"""One HTTP client on one event loop, against the stub upstream.

    python -m tests.bench.http_clients aiohttp-uvloop --url URL    -> {"one_p50_ms", "many_per_s", "lines_per_s"}

Both libraries get a pool as large as the calls at once, read whole answers as bytes and streams line by line, which is
what a worker does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import aiohttp
import httpx
import uvloop

from tests.bench.figures import percentile
from tests.bench.workbench import chat_body

AT_ONCE, STREAMS = 64, 16
WARM_UP_S = 0.5
STREAM_LINES = 251
"""250 tokens and the end."""
PATH = "/api/chat"

Answer = Callable[[bytes], Awaitable[int]]
"""Posts a body and reads the whole answer; how many lines it had."""


class AiohttpClient:
    """See the module."""

    def __init__(self, url: str) -> None:
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=AT_ONCE))
        self._url = url + PATH

    async def answer(self, body: bytes) -> int:
        async with self._session.post(self._url, data=body, headers={"content-type": "application/json"}) as answer:
            answer.raise_for_status()
            return len((await answer.read()).splitlines())

    async def stream(self, body: bytes) -> int:
        async with self._session.post(self._url, data=body, headers={"content-type": "application/json"}) as answer:
            answer.raise_for_status()
            return len([line async for line in answer.content])

    def open(self) -> AbstractAsyncContextManager[Any]:
        return self._session


class HttpxClient:
    """See the module."""

    def __init__(self, url: str) -> None:
        limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
        self._client = httpx.AsyncClient(limits=limits, timeout=30.0, trust_env=False)
        self._url = url + PATH

    async def answer(self, body: bytes) -> int:
        answer = await self._client.post(self._url, content=body, headers={"content-type": "application/json"})
        return len(answer.raise_for_status().content.splitlines())

    async def stream(self, body: bytes) -> int:
        headers = {"content-type": "application/json"}
        async with self._client.stream("POST", self._url, content=body, headers=headers) as answer:
            answer.raise_for_status()
            return len([line async for line in answer.aiter_lines()])

    def open(self) -> AbstractAsyncContextManager[Any]:
        return self._client


LIBRARIES: dict[str, type[AiohttpClient] | type[HttpxClient]] = {"aiohttp": AiohttpClient, "httpx": HttpxClient}
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "uvloop": uvloop.new_event_loop,
    "asyncio": asyncio.new_event_loop,
}


async def per_second(once: Callable[[], Awaitable[int]], callers: int, seconds: float) -> tuple[float, float]:
    """(calls, lines) a second of so many callers, each one call after the other."""
    started, calls, lines = time.perf_counter(), 0, 0

    async def caller() -> None:
        nonlocal calls, lines
        while time.perf_counter() < started + seconds:
            lines += await once()
            calls += 1

    await asyncio.gather(*(caller() for _ in range(callers)))
    took_s = time.perf_counter() - started
    return calls / took_s, lines / took_s


async def measure(library: str, url: str, one: int, seconds: float) -> dict[str, float]:
    client = LIBRARIES[library](url)
    chat = json.dumps(chat_body("noop")).encode()
    flat = json.dumps(chat_body(f"flat-{STREAM_LINES - 1}", stream=True)).encode()
    async with client.open():
        # First: with connections left over from many calls at once, httpx takes ten times as long for one.
        await per_second(lambda: client.answer(chat), 1, WARM_UP_S)
        took_ms = []
        for _ in range(one):
            started = time.perf_counter()
            await client.answer(chat)
            took_ms.append((time.perf_counter() - started) * 1000)
        await per_second(lambda: client.answer(chat), AT_ONCE, WARM_UP_S)
        calls, _ = await per_second(lambda: client.answer(chat), AT_ONCE, seconds)
        _, lines = await per_second(lambda: client.stream(flat), STREAMS, seconds)
    return {"one_p50_ms": percentile(took_ms, 0.5), "many_per_s": calls, "lines_per_s": lines}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pair", choices=[f"{library}-{loop}" for library in LIBRARIES for loop in LOOPS])
    parser.add_argument("--url", required=True)
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=3.0)
    given = parser.parse_args()
    library, loop = given.pair.split("-")
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        print(json.dumps(runner.run(measure(library, given.url, given.requests, given.seconds))))


if __name__ == "__main__":
    main()
