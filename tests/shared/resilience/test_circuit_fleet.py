"""The scripts by themselves: what Redis refuses, whatever a worker believes."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from shared.resilience.circuit_fleet import Conclusion
from tests.shared.resilience.fleet import HOST, KEYS, MODEL, scripts_on_test_clock
from tests.shared.resilience.told import POLICY, TRIP, Told


@pytest.fixture
async def told(redis_url: str) -> AsyncIterator[Told]:
    async with Redis.from_url(redis_url) as redis:
        with scripts_on_test_clock():
            told = Told(redis)
            await told.ready()
            yield told


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


async def test_a_probe_of_an_earlier_opening_closes_nothing(told: Told) -> None:
    generation = await told.half_open("early")
    again = await told.tell(generation, Conclusion(opened=True, token="early", openings=2))
    await told.after(again.wait_s)
    assert (await told.pass_(generation, "early", closed_here=True)).state == "open"


async def test_a_failed_probe_whose_permit_ran_out_unclaimed_still_counts(told: Told) -> None:
    generation = await told.half_open("slow")
    await told.redis.delete(KEYS.circuit_permit(HOST))
    row = await told.tell(generation, Conclusion(opened=True, token="slow", openings=2))
    assert (row.openings, row.wait_s) == (2, 2 * POLICY.open_s)


async def test_who_opens_it_by_its_own_count_needs_no_permit(told: Told) -> None:
    generation = await told.half_open("probe")
    assert (await told.tell(generation)).openings == 2


async def test_two_successes_close_once(told: Told) -> None:
    generation = await told.half_open("probe")
    closed = await told.pass_(generation, "probe")
    assert closed.state == "closed"
    assert (await told.pass_(closed.generation, "probe")).generation == closed.generation


async def test_a_long_quiet_circuit_starts_over(told: Told) -> None:
    generation = await told.half_open("probe")
    closed = await told.pass_(generation, "probe")
    await told.after(POLICY.quiet_s)
    assert (await told.tell(closed.generation)).openings == 1


async def test_everything_lapses(told: Told) -> None:
    row = await told.admin.force_open(HOST, 7200)
    for key in (KEYS.circuit(HOST), KEYS.circuits):
        assert 7200 < await told.redis.ttl(key) <= 7200 + 3600
    await told.tell(int(row.changed_at * 1000), Conclusion(opened=False, token="x"))
    await told.fleet.tell(MODEL, 0, TRIP, 0.0)
    assert 3500 < await told.redis.ttl(KEYS.circuit(MODEL)) <= 3601
    assert await told.redis.ttl(KEYS.circuits) > 7200, "the index outlives its longest member"


async def test_the_fleets_failures_in_a_row_open_it(told: Told) -> None:
    for _ in range(3):
        assert (await told.failed()).state == ""
        await told.after(0.5)
    assert (await told.failed(telling=4)).state == "open"
    row = await told.failed(count=2)
    assert (row.openings, row.wait_s, row.reason, row.worker) == (1, POLICY.open_s, "refused", "w1")
    assert not await told.redis.exists(KEYS.circuit_failures(HOST))


async def test_failures_of_one_moment_count_each(told: Told) -> None:
    await told.failed(count=2)
    assert 0 < await told.redis.pttl(KEYS.circuit_failures(HOST)) <= POLICY.window_s * 1000
    assert (await told.failed(count=2)).state == ""
    assert (await told.failed(count=1)).state == "open"


async def test_a_success_since_the_row_began_ends_it_one_from_before_does_not(told: Told) -> None:
    await told.failed(count=2)
    await told.after(1.0)
    await told.failed(count=2, since_success_s=0.5)
    await told.after(1.0)
    assert (await told.failed(count=2, since_success_s=1.0)).state == ""
    assert (await told.failed(count=1, since_success_s=2.0)).state == "open"


async def test_a_row_begins_with_its_first_failure_not_when_that_was_told(told: Told) -> None:
    await told.failed(count=2, since_first_s=0.5, telling=3)
    assert (await told.failed(since_first_s=0.1, since_success_s=0.3, telling=3)).state == ""
    assert (await told.failed(count=3, since_success_s=0.2, telling=3)).state == "open"


async def test_failures_from_before_a_success_that_others_told_of_are_not_counted(told: Told) -> None:
    await told.failed(since_success_s=0.1)
    await told.failed(count=4, since_first_s=0.2, since_success_s=0.3)
    assert (await told.failed(count=3)).state == ""
    assert (await told.failed()).state == "open"


async def test_a_row_must_be_twice_as_long_as_the_longest_that_a_success_has_ended(told: Told) -> None:
    await told.failed(count=4)
    for _ in range(2):  # the longest ends first, then a short one
        await told.after(0.5)
        await told.failed(since_success_s=0.2)
    assert (await told.failed(count=6)).state == ""
    assert (await told.failed()).state == "open"


async def test_a_long_row_of_long_ago_says_nothing(told: Told) -> None:
    await told.failed(count=4)
    await told.after(0.5)
    await told.failed(since_success_s=0.2)
    await told.after(POLICY.window_s + 0.1)
    assert (await told.failed(count=4, since_success_s=0.1)).state == ""
    assert (await told.failed()).state == "open"


async def test_a_row_does_not_outlast_a_change(told: Told) -> None:
    await told.failed(count=4)
    closed = await told.admin.reset(HOST)
    generation = round(closed[0].changed_at * 1000)
    assert (await told.failed(generation, count=4)).state == "closed"
    assert (await told.failed(generation)).state == "open"


async def test_failures_from_before_a_change_are_not_counted(told: Told) -> None:
    generation = await told.half_open("probe")
    closed = await told.pass_(generation, "probe")
    assert (await told.failed(generation, count=9)).state == "closed"
    assert (await told.failed(closed.generation, count=4)).state == "closed"
    assert (await told.failed(closed.generation)).openings == 2


async def test_failures_do_not_open_what_is_open(told: Told) -> None:
    generation = await told.half_open()
    row = await told.failed(generation, count=9)
    assert (row.generation, row.openings) == (generation, 1)


STORIES = [
    story for name, story in list(globals().items()) if name.startswith("test_") and inspect.iscoroutinefunction(story)
]
"""What the scripts must keep to; mutants of the scripts must break one of them."""
