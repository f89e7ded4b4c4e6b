"""Counting in memory, adding up in Redis: each call once, whatever happens on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError

from shared.queue.keys import Keys
from shared.usage import recorder as recording
from shared.usage.fields import Call
from shared.usage.reader import UsageReader
from shared.usage.recorder import MAX_PLACES, TTL_MS, UsageRecorder
from tests.conftest import WaitUntil
from tests.house.redis_server import RedisServer

KEYS = Keys("gw")
CHAT = Call(kind="chat", seconds=0.2, first_token_s=0.02, tokens_in=3, tokens_out=5)
EMBEDDING = Call(kind="embedding", seconds=0.01, tokens_in=2)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as redis:
        yield redis


@pytest.mark.req("S1-34", "S1-35", "S1-36", "S1-59", "S1-60")
async def test_what_several_workers_count_is_added_up(redis: Redis) -> None:
    one, other = UsageRecorder(redis, KEYS), UsageRecorder(redis, KEYS)
    for _ in range(3):
        one.record("llama3.2", "a:1", CHAT)
    one.record("llama3.2", "b:1", Call(kind="chat", seconds=2.0, error="backend_fault"))
    other.record("Llama3.2:latest", "a:1", CHAT)
    other.record("llama3.2", "a:1", EMBEDDING)
    other.record("llama3.2", "a:1", Call(kind="chat", seconds=4.0, load_s=3.5))
    await one.flush()
    await other.flush()
    await one.flush()  # nothing new
    here, there = await UsageReader(redis, KEYS).read()
    assert (here.model, here.host, here.calls, here.failures) == ("llama3.2", "a:1", 6, 0)
    assert (here.loads, here.load_seconds) == (1, 3.5)
    chat = here.operations["chat"]
    assert (chat.calls, chat.tokens_in, chat.tokens_out) == (5, 12, 20)
    assert chat.seconds_total == pytest.approx(4.8)
    assert chat.first_token.count == 4
    assert here.operations["embedding"].tokens_in == 2
    assert (there.host, there.operations["chat"].failures) == ("b:1", {"backend_fault": 1})


async def test_the_last_use_is_told_by_redis_and_never_goes_back(redis: Redis) -> None:
    now = [1000.0]
    early, late = (UsageRecorder(redis, KEYS, clock=lambda: now[0]) for _ in range(2))
    reader = UsageReader(redis, KEYS)
    assert await reader.since() is None
    early.record("m", "a:1", CHAT)
    now[0] += 60.0
    late.record("m", "a:1", CHAT)
    await late.flush()
    now[0] += 60.0
    late.touch("m", "a:1")
    await late.flush()
    [usage] = await reader.read()
    used_at, began = usage.last_used_at, await reader.since()
    seconds, micros = await redis.time()
    assert used_at == pytest.approx(seconds + micros / 1e6, abs=30)
    assert usage.calls == 1
    await early.flush()
    [usage] = await reader.read()
    assert (usage.calls, usage.last_used_at) == (2, used_at)
    assert await reader.since() == began == pytest.approx(used_at, abs=30)


class Forgetful:
    """A connection whose answers get lost after the command was carried out."""

    def __init__(self, redis: Redis, losses: int) -> None:
        self._redis = redis
        self.losses = losses

    async def execute_command(self, *args: object) -> object:
        reply = await self._redis.execute_command(*args)  # type: ignore[no-untyped-call]  # redis-py 5
        if self.losses:
            self.losses -= 1
            raise ConnectionError("the answer got lost")
        return reply


async def test_a_lost_answer_does_not_count_twice(redis: Redis) -> None:
    await UsageRecorder(redis, KEYS).flush()
    connection = Forgetful(redis, 0)
    recorder = UsageRecorder(connection, KEYS)  # type: ignore[arg-type]  # all that it calls
    recorder.record("m", "a:1", CHAT)
    await recorder.flush()
    recorder.record("m", "a:1", CHAT)
    connection.losses = 2
    for _ in range(2):
        with pytest.raises(ConnectionError):
            await recorder.flush()
        recorder.record("m", "a:1", CHAT)  # comes in while the batch is under way
    await recorder.flush()
    await recorder.flush()
    [usage] = await UsageReader(redis, KEYS).read()
    assert usage.calls == 4


@pytest.mark.chaos
async def test_nothing_is_lost_while_redis_is_away(wait_until: WaitUntil) -> None:
    with RedisServer(("--appendonly", "yes", "--appendfsync", "always")) as server:
        async with Redis.from_url(server.url, socket_timeout=1.0) as redis:
            recorder = UsageRecorder(redis, KEYS, flush_every_s=0.05)
            reader = UsageReader(redis, KEYS)
            await recorder.start()
            recorder.record("m", "a:1", CHAT)

            async def counted() -> int:
                return sum(usage.calls for usage in await reader.read())

            await wait_until(counted, description="the first call arrived")
            server.kill()
            for _ in range(5):
                recorder.record("m", "a:1", CHAT)
                with pytest.raises((ConnectionError, OSError)):
                    await recorder.flush()
            server.start()

            async def all_there() -> bool:
                return await counted() == 6

            await wait_until(all_there, description="what was counted meanwhile arrived, once")
            recorder.record("m", "a:1", CHAT)
            await recorder.stop()
            await recorder.stop()
            assert await counted() == 7


async def test_figures_that_nobody_renews_go(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = UsageRecorder(redis, KEYS)
    recorder.record("old", "a:1", CHAT)
    await recorder.flush()
    for key in (KEYS.usage("old@a:1"), KEYS.usages):
        assert 0 < await redis.pttl(key) <= TTL_MS
    monkeypatch.setattr(recording, "TTL_MS", 50)
    await asyncio.sleep(0.06)
    recorder.record("new", "a:1", CHAT)
    await recorder.flush()
    assert [raw.decode() for raw in await redis.zrange(KEYS.usages, 0, -1)] == ["new@a:1"]


@pytest.mark.parametrize("error", ["backend_unreachable", "backend_busy", "backend_misconfigured"])
async def test_a_name_is_not_proven_by_a_host_that_did_not_look_at_it(redis: Redis, error: str) -> None:
    recorder = UsageRecorder(redis, KEYS)
    failed = Call(kind="chat", seconds=0.1, error=error)
    recorder.record("made-up", "a:1", failed)
    recorder.touch("made-up", "a:1")
    await recorder.flush()
    assert await UsageReader(redis, KEYS).read() == []
    recorder.record("broken", "a:1", Call(kind="chat", seconds=0.1, error="model_fault"))
    recorder.record("broken", "a:1", failed)
    await recorder.flush()
    [usage] = await UsageReader(redis, KEYS).read()
    assert usage.operations["chat"].failures == {"model_fault": 1, error: 1}


async def test_names_without_end_cannot_fill_the_memory(redis: Redis) -> None:
    recorder = UsageRecorder(redis, KEYS)
    for number in range(MAX_PLACES + 5):
        recorder.record(f"m{number}", "a:1", CHAT)
    recorder.record("m0", "a:1", CHAT)
    await recorder.flush()
    found = await UsageReader(redis, KEYS).read()
    assert len(found) == MAX_PLACES
    assert found[0].calls == 2
