"""Failures in a row over a fleet of workers on a real Redis: those that tell, and those that are only chance."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from shared.resilience.breaker import BreakerState
from shared.resilience.judgement import WELL, Judgement, Outcome
from tests.house.redis_server import RedisServer
from tests.shared.resilience.fleet import HOST, NAMES, fleet_on, state_of

CLOSED, OPEN = BreakerState.CLOSED, BreakerState.OPEN
BROKEN = Judgement(Outcome.IGNORED, Outcome.FAILURE, "model_fault")


async def test_a_row_is_counted_over_all_workers_and_a_success_of_any_of_them_ends_it(
    redis_server: RedisServer,
) -> None:
    async with fleet_on(redis_server.url, 5) as fleet:

        async def end(worker: int, outcome: str) -> None:
            fleet.workers[worker].record(await fleet.admit(worker, (HOST,)), outcome)
            await fleet.settle()
            await fleet.wait(0.1)

        await end(0, "success")
        for worker in (0, 3):
            await end(worker, "failure")
        await end(3, "success")
        await end(3, "failure")  # tells of the success, too: the row begins here
        for worker in (2, 1, 0):
            await end(worker, "failure")
            assert await fleet.fleet_state(HOST) is CLOSED
        await end(4, "failure")
        assert await fleet.fleet_state(HOST) is OPEN
        assert [state_of(worker, HOST) for worker in fleet.workers] == [OPEN] * 5


@pytest.mark.parametrize(("a_second", "told_at_once"), [(20, True), (1600, False)])
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_one_call_in_ten_failing_at_random_opens_nothing_however_many_there_are(
    redis_server: RedisServer, seed: int, a_second: int, told_at_once: bool
) -> None:
    """8 workers. Redis hears of each failure before the next call; or late and in bursts, and so of failures and
    successes in another order than they happened in."""
    workers, draw = 8, random.Random(seed)
    async with fleet_on(redis_server.url, workers) as fleet:
        row = 0
        longest = 0
        for _ in range(12_000):
            worker = draw.randrange(workers)
            failed = draw.random() < 0.1
            row = row + 1 if failed else 0
            longest = max(longest, row)
            fleet.workers[worker].record(await fleet.admit(worker, NAMES), "failure" if failed else "success")
            fleet.now += 1 / a_second
            if told_at_once:
                if failed:
                    await fleet.tell(worker)
            elif draw.random() < 0.02:
                await fleet.settle()
        await fleet.settle()
        assert longest >= 3, "the dice did fall"
        assert await fleet.admin.circuits() == []
        assert [state_of(worker, name) for worker in fleet.workers for name in NAMES] == [CLOSED] * (2 * workers)


async def test_a_crowd_that_begins_together_and_fails_in_part_opens_nothing(redis_server: RedisServer) -> None:
    """Failures are quick: they are back before the first success."""
    workers, slots, draw = 3, 12, random.Random(1)
    async with fleet_on(redis_server.url, workers) as fleet:
        for _ in range(40):
            crowd = [(worker, await fleet.admit(worker, NAMES)) for worker in range(workers) for _ in range(slots)]
            failing = [draw.random() < 0.1 for _ in crowd]
            under_way = Counter(worker for worker, _ in crowd)
            for failed in (True, False):
                for (worker, admission), fails in zip(crowd, failing, strict=True):
                    if fails is failed:
                        under_way[worker] -= 1
                        verdict = BROKEN if failed else WELL
                        fleet.workers[worker].record(admission, verdict, under_way=under_way[worker])
                await fleet.settle()
            await fleet.wait(40.0)  # so that nothing is left in the windows
        assert await fleet.admin.circuits() == []
