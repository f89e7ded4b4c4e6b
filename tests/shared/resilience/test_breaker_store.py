"""One worker's breakers among others, in real time, on a real Redis: news, outages, dead probers, operators."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from shared.backends.base import LoadedModel
from shared.errors import BackendTimeout, BackendUnreachable, BadRequest, ModelFault
from shared.resilience.breaker import BreakerPolicy, BreakerState
from shared.resilience.breaker_store import Breakers
from shared.resilience.circuit_admin import CircuitAdmin
from shared.resilience.circuit_book import MAX_CIRCUITS
from tests.conftest import WaitUntil
from tests.house.redis_server import RedisServer
from tests.shared.resilience.fleet import HOST, KEYS, MODEL, NAMES, state_of, trip, view_of

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
QUICK = BreakerPolicy(open_s=0.2, open_cap_s=0.8, probe_lease_s=1.0)
LONG = BreakerPolicy(open_s=30)
NOWHERE = "redis://127.0.0.1:9/0"


@asynccontextmanager
async def running(url: str, policy: BreakerPolicy, *, worker_id: str = "w1", **fields: Any) -> AsyncIterator[Breakers]:
    async with Redis.from_url(url) as redis:
        breakers = Breakers(redis, KEYS, policy, worker_id=worker_id, **fields)
        await breakers.start()
        try:
            yield breakers
        finally:
            await breakers.stop()
            await breakers.stop()


@pytest.mark.req("S1-13", "S1-29", "S3-19", "C10", "C11")
async def test_five_failures_open_it_for_everybody(redis_url: str, wait_until: WaitUntil) -> None:
    changes: list[tuple[str, BreakerState]] = []
    async with (
        running(redis_url, LONG, on_change=lambda name, state: changes.append((name, state))) as one,
        running(redis_url, LONG, worker_id="w2") as other,
    ):
        for _ in range(4):
            one.conclude(await one.admit(NAMES), ModelFault())
        assert (await one.admit(NAMES)).allowed
        one.conclude(await one.admit(NAMES), ModelFault())
        refused = await one.admit(NAMES)
        assert not refused.allowed
        assert 20 < refused.retry_in_s <= 30
        told = time.monotonic()
        await wait_until(lambda: state_of(other, MODEL) is OPEN, description="the other worker to hear of it")
        assert time.monotonic() - told < 1.0
        assert not (await other.admit(NAMES)).allowed
        assert (await other.admit((HOST,))).allowed, "a broken model must not close its healthy neighbours"
        seen = view_of(other, MODEL)
        assert (seen.changed_by, seen.reason, seen.openings) == ("w1", "model_fault", 1)
        assert changes == [(MODEL, OPEN)]


@pytest.mark.req("S3-20", "S3-21")
async def test_one_worker_probes_and_its_success_closes_for_all(redis_url: str, wait_until: WaitUntil) -> None:
    async with (
        running(redis_url, QUICK) as one,
        running(redis_url, QUICK, worker_id="w2") as two,
        running(redis_url, QUICK, worker_id="w3") as three,
    ):
        fleet = (one, two, three)
        await trip(one)
        await wait_until(
            lambda: all(state_of(b, name) is HALF_OPEN for b in fleet for name in NAMES),
            description="the open time to be over",
        )
        asked = await asyncio.gather(*(b.admit(NAMES) for b in fleet for _ in range(10)))
        (probe,) = [admission for admission in asked if admission.allowed]
        assert probe.is_probe
        assert all(0 < admission.retry_in_s <= 1 for admission in asked if admission is not probe)
        fleet[asked.index(probe) // 10].record(probe)
        await wait_until(lambda: all(state_of(b, HOST) is CLOSED for b in fleet), description="all to be closed")
        assert not any(admission.is_probe for admission in await asyncio.gather(*(b.admit(NAMES) for b in fleet)))


async def test_a_probe_without_a_verdict_frees_the_permit(redis_url: str, wait_until: WaitUntil) -> None:
    async with running(redis_url, QUICK) as one, running(redis_url, QUICK, worker_id="w2") as two:
        await trip(one, (HOST,))
        await wait_until(lambda: state_of(two, HOST) is HALF_OPEN)
        probe = await one.admit((HOST,))
        assert probe.is_probe
        assert not (await two.admit((HOST,))).allowed
        one.conclude(probe, asyncio.CancelledError())
        started = time.monotonic()

        async def admitted() -> bool:
            return (await two.admit((HOST,))).is_probe

        await wait_until(admitted, description="the next probe")
        assert time.monotonic() - started < QUICK.probe_lease_s * 0.8


async def test_a_failed_probe_opens_it_again_for_longer(redis_url: str, wait_until: WaitUntil) -> None:
    async with running(redis_url, QUICK) as one:
        await trip(one, (HOST,))
        await wait_until(lambda: state_of(one, HOST) is HALF_OPEN)
        one.conclude(await one.admit((HOST,)), BackendUnreachable())
        await wait_until(lambda: view_of(one, HOST).openings == 2)
        assert view_of(one, HOST).retry_in_s > QUICK.open_s
        assert not (await one.admit((HOST,))).allowed


PROBER = """
import asyncio, sys
from redis.asyncio import Redis
from shared.resilience.breaker_store import Breakers
from shared.resilience.breaker import BreakerPolicy
from shared.queue.keys import Keys

