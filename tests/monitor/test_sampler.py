"""Collectors side by side: what one of them does must not matter to the others. And totals over a while."""

from __future__ import annotations

import asyncio
import threading

import pytest

from monitor.sampler import Part
from shared.errors import ModelNotFound, QueueUnavailable
from tests.conftest import WaitUntil


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (QueueUnavailable(), "Redis does not answer"),
        (ModelNotFound("No such model."), "No such model."),
        (OSError("disk on fire"), "OSError: disk on fire"),
    ],
)
async def test_a_collector_that_fails(error: Exception, said: str) -> None:
    async def fail() -> int:
        raise error

    errors: dict[str, str] = {}
    assert await Part("x", fail, 1.0).get(errors) is None
    assert errors == {"x": said}


async def test_a_collector_that_hangs_is_not_begun_again_until_it_has_ended(wait_until: WaitUntil) -> None:
    may, calls = threading.Event(), []

    def read() -> int:
        calls.append(1)
        may.wait()
        return len(calls)

    part = Part("x", lambda: asyncio.to_thread(read), 0.02)
    errors: dict[str, str] = {}
    for _ in range(3):
        assert await part.get(errors) is None
    assert errors == {"x": "no answer within 0.02 s"} and len(calls) == 1
    may.set()

    async def reads() -> bool:
        return await part.get({}) is not None

    await wait_until(reads, description="it is there again")
    await part.stop()


async def test_what_is_hopeless_is_not_tried() -> None:
    async def read() -> int:
        raise AssertionError

    errors: dict[str, str] = {}
    assert await Part("x", read, 1.0).get(errors, "Redis does not answer") is None
    assert errors == {"x": "Redis does not answer"}
