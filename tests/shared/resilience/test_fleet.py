"""What holds for a fleet of workers on a real Redis, whatever happens and in whatever order."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.errors import CircuitNotFound
from shared.resilience.breaker import BreakerPolicy, BreakerState
from shared.resilience.breaker_store import Admission
from shared.resilience.judgement import NO_VERDICT
from tests.house.redis_server import RedisServer
from tests.shared.resilience.fleet import HOST, MODEL, NAMES, fleet_on, state_of

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
WORKERS = 3


@dataclass
class Call:
    worker: int
    admission: Admission
    until: float
    probes: set[str]


moves = st.one_of(
    st.tuples(st.just("call"), st.integers(0, WORKERS - 1)),
    st.tuples(st.just("fail"), st.integers(0, WORKERS - 1)),
    st.tuples(st.just("end"), st.integers(0, 20)),
    st.tuples(st.just("no verdict"), st.integers(0, 20)),
    st.tuples(st.just("kill"), st.integers(0, WORKERS - 1)),
    st.tuples(st.just("wait"), st.sampled_from([0.3, 2.0, 5.0, 5.0, 10.0, 20.0, 31.0, 61.0])),
    st.tuples(st.just("upstream"), st.booleans()),
    st.tuples(st.just("reset"), st.just(0)),
)


async def play(url: str, steps: list[tuple[str, float]], *, news: bool) -> None:
    async with fleet_on(url, WORKERS) as fleet:
        calls: list[Call] = []
        well = False

        async def call(worker: int) -> Call | None:
            before = {name: await fleet.fleet_state(name) for name in NAMES}
            for made in calls:  # what was a probe of a circuit that closed meanwhile is a call like any other
                made.probes -= {name for name in NAMES if before[name] is CLOSED}
            admission = await fleet.admit(worker, NAMES)
            if not admission.allowed:
                assert admission.retry_in_s > 0
                return None
            made = Call(worker, admission, fleet.now + fleet.policy.probe_lease_s, set(admission.permits))
            if news:  # told at once, no worker calls while the fleet's circuit is open, nor without a permit after
                assert OPEN not in before.values()
                assert all(before[name] is CLOSED or name in admission.permits for name in NAMES)
            calls.append(made)
            for name in NAMES:
                live = [held for held in calls if name in held.probes and fleet.now < held.until]
                assert len(live) <= 1, f"{len(live)} probes of {name} in flight"
            return made

        async def end(made: Call, outcome: str) -> None:
            calls.remove(made)
            breakers = fleet.workers[made.worker]
            breakers.record(made.admission, NO_VERDICT if outcome == "no verdict" else outcome)
            if news:
                await fleet.settle()

        for what, value in steps:
            match what:
                case "call":
                    await call(int(value))
                case "fail":
                    for _ in range(5):
                        made = await call(int(value))
                        if made is not None:
                            await end(made, "failure")
                case "end" | "no verdict" if calls:
                    await end(
                        calls[int(value) % len(calls)],
                        what if what == "no verdict" else "success" if well else "failure",
                    )
                case "kill":
                    calls = [made for made in calls if made.worker != value]
                    await fleet.workers[int(value)].stop()
                    fleet.workers[int(value)] = fleet.worker(int(value))
                case "wait":
                    await fleet.wait(value)
                case "upstream":
                    well = bool(value)
                case "reset":
                    with suppress(CircuitNotFound):
                        await fleet.admin.reset(HOST)
            if news:
                await fleet.settle()
        # It heals; what hangs goes on hanging.
        await fleet.settle()
        for _ in range(65):
            for worker in range(WORKERS):
                made = await call(worker)
                if made is not None:
                    await end(made, "success")
            await fleet.settle()
            if all(state_of(worker, name) is CLOSED for worker in fleet.workers for name in NAMES):
                break
            await fleet.wait(1.0)
        for name in NAMES:
            assert [state_of(worker, name) for worker in fleet.workers] == [CLOSED] * WORKERS
            assert await fleet.fleet_state(name) is CLOSED


@pytest.mark.req("S1-13")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(moves, min_size=3, max_size=40), news=st.booleans())
def test_whatever_happens(redis_server: RedisServer, steps: list[tuple[str, float]], news: bool) -> None:
    """Never two live probes in the fleet, never a call while open, always closed again within 65 s of healing."""
    asyncio.run(play(redis_server.url, steps, news=news))


@pytest.mark.req("S3-20")
async def test_eight_workers_call_a_dead_host_hardly_at_all(redis_server: RedisServer) -> None:
    """60 s of outage: one row for the whole fleet and a call a worker under way, then one probe an open time."""
    workers = 8
    async with fleet_on(redis_server.url, workers) as fleet:
        calls = probes = 0
        for _ in range(600):
            for worker in range(workers):
                admission = await fleet.admit(worker)
                if admission.allowed:
                    calls += 1
                    probes += admission.is_probe
                    fleet.workers[worker].record(admission, "failure")
            await fleet.settle()
            await fleet.wait(0.1)
        assert calls - probes <= fleet.policy.failures + workers
        assert probes <= 60 / fleet.policy.open_s
        # It heals: one success, and all call again.
        closed_after = 0.0
        while any(state_of(worker, HOST) is not CLOSED for worker in fleet.workers):
            for worker in range(workers):
                fleet.workers[worker].record(await fleet.admit(worker), "success")
            await fleet.settle()
            await fleet.wait(0.5)
            closed_after += 0.5
        assert closed_after <= 65
        print(f"calls {calls}, of them probes {probes}; closed {closed_after:g} s after it healed")


async def test_a_flapping_host_changes_state_at_most_twelve_times_a_minute(redis_server: RedisServer) -> None:
    async with fleet_on(redis_server.url, 3) as fleet:
        changes: list[float] = []
        seen = CLOSED
        for step in range(1200):
            for worker in range(3):
                admission = await fleet.admit(worker, (MODEL,))
                if admission.allowed:
                    outcome = "success" if admission.is_probe else "failure"
                    fleet.workers[worker].record(admission, outcome)
            if step % 5 == 0:
                await fleet.settle()
            state = state_of(fleet.workers[0], MODEL)
            if state is not seen:
                seen = state
                changes.append(fleet.now)
            await fleet.wait(0.25)
        most = max(sum(at <= other < at + 60 for other in changes) for at in changes)
        assert 3 <= most <= 12


async def test_open_times_are_not_added_up(redis_server: RedisServer) -> None:
    async with fleet_on(redis_server.url, 4) as fleet:
        admissions = [(worker, await fleet.admit(worker, (HOST,))) for worker in range(4) for _ in range(5)]
        for worker, admission in admissions:  # all trip, none has heard of another
            fleet.workers[worker].record(admission, "failure")
        await fleet.settle()
        (view,) = await fleet.admin.circuits()
        assert (view.openings, view.retry_in_s) == (1, 5.0)


async def test_a_longer_opening_by_an_operator_is_not_shortened(redis_server: RedisServer) -> None:
    async with fleet_on(redis_server.url, 2) as fleet:
        admissions = [await fleet.admit(0, (HOST,)) for _ in range(5)]
        await fleet.admin.force_open(HOST, 600)
        for admission in admissions:
            fleet.workers[0].record(admission, "failure")
        await fleet.settle()
        assert [view.retry_in_s for view in await fleet.admin.circuits()] == [600]
        await fleet.wait(599)
        assert not (await fleet.admit(0, (HOST,))).allowed
        await fleet.wait(1)
        assert (await fleet.admit(0, (HOST,))).is_probe


async def test_a_worker_that_comes_later_obeys_and_one_that_restarts_does_not_shorten(
    redis_server: RedisServer,
) -> None:
    async with fleet_on(redis_server.url, 2) as fleet:
        for _ in range(5):
            fleet.workers[0].record(await fleet.admit(0), "failure")
        await fleet.settle()
        fleet.workers.append(fleet.worker(2))
        await fleet.workers[2].refresh()
        refused = await fleet.admit(2)
        assert not refused.allowed
        assert refused.retry_in_s == pytest.approx(5, abs=0.01)


async def test_several_probes_by_several_workers_close_together(redis_server: RedisServer) -> None:
    async with fleet_on(redis_server.url, 3, BreakerPolicy(successes_to_close=3)) as fleet:
        for _ in range(5):
            fleet.workers[0].record(await fleet.admit(0, (HOST,)), "failure")
        await fleet.settle()
        await fleet.wait(5)
        for worker in range(3):
            admission = await fleet.admit(worker, (HOST,))
            assert admission.is_probe
            fleet.workers[worker].record(admission, "success")
            await fleet.settle()
            assert await fleet.fleet_state(HOST) is (CLOSED if worker == 2 else HALF_OPEN)
        assert state_of(fleet.workers[0], HOST) is CLOSED