async def main():
    breakers = Breakers(Redis.from_url(sys.argv[1]), Keys("gw"), BreakerPolicy(probe_lease_s=1.0), worker_id="doomed")
    await breakers.start()
    while not (await breakers.admit(sys.argv[2:])).is_probe:
        await asyncio.sleep(0.01)
    print("probing", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_a_prober_that_is_killed_does_not_keep_the_permit(redis_url: str, wait_until: WaitUntil) -> None:
    async with running(redis_url, QUICK) as one:
        await trip(one, (HOST,))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROBER, redis_url, HOST, stdout=asyncio.subprocess.PIPE
        )
        try:
            assert process.stdout is not None
            async with asyncio.timeout(20):
                await process.stdout.readuntil(b"probing\n")  # after some log lines
            await wait_until(lambda: state_of(one, HOST) is HALF_OPEN)
            assert not (await one.admit((HOST,))).allowed
        finally:
            process.kill()
            await process.wait()

        async def admitted() -> bool:
            return (await one.admit((HOST,))).is_probe

        await wait_until(admitted, QUICK.probe_lease_s + 1.5, description="the dead prober's permit")


@pytest.mark.req("S1-14")
async def test_without_redis_each_worker_goes_on_alone(wait_until: WaitUntil) -> None:
    async with running(NOWHERE, QUICK) as alone:
        await trip(alone)
        assert not (await alone.admit(NAMES)).allowed
        await wait_until(lambda: all(state_of(alone, name) is HALF_OPEN for name in NAMES))
        started = time.monotonic()
        probe = await alone.admit(NAMES)
        assert probe.is_probe
        assert time.monotonic() - started < 0.6
        assert not (await alone.admit(NAMES)).allowed, "one probe of its own"
        alone.record(probe)
        assert state_of(alone, HOST) is CLOSED
        assert (await alone.admit(NAMES)).allowed


async def test_what_happened_while_redis_was_away_is_told_afterwards(wait_until: WaitUntil) -> None:
    with RedisServer() as server:
        async with running(server.url, LONG) as one, running(server.url, LONG, worker_id="w2") as two:
            server.kill()
            await trip(one, (HOST,))
            assert not (await one.admit((HOST,))).allowed
            assert (await two.admit((HOST,))).allowed
            server.start()
            await wait_until(lambda: state_of(two, HOST) is OPEN, description="the others to be told")
            # And a Redis that comes back empty does not make them forget.
            server.kill()
            server.start()
            await asyncio.sleep(1.2)
            assert not (await two.admit((HOST,))).allowed


