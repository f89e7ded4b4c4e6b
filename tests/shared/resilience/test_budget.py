"""The retry budget: shared, bounded, never empty for good, and there without Redis."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from shared.queue.keys import Keys
from shared.resilience.budget import Bucket, BudgetPolicy, RetryBudget
from tests.conftest import WaitUntil

KEYS = Keys("gw")
KEY = "llama3.2@127.0.0.1:11434"
SLOW = BudgetPolicy(per_s=0.01)
NOWHERE = "redis://127.0.0.1:9/0"


async def taken(budget: RetryBudget, times: int, key: str = KEY) -> int:
    return sum([await budget.take(key) for _ in range(times)])


@pytest.mark.req("S1-10")
async def test_all_workers_share_one_budget(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as redis:
        workers = [RetryBudget(redis, KEYS, SLOW) for _ in range(4)]
        assert sum(await asyncio.gather(*(taken(worker, 5) for worker in workers))) == 10
        assert await taken(workers[0], 1, "other@h:1") == 1
        for _ in range(10):
            workers[1].succeeded(KEY)
        await workers[1].pay()
        assert sum(await asyncio.gather(*(taken(worker, 5) for worker in workers))) == 2


async def test_a_success_here_pays_for_the_next_retry_here(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as redis:
        budget = RetryBudget(redis, KEYS, SLOW)
        assert await taken(budget, 12) == 10
        for _ in range(5):
            budget.succeeded(KEY)
        assert await taken(budget, 2) == 1


async def test_it_fills_again_by_itself_and_leaves_nothing_behind(redis_url: str, wait_until: WaitUntil) -> None:
    async with Redis.from_url(redis_url) as redis:
        budget = RetryBudget(redis, KEYS, BudgetPolicy(size=2, per_s=5))
        assert await taken(budget, 3) == 2

        async def gone() -> bool:
            return not await redis.exists(KEYS.retry_budget(KEY))

        await wait_until(gone, 2, description="the budget to be full again")
        assert await taken(budget, 3) == 2


async def test_successes_are_paid_in_once_a_second(redis_url: str, wait_until: WaitUntil) -> None:
    async with Redis.from_url(redis_url) as redis:
        budget = RetryBudget(redis, KEYS, SLOW)
        await taken(budget, 10)
        await budget.start()
        try:
            for _ in range(1000):
                budget.succeeded(KEY)

            async def full() -> bool:
                return not await redis.exists(KEYS.retry_budget(KEY))

            await wait_until(full, 3)
        finally:
            await budget.stop()
            await budget.stop()


@pytest.mark.req("S1-14")
async def test_without_redis_it_is_a_budget_of_ones_own() -> None:
    now = 0.0
    async with Redis.from_url(NOWHERE) as redis:
        budget = RetryBudget(redis, KEYS, clock=lambda: now)
        assert await taken(budget, 15) == 10
        now = 3.0
        assert await taken(budget, 15) == 3


steps = st.lists(st.tuples(st.sampled_from(["take", "pay"]), st.integers(1, 50), st.floats(0, 30)), max_size=60)


@given(steps)
def test_no_more_retries_than_what_was_there_and_what_came_in(steps: list[tuple[str, int, float]]) -> None:
    policy, now, retries, successes = BudgetPolicy(), 0.0, 0, 0
    bucket = Bucket(policy, now)
    for what, count, pause in steps:
        now += pause
        if what == "pay":
            bucket.pay(count, now)
            successes += count
        else:
            retries += sum(bucket.take(now) for _ in range(count))
        assert retries <= policy.size + policy.per_success * successes + policy.per_s * now + 1e-6
    now += 1 / policy.per_s
    assert bucket.take(now), "an empty budget must not stay empty"
