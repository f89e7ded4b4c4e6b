"""Every guard in the scripts is worth something: without it, one of the stories fails."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.queue.keys import Keys
from shared.queue.scripts import Scripts
from tests.shared.queue.clocked import clocked_sources
from tests.shared.queue.limit_scenarios import LIMIT_STORIES
from tests.shared.queue.mutation import guards, mutants, mutations, split, without
from tests.shared.queue.scenarios import STORIES, Stage
from tests.shared.queue.slot_scenarios import SLOT_STORIES


async def first_broken(redis: Redis, sources: dict[str, str]) -> str:
    """The first story that fails on these scripts; empty when all hold."""
    keys = Keys("gw")
    for story in (*STORIES, *LIMIT_STORIES, *SLOT_STORIES):
        await redis.flushdb()
        stage = Stage(Scripts(redis, keys, sources=sources), redis, keys)
        await stage.after(0)
        try:
            await story(stage)
        except (AssertionError, RedisError, ValueError, IndexError) as error:
            return f"{story.__name__}: {error}"
    return ""


async def test_the_stories_hold_on_the_scripts_as_they_are(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as redis:
        assert await first_broken(redis, clocked_sources()) == ""
        await redis.flushdb()


@pytest.mark.timeout(120)
async def test_no_guard_can_be_removed_unnoticed(redis_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    survivors, total = [], 0
    async with Redis.from_url(redis_url) as redis:
        for mutant in mutants():
            total += 1
            for name in mutant.touched:
                await redis.script_load(mutant.sources[name])  # a mutant that does not even compile would prove nothing
            if not await first_broken(redis, mutant.sources):
                survivors.append(mutant.name)
        await redis.flushdb()
    with capsys.disabled():
        print(f"\nmutants of the queue's scripts: {total - len(survivors)} of {total} killed")
    assert not survivors, "\n".join(survivors)


async def test_without_the_token_a_zombie_overwrites_the_answer(redis_url: str) -> None:
    [fence] = [guard for guard in guards() if guard.scripts == {"settle"} and "~= token" in guard.line]
    sources = without(fence, fence.line.replace("job[2] ~= token", "false"))
    async with Redis.from_url(redis_url) as redis:
        assert (await first_broken(redis, sources)).startswith("a_zombie_writes_nothing")
        await redis.flushdb()


def test_every_script_that_changes_a_job_has_a_guard() -> None:
    guarded = {name for name, text in clocked_sources().items() if "-- guard" in text}
    assert guarded >= {
        "enqueue",
        "claim",
        "renew",
        "publish",
        "settle",
        "disown",
        "sweep",
        "replay",
        "purge",
        "take_slot",
    }


def test_conditions_are_taken_apart_outside_of_brackets_only() -> None:
    assert split("a or f(b or c) or d == ' or '", "or") == ["a", "f(b or c)", "d == ' or '"]
    assert [line.strip() for line in mutations("  if a and b then -- guard: x")] == [
        "if true then -- guard: x",
        "if false then -- guard: x",
        "if b then -- guard: x",
        "if a then -- guard: x",
    ]
    with pytest.raises(ValueError, match="neither"):
        mutations("redis.call('DEL', key) -- guard: x")
