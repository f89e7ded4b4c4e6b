"""The scripts by themselves: what Redis refuses, whatever a worker believes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from shared.resilience.breaker import BreakerPolicy
from shared.resilience.circuit_admin import CircuitAdmin
from shared.resilience.circuit_fleet import Conclusion, Fleet
from shared.resilience.circuits import CircuitRow
from tests.shared.resilience.fleet import HOST, KEYS, MODEL

POLICY = BreakerPolicy(open_s=0.1, open_cap_s=60, probe_lease_s=20)
TRIP = Conclusion(opened=True, reason="backend_fault", openings=1)


class Told:
    """A fleet's Redis side, spoken to by hand."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.fleet = Fleet(redis, KEYS, POLICY, "w1", time.monotonic)
        self.admin = CircuitAdmin(redis, KEYS)

    async def tell(self, known: int, conclusion: Conclusion = TRIP) -> CircuitRow:
        return await self.fleet.tell(HOST, known, conclusion, 0.0)

    async def pass_(self, known: int, token: str, *, closed_here: bool = False) -> CircuitRow:
        return await self.tell(known, Conclusion(opened=False, token=token, closed_here=closed_here))

    async def half_open(self, token: str = "") -> int:
        """Trip it, let its time pass, take the permit; the generation."""
        row = await self.tell(0)
        await asyncio.sleep(POLICY.open_s + 0.02)
        if token:
            given, _ = await self.fleet.ask([(HOST, row.generation)], token)
            assert given
        return row.generation

    async def holder(self) -> str:
        return (await self.redis.get(KEYS.circuit_permit(HOST)) or b"").decode()


@pytest.fixture
async def told(redis_url: str) -> AsyncIterator[Told]:
    async with Redis.from_url(redis_url) as redis:
        yield Told(redis)


async def test_no_permit_while_open_even_if_a_worker_thinks_it_is_time(told: Told) -> None:
    row = await told.tell(0)
    given, (now,) = await told.fleet.ask([(HOST, row.generation)], "early")
    assert not given
    assert 0 < now.wait_s <= POLICY.open_s
    assert await told.holder() == ""


async def test_permits_for_several_circuits_are_given_together_or_not_at_all(told: Told) -> None:
    generation = await told.half_open("first")
    given, _ = await told.fleet.ask([(MODEL, 0), (HOST, generation)], "second")
    assert not given
    assert not await told.redis.exists(KEYS.circuit_permit(MODEL))


async def test_a_circuit_that_others_closed_needs_no_permit(told: Told) -> None:
    generation = await told.half_open("first")
    await told.pass_(generation, "first")
    given, (row,) = await told.fleet.ask([(HOST, generation)], "second")
    assert (given, row.state) == (True, "closed")
    assert await told.holder() == ""


async def test_only_ones_own_permit_is_given_back(told: Told) -> None:
    generation = await told.half_open("mine")
    await told.fleet.release([HOST], "somebody else's")
    assert await told.holder() == "mine"
    assert 0 < await told.redis.pttl(KEYS.circuit_permit(HOST)) <= POLICY.probe_lease_s * 1000
    await told.fleet.release([HOST], "mine")
    assert await told.holder() == ""
    given, _ = await told.fleet.ask([(HOST, generation)], "next")
    assert given


async def test_a_trip_from_before_the_last_change_is_refused(told: Told) -> None:
    generation = await told.half_open("probe")
    closed = await told.pass_(generation, "probe")
    assert (await told.tell(generation)).state == "closed"
    assert (await told.tell(0)).generation == closed.generation
    again = await told.tell(closed.generation)
    assert (again.state, again.openings) == ("open", 2)


async def test_a_second_trip_of_the_same_time_adds_nothing(told: Told) -> None:
    first = await told.tell(0)
    second = await told.tell(first.generation)
    assert (second.generation, second.openings) == (first.generation, 1)
    assert second.wait_s <= first.wait_s


async def test_a_failed_probe_opens_for_twice_as_long_but_only_while_it_holds_the_permit(told: Told) -> None:
    generation = await told.half_open("late")
    await told.redis.delete(KEYS.circuit_permit(HOST))  # its lease ran out
    given, _ = await told.fleet.ask([(HOST, generation)], "second")
    assert given
    late = await told.tell(generation, Conclusion(opened=True, token="late", openings=2))
    assert (late.generation, late.wait_s) == (generation, 0)
    assert await told.holder() == "second"
    failed = await told.tell(generation, Conclusion(opened=True, token="second", openings=1))
    assert (failed.openings, failed.wait_s) == (2, 2 * POLICY.open_s)
    assert await told.holder() == ""


async def test_a_success_from_before_the_last_change_closes_nothing(told: Told) -> None:
    generation = await told.half_open("probe")
    forced = await told.admin.force_open(HOST, 60)
    assert forced.retry_in_s == 60
    row = await told.pass_(generation, "probe", closed_here=True)
    assert (row.state, row.forced) == ("open", True)
    # Not even one that claims to know of it: while it is open there is no probe.
    row = await told.pass_(row.generation, "probe", closed_here=True)
    assert row.state == "open"


async def test_two_successes_close_once(told: Told) -> None:
    generation = await told.half_open("probe")
    closed = await told.pass_(generation, "probe")
    assert closed.state == "closed"
    assert (await told.pass_(closed.generation, "probe")).generation == closed.generation


async def test_a_long_quiet_circuit_starts_over(told: Told) -> None:
    generation = await told.half_open("probe")
    closed = await told.pass_(generation, "probe")
    long_ago = int(time.time() * 1000) - int(POLICY.quiet_s * 1000) - 1
    await told.redis.hset(KEYS.circuit(HOST), "t", str(long_ago))  # type: ignore[misc]  # redis-py 5 types it as either
    assert (await told.tell(closed.generation)).openings == 1


async def test_everything_lapses(told: Told) -> None:
    row = await told.admin.force_open(HOST, 7200)
    for key in (KEYS.circuit(HOST), KEYS.circuits):
        assert 7200 < await told.redis.ttl(key) <= 7200 + 3600
    await told.tell(int(row.changed_at * 1000), Conclusion(opened=False, token="x"))
    await told.fleet.tell(MODEL, 0, TRIP, 0.0)
    assert 3500 < await told.redis.ttl(KEYS.circuit(MODEL)) <= 3601
    assert await told.redis.ttl(KEYS.circuits) > 7200, "the index outlives its longest member"
