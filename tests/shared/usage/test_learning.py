"""Estimates that are learned beside the work, from a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError

from shared.queue.keys import Keys
from shared.usage.fields import Call
from shared.usage.learning import LearnedEstimates
from shared.usage.reader import UsageReader
from shared.usage.recorder import UsageRecorder
from tests.conftest import WaitUntil
from tests.house.redis_server import RedisServer

KEYS = Keys("gw")
CHAT = Call(kind="chat", seconds=2.0, first_token_s=0.5, tokens_out=50, chars_in=400)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as redis:
        yield redis


@pytest.mark.req("S1-34", "S1-59")
async def test_what_workers_count_is_learned_in_the_background(redis: Redis, wait_until: WaitUntil) -> None:
    recorder = UsageRecorder(redis, KEYS)
    learned = LearnedEstimates(UsageReader(redis, KEYS), every_s=0.02)
    await learned.start()
    assert not learned.current.known
    for _ in range(5):
        recorder.record("llama3.2", "a:1", CHAT)
    await recorder.flush()
    await wait_until(lambda: learned.current.known, description="the calls are learned")
    assert learned.current.call_s("t:llama3.2") == pytest.approx(2.0)
    for _ in range(200):
        recorder.record("llama3.2", "a:1", Call(kind="chat", seconds=0.2, tokens_out=50, chars_in=400))
    await recorder.flush()
    await wait_until(lambda: learned.current.call_s("t:llama3.2") < 0.5, description="and that they became faster")
    await learned.stop()
    await learned.stop()


async def test_only_what_was_used_of_late_is_read_again(redis: Redis) -> None:
    recorder, reader = UsageRecorder(redis, KEYS), UsageReader(redis, KEYS)
    recorder.record("old", "a:1", CHAT)
    recorder.record("new", "a:1", CHAT)
    await recorder.flush()
    await redis.zadd(KEYS.usages, {"old@a:1": 1_000_000})
    assert [usage.model for usage in await reader.read()] == ["new", "old"]
    assert [usage.model for usage in await reader.read(used_since=2_000.0)] == ["new"]
    learned = LearnedEstimates(reader)
    for _ in range(2):
        await learned.refresh()
    assert learned.current.call_s("t:old") == pytest.approx(2.0)


async def test_with_redis_away_what_is_known_stays(wait_until: WaitUntil) -> None:
    with RedisServer() as server:
        async with Redis.from_url(server.url) as redis:
            recorder = UsageRecorder(redis, KEYS)
            recorder.record("llama3.2", "a:1", CHAT)
            await recorder.flush()
            learned = LearnedEstimates(UsageReader(redis, KEYS), every_s=0.02)
            await learned.start()
            await wait_until(lambda: learned.current.known)
            server.stop()
            with pytest.raises((ConnectionError, OSError)):
                await learned.refresh()
            assert learned.current.call_s("t:llama3.2") == pytest.approx(2.0)
            await learned.stop()
