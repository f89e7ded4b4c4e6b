"""Who stays in memory, as operators, the manager and the workers see it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from shared.pins import FOR_EVER_S, KeepAlive, Pins, pack_residents
from shared.queue.keys import Keys
from tests.conftest import WaitUntil

KEYS = Keys("gw")


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as redis:
        yield redis


@pytest.mark.req("S1-87")
async def test_pinned_and_kept_models_stay_for_ever(redis: Redis) -> None:
    pins, keep_alive = Pins(redis, KEYS), KeepAlive(redis, KEYS, unload_after_s=300.0)
    assert keep_alive.seconds("llama3.2") == 300.0
    await pins.pin("Llama3.2:latest")
    await redis.set(KEYS.residents, pack_residents(["Mistral", "mistral:latest"]), px=60_000)
    await keep_alive.read()
    models = ("llama3.2", "LLAMA3.2:latest", "llama3.2:3b", "mistral")
    assert [keep_alive.seconds(model) for model in models] == [FOR_EVER_S, FOR_EVER_S, 300.0, FOR_EVER_S]
    await pins.unpin("llama3.2")
    await redis.delete(KEYS.residents)  # no manager leads any more
    assert keep_alive.seconds("llama3.2") == FOR_EVER_S
    await keep_alive.read()
    assert {keep_alive.seconds(model) for model in models} == {300.0}
    assert await pins.read() == frozenset()


async def test_a_worker_keeps_up_with_the_pins(
    redis: Redis, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.pins.READ_EVERY_S", 0.02)
    keep_alive = KeepAlive(redis, KEYS, unload_after_s=300.0)
    await keep_alive.start()
    await Pins(redis, KEYS).pin("m")
    await wait_until(lambda: keep_alive.seconds("m") == FOR_EVER_S, description="the pin was seen")
    await redis.delete(KEYS.pins)
    await redis.set(KEYS.pins, "not a set", px=500)  # an error of Redis, then gone
    await wait_until(lambda: keep_alive.seconds("m") == 300.0, description="the pin was gone")
    await keep_alive.stop()
    await keep_alive.stop()
