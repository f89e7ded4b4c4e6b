"""One leader among several managers: it follows a dead one, and one that was frozen does no harm."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from itertools import accumulate

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError

from manager.leader import Leadership, LeasePolicy, Term, TermOver, steady_clock
from shared.queue.keys import Keys
from tests.conftest import WaitUntil
from tests.house.redis_server import RedisServer
from tests.house.requirements import ROOT
from tests.manager.leading_process import FENCED, PLAIN

KEYS = Keys("gw")
KEY = "test:written"
POLICY = LeasePolicy(lease_s=8.0, renew_s=2.0, margin_s=2.0)


class Clock:
    """A manager's own clock, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as redis:
        yield redis


def manager(redis: Redis, name: str, clock: Clock | None = None, policy: LeasePolicy = POLICY) -> Leadership:
    return Leadership(redis, KEYS, name=name, policy=policy, clock=clock or steady_clock)


async def test_one_leads_until_it_resigns(redis: Redis) -> None:
    one, other = manager(redis, "one"), manager(redis, "other")
    assert await one.read() is None
    assert await one.attempt()
    assert not await other.attempt()
    assert await one.attempt(), "its own lease is renewed"
    assert (one.is_leader, other.is_leader, other.epoch) == (True, False, 0)
    info = await other.read()
    assert info is not None
    assert (info.name, info.epoch) == ("one", one.epoch)
    assert 0 < info.lease_left_s <= POLICY.lease_s
    first = one.epoch
    await other.start()
    await other.stop()  # resigns what is not its own
    assert await one.attempt()
    assert one.epoch == first
    await one.start()
    await one.stop()
    await one.stop()
    assert not one.is_leader
    assert await other.attempt()
    assert other.epoch > first


async def test_it_stops_before_its_lease_can_have_ended(redis: Redis) -> None:
    clock = Clock()
    one = manager(redis, "one", clock)
    await one.attempt()
    term = Term(one, one.epoch)
    clock.now += POLICY.lease_s - POLICY.margin_s - 0.001
    assert one.is_leader
    clock.now += 0.002  # no renewal came through in time
    assert (one.is_leader, term.is_over) == (False, True)
    with pytest.raises(TermOver):
        await term.write("SET", KEY, "x", "PX", 1000)
    assert not await redis.exists(KEY)
    # Its lease was still there, so nobody else can have led meanwhile: the same term goes on.
    assert await one.attempt()
    assert one.epoch == term.epoch


async def test_a_frozen_leader_is_fenced_out(redis: Redis) -> None:
    clock = Clock()
    frozen, next_one = manager(redis, "frozen", clock), manager(redis, "next")
    await frozen.attempt()
    old = Term(frozen, frozen.epoch)
    assert await old.write("SET", KEY, "old", "PX", 60_000) is not None
    await redis.delete(KEYS.leader)  # its lease has ended; its own clock stands still with it
    assert await next_one.attempt()
    new = Term(next_one, next_one.epoch)
    assert not old.is_over, "it does not know yet"
    await new.write("SET", KEY, "new", "PX", 60_000)
    with pytest.raises(TermOver):
        await old.write("SET", KEY, "old", "PX", 60_000)
    assert await redis.get(KEY) == b"new"
    assert not await frozen.attempt()
    assert old.is_over


async def test_terms_are_not_counted_again_when_redis_lost_its_data(redis: Redis) -> None:
    one, other = manager(redis, "one", Clock()), manager(redis, "other")
    await one.attempt()
    old = Term(one, one.epoch)
    await asyncio.sleep(0.002)  # epochs are at least a millisecond apart
    await redis.flushdb()
    assert await other.attempt()
    assert other.epoch > old.epoch
    with pytest.raises(TermOver):
        await old.write("SET", KEY, "old", "PX", 60_000)
    # Nor is an epoch ever given twice within one millisecond.
    epochs = []
    for _ in range(20):
        await redis.delete(KEYS.leader)
        await other.attempt()
        epochs.append(other.epoch)
    assert sorted(set(epochs)) == epochs


