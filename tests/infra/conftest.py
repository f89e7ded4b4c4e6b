"""Fixtures of the simulator's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from infra.simulator import running
from tests.infra.simulator_api import INSTANT, Api

Start = Callable[..., Awaitable[Api]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """`await start(parallel=1)`: a simulator with these options, instant where they say nothing."""
    async with AsyncExitStack() as stack:

        async def make(**options: Any) -> Api:
            simulator = await stack.enter_async_context(running(**{**INSTANT, "ready_poll_seconds": 0.01, **options}))
            # Without a limit, since what waits is the simulator's business here.
            connector = aiohttp.TCPConnector(limit=0)
            session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
            return Api(simulator, session)

        yield make


@pytest.fixture
async def api(start: Start) -> Api:
    """A simulator that takes no time, with the default models and a few with special talents."""
    return await start(models="llama3.2,mistral,nomic-embed-text,llava,qwen3,llama2,qwen2.5-coder")
