"""Fixtures for every test: a real server, waiting for conditions, the check for keys that never expire, tracing."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Protocol

import pytest
import structlog
from redis import Redis

from tests.house.key_leaks import leaked_keys
from tests.house.redis_server import RedisServer

pytest_plugins = ["tests.house.tracing"]

# Whoever runs the tests may have keys of cloud services, which would switch those on.
for _name in ("OPENAI_API_KEY", "OPENROUTER_API_KEY", "ANTHROPIC_API_KEY"):
    os.environ.pop(_name, None)

# A shell that runs the tests in the background lets SIGINT be ignored, here and in every process started from here.
signal.signal(signal.SIGINT, signal.default_int_handler)

Predicate = Callable[[], object] | Callable[[], Awaitable[object]]
POLL_S = 0.01


class WaitUntil(Protocol):
    """The type of the `wait_until` fixture."""

    async def __call__(
        self, predicate: Predicate, timeout_s: float = 10.0, *, description: str = "the condition"
    ) -> None:
        """Return once `predicate()`, plain or async, is true. Raises AssertionError after `timeout_s` seconds."""


async def _wait_until(predicate: Predicate, timeout_s: float = 10.0, *, description: str = "the condition") -> None:
    give_up_at = time.monotonic() + timeout_s
    while True:
        seen = predicate()
        if inspect.isawaitable(seen):
            seen = await seen
        if seen:
            return
        if time.monotonic() > give_up_at:
            raise AssertionError(f"{description}: not within {timeout_s:g} s, last seen {seen!r}")
        await asyncio.sleep(POLL_S)


@pytest.fixture
def wait_until() -> WaitUntil:
    """`await wait_until(lambda: ..., description="job settled")` instead of sleeping."""
    return _wait_until


@pytest.fixture
def restored_logs() -> Iterator[None]:
    """Logging is afterwards as it was: for tests that set it up."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One real server for the whole run (per xdist worker). Tests that stop or starve a server start their own."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> Iterator[str]:
    """URL of an empty database on a real server; afterwards no key without a TTL may be left, bar a short list."""
    with Redis.from_url(redis_server.url) as client:
        # Also scripts and functions: a test must not live from what an earlier one loaded.
        client.flushall()
        client.script_flush()
        yield redis_server.url
        leaks = leaked_keys(client)
    assert not leaks, f"keys without a TTL, and not on the list in tests/house/key_leaks.py: {leaks}"
