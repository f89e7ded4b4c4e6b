"""Every guard in the circuits' scripts is worth something: without it, one of the stories fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.resilience import scripts
from tests.shared.queue.mutation import mutations
from tests.shared.resilience.fleet import scripts_on_test_clock
from tests.shared.resilience.test_circuit_fleet import STORIES
from tests.shared.resilience.told import Told

MARK = "-- guard"


def guarded() -> dict[str, list[str]]:
    """The guard lines of each script, included ones too."""
    names = sorted(entry.name.removesuffix(".lua") for entry in (files("shared.resilience") / "lua").iterdir())
    texts = {name: scripts.source(name) for name in names if name != "includes"}
    return {name: found for name, text in texts.items() if (found := [ln for ln in text.splitlines() if MARK in ln])}


@contextmanager
def without(guard: str, line: str) -> Iterator[None]:
    """All scripts with `line` in the guard's place."""
    real = scripts.source

    def source(name: str) -> str:
        return "\n".join(line if each == guard else each for each in real(name).splitlines())

    scripts.source = source  # type: ignore[assignment]  # a cached function has more methods than we need
    try:
        yield
    finally:
        scripts.source = real


async def first_broken(redis: Redis) -> str:
    """The first story that fails on the scripts as they are now; empty when all hold."""
    for story in STORIES:
        await redis.flushdb()
        with scripts_on_test_clock():
            told = Told(redis)
            await told.ready()
            try:
                await story(told)
            except (AssertionError, RedisError, IndexError, TypeError) as error:
                return f"{story.__name__}: {error}"
    return ""


@pytest.mark.timeout(120)
async def test_no_guard_can_be_removed_unnoticed(redis_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = {line for found in guarded().values() for line in found}
    survivors, total = [], 0
    async with Redis.from_url(redis_url) as redis:
        assert await first_broken(redis) == ""
        for guard in sorted(lines):
            for line in mutations(guard):
                total += 1
                with without(guard, line):
                    if not await first_broken(redis):
                        survivors.append(f"{guard.strip()}  =>  {line.split(MARK)[0].strip()}")
        await redis.flushdb()
    with capsys.disabled():
        print(f"\nmutants of the circuits' scripts: {total - len(survivors)} of {total} killed")
    assert not survivors, "\n".join(survivors)


def test_every_script_that_changes_a_circuit_has_a_guard() -> None:
    assert set(guarded()) >= {"failed", "trip", "passed", "probe", "release"}