@pytest.mark.req("S1-49", "S3-28")
async def test_operators_close_and_hold_open(redis_url: str, wait_until: WaitUntil) -> None:
    async with running(redis_url, LONG) as one, Redis.from_url(redis_url) as redis:
        admin = CircuitAdmin(redis, KEYS)
        assert await admin.circuits() == []
        await trip(one)
        await wait_until(lambda: state_of(one, HOST) is OPEN)

        async def listed() -> bool:
            return [view.name for view in await admin.circuits()] == sorted(NAMES)

        await wait_until(listed)
        assert [view.name for view in await admin.reset(HOST)] == [HOST]
        await wait_until(lambda: state_of(one, HOST) is CLOSED)
        assert state_of(one, MODEL) is OPEN
        assert {view.name for view in await admin.reset()} == set(NAMES)
        await wait_until(lambda: state_of(one, MODEL) is CLOSED)

        opened = await admin.force_open(HOST, 120)
        assert (opened.state, opened.forced, opened.reason, opened.changed_by) == (OPEN, True, "forced", "operator")
        await wait_until(lambda: state_of(one, HOST) is OPEN)
        assert 115 < (await one.admit(NAMES)).retry_in_s <= 120
        assert view_of(one, HOST).forced
        for wrong in ("llama2", "host:", "chat:@h:1", "chat:x@", "drop table@h:1", "host:a b", "host:x\n"):
            with pytest.raises(BadRequest):
                await admin.force_open(wrong, 10)
        with pytest.raises(BadRequest):
            await admin.force_open(HOST, 8 * 86400)


async def test_a_reset_also_forgets_what_was_counted(redis_url: str, wait_until: WaitUntil) -> None:
    async with running(redis_url, LONG) as one, Redis.from_url(redis_url) as redis:
        await trip(one, (HOST,), failures=4)

        async def counted() -> bool:
            return bool(await redis.exists(KEYS.circuit_failures(HOST)))

        await wait_until(counted, description="the fleet's row")
        await CircuitAdmin(redis, KEYS).reset(HOST)
        await wait_until(lambda: view_of(one, HOST).changed_by == "operator")
        one.record(await one.admit((HOST,)), "failure")
        assert (await one.admit((HOST,))).allowed


async def test_so_does_a_reset_of_all_also_for_circuits_that_never_opened(
    redis_url: str, wait_until: WaitUntil
) -> None:
    async with running(redis_url, LONG) as one, Redis.from_url(redis_url) as redis:
        await trip(one, failures=4)

        async def counted() -> bool:
            return int(await redis.exists(*map(KEYS.circuit_failures, NAMES))) == 2

        await wait_until(counted, description="the fleet's rows")
        await CircuitAdmin(redis, KEYS).reset()

        async def forgotten() -> bool:
            return int(await redis.exists(*map(KEYS.circuit_failures, NAMES))) == 0

        await wait_until(forgotten, description="the rows to be gone")
        await trip(one, failures=4)
        await one.refresh()
        assert (await one.admit(NAMES)).allowed


async def test_what_is_nobodys_fault_never_opens_anything(redis_url: str) -> None:
    async def loading() -> Sequence[LoadedModel]:
        return []

    silence = BackendTimeout()
    silence.limit = "first_byte"
    async with running(redis_url, LONG) as one:
        for _ in range(30):
            admission = await one.admit(NAMES)
            assert admission.allowed
            one.conclude(admission, silence, ask=loading)
            one.conclude(await one.admit(NAMES), asyncio.CancelledError())
            await asyncio.sleep(0)
        await one.stop()
        assert one.snapshot() == []


async def test_a_hanging_host_opens_its_circuit(redis_url: str, wait_until: WaitUntil) -> None:
    async def silent() -> Sequence[LoadedModel]:
        raise BackendTimeout

    async with running(redis_url, LONG) as one:
        for _ in range(5):
            one.conclude(await one.admit(NAMES), BackendTimeout(), ask=silent)
        await wait_until(lambda: state_of(one, HOST) is OPEN)
        assert state_of(one, MODEL) is CLOSED


@pytest.mark.req("S1-90")
async def test_it_can_be_switched_off(redis_url: str) -> None:
    async with running(redis_url, LONG, enabled=False) as one:
        await trip(one, failures=20)
        assert (await one.admit(NAMES)).allowed
        assert one.snapshot() == []


async def test_ten_thousand_names_are_not_ten_thousand_circuits() -> None:
    async with running(NOWHERE, LONG) as one:
        await trip(one, (HOST,))
        for number in range(10_000):
            names = (f"chat:m{number}@h:1",)
            one.record(await one.admit(names))
        assert len(one.snapshot()) <= MAX_CIRCUITS
        assert not (await one.admit((HOST,))).allowed
