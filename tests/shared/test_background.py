"""Rounds in the background go on whatever happens, and end when they are told to."""

from __future__ import annotations

import pytest
import structlog
from redis.exceptions import ConnectionError as RedisConnectionError
from structlog.testing import capture_logs

from shared import background
from shared.background import Rounds
from tests.conftest import WaitUntil


async def test_it_may_be_started_and_stopped_twice_and_stopped_before_its_start() -> None:
    async def turn() -> None:
        raise AssertionError("stopped before its first step")

    rounds = Rounds("test", turn, 60.0, away="test.away")
    assert not await rounds.stop()
    rounds.start()
    rounds.start()
    assert await rounds.stop()
    assert not await rounds.stop()


@pytest.mark.parametrize(
    ("error", "logged"),
    [
        (RedisConnectionError("gone"), [("warning", "test.away")]),
        (TimeoutError(), [("warning", "test.away")]),
        (ValueError("ours"), [("error", "background.failed")] * 3),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_turns_that_fail_do_not_end_it_and_an_outage_is_told_of_once(
    error: Exception, logged: list[tuple[str, str]], wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A test before this one may have set up logging, and a logger keeps what it was first used with.
    monkeypatch.setattr(background, "log", structlog.get_logger())
    turns = 0

    async def turn() -> None:
        nonlocal turns
        turns += 1
        if turns <= 3:
            raise error

    rounds = Rounds("test", turn, 0.001, away="test.away")
    with capture_logs() as log:
        rounds.start()
        await wait_until(lambda: turns > 4, description="turns after the failures")
        await rounds.stop()
    assert [(line["log_level"], line["event"]) for line in log] == logged
