"""What circuits cost while all is well: nothing but memory."""

from __future__ import annotations

import time

from redis.asyncio import Redis

from shared.resilience.breaker import BreakerPolicy
from shared.resilience.breaker_store import Breakers
from tests.shared.resilience.fleet import KEYS, NAMES

NOWHERE = "redis://127.0.0.1:9/0"


async def test_while_all_is_well_redis_is_not_asked_and_little_time_passes() -> None:
    async with Redis.from_url(NOWHERE) as redis:  # any call would fail
        one = Breakers(redis, KEYS, BreakerPolicy(), worker_id="w1")
        best = float("inf")
        for _ in range(15):
            started = time.perf_counter()
            for _ in range(1000):
                await one.admit(NAMES)
            best = min(best, (time.perf_counter() - started) / 1000)
        assert best < 3e-6