async def test_work_runs_while_it_leads_and_is_cancelled_when_it_does_not(redis: Redis, wait_until: WaitUntil) -> None:
    policy = LeasePolicy(lease_s=8.0, renew_s=0.02, margin_s=2.0)
    one = manager(redis, "one", policy=policy)
    epochs: list[int] = []
    cancelled: list[int] = []

    async def work(term: Term) -> None:
        epochs.append(term.epoch)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(term.epoch)
            raise

    leading = asyncio.create_task(one.lead(work))
    await one.start()
    await wait_until(lambda: epochs, description="it leads")
    await redis.hset(KEYS.leader, "token", "somebody else's")  # type: ignore[misc]  # redis-py 5 types it as either
    await wait_until(lambda: cancelled == epochs, description="it noticed")
    await redis.delete(KEYS.leader)
    await wait_until(lambda: len(epochs) == 2, description="it leads again")
    assert epochs[1] > epochs[0]
    await one.stop()
    await wait_until(lambda: cancelled == epochs, description="the work ended with the leadership")
    leading.cancel()
    await asyncio.gather(leading, return_exceptions=True)
    assert await one.read() is None


async def test_work_that_fails_is_begun_again(
    redis: Redis, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("manager.leader.RESTART_PAUSE_S", 0.01)
    one = manager(redis, "one")
    runs: list[int] = []

    async def work(term: Term) -> None:
        runs.append(term.epoch)
        if len(runs) == 1:
            raise ValueError("a bug")

    leading = asyncio.create_task(one.lead(work))
    await one.start()
    await wait_until(lambda: len(runs) >= 3, description="it went on")
    assert len(set(runs)) == 1
    leading.cancel()
    await asyncio.gather(leading, return_exceptions=True)
    await one.stop()


@pytest.mark.chaos
async def test_a_redis_that_restarts_finds_one_leader_again(wait_until: WaitUntil) -> None:
    policy = LeasePolicy(lease_s=3.0, renew_s=0.05, margin_s=0.5)
    with RedisServer(("--appendonly", "yes", "--appendfsync", "always")) as server:
        async with Redis.from_url(server.url, socket_timeout=1.0) as redis:
            managers = [manager(redis, name, policy=policy) for name in ("one", "other")]
            for each in managers:
                await each.start()

            def leaders() -> list[Leadership]:
                return [each for each in managers if each.is_leader]

            await wait_until(lambda: len(leaders()) == 1, description="one leads")
            before = leaders()[0].epoch
            server.kill()
            with pytest.raises((ConnectionError, OSError)):
                await managers[0].read()
            await wait_until(lambda: not leaders(), description="without Redis nobody leads for long")
            server.start()
            await wait_until(lambda: len(leaders()) == 1, description="one leads again")
            assert leaders()[0].epoch >= before
            for each in managers:
                await each.stop()


@contextmanager
def process(url: str, name: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.manager.leading_process", url, name]
    started = subprocess.Popen(command, cwd=ROOT)
    try:
        yield started
    finally:
        started.send_signal(signal.SIGCONT)
        started.kill()
        started.wait()


def late(acts: list[str]) -> int:
    """How many were done in a term after the next had begun."""
    epochs = [int(act.partition(":")[2]) for act in acts]
    return sum(epoch < latest for epoch, latest in zip(epochs, accumulate(epochs, max), strict=True))


@pytest.mark.chaos
async def test_a_process_that_was_stopped_and_wakes_up_does_no_harm(
    redis: Redis, redis_url: str, wait_until: WaitUntil
) -> None:
    async def acts(key: str) -> list[str]:
        return [raw.decode() for raw in await redis.lrange(key, 0, -1)]  # type: ignore[misc]  # redis-py 5 types it as either

    async def leads(name: str) -> bool:
        found = await acts(FENCED)
        return bool(found) and found[-1].startswith(f"{name}:")

    with process(redis_url, "one") as one:
        await wait_until(lambda: leads("one"), 30.0, description="the first one leads")
        with process(redis_url, "other"):
            os.kill(one.pid, signal.SIGSTOP)
            await wait_until(lambda: leads("other"), 30.0, description="the other one follows")
            os.kill(one.pid, signal.SIGCONT)
            count = len(await acts(FENCED))

            async def goes_on() -> bool:
                return len(await acts(FENCED)) > count + 50

            await wait_until(goes_on, 30.0, description="the other one goes on")
    # Unfenced, one act a term may come late: its process may have been stopped between its look and its act.
    assert late(await acts(FENCED)) == 0
    plain = await acts(PLAIN)
    assert late(plain) < len(set(plain))
    await redis.delete(FENCED, PLAIN)
