"""Who gets the next slot, and how a worker learns that there is work."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from msgspec.structs import replace

from shared.jobs import Priority, State
from shared.queue.client import QueueClient
from tests.conftest import WaitUntil
from tests.shared.queue.rig import HORIZON_MS, LEASE_MS, Gate, chat, claim, working


async def enqueue_many(client: QueueClient, count: int, priority: Priority) -> None:
    for first in range(0, count, 500):  # each call has 2 s, of which the thousands before it must not take all
        await asyncio.gather(*(client.enqueue(chat(priority=priority)) for _ in range(min(500, count - first))))


@pytest.mark.req("S1-06")
async def test_the_classes_share_the_slots_eight_to_three_to_one(client: QueueClient) -> None:
    for priority in Priority:
        await enqueue_many(client, 130, priority)

    claimed = await claim(client.scripts, 120)

    records = [await client.get(job.id) for job in claimed]
    shares = Counter(record.priority for record in records if record)
    assert shares == {Priority.HIGH: 80, Priority.NORMAL: 30, Priority.LOW: 10}


async def test_one_at_a_time_gives_the_same_shares(client: QueueClient) -> None:
    for priority in Priority:
        await enqueue_many(client, 60, priority)

    shares = Counter[str]()
    for n in range(48):
        [job] = await claim(client.scripts, seed=f"s{n}-")
        record = await client.get(job.id)
        shares[record.priority if record else "?"] += 1

    assert shares == {"high": 32, "normal": 12, "low": 4}


@pytest.mark.req("S1-06")
async def test_a_high_job_is_next_after_ten_thousand_low_ones(client: QueueClient) -> None:
    await enqueue_many(client, 10_000, Priority.LOW)
    await claim(client.scripts, 50)
    urgent = chat(priority=Priority.HIGH)
    await client.enqueue(urgent)

    [first] = await claim(client.scripts, seed="next")

    assert first.id == urgent.id


@pytest.mark.req("S1-06")
async def test_under_a_load_of_high_jobs_that_never_ends_low_ones_get_their_share(client: QueueClient) -> None:
    """For every job that starts, one more high and one more normal job come."""
    low = [chat(priority=Priority.LOW) for _ in range(60)]
    await client.enqueue_many([*low, *(chat(priority=p) for p in (Priority.HIGH, Priority.NORMAL) for _ in range(40))])
    low_ids = {job.id for job in low}
    started = 0

    for n in range(60):
        claimed = await claim(client.scripts, 6, seed=f"s{n}-")
        assert len(claimed) == 6, "and no slot stays empty"
        started += sum(job.id in low_ids for job in claimed)
        await client.enqueue_many([chat(priority=p) for p in (Priority.HIGH, Priority.NORMAL) for _ in range(6)])

    assert started == 60 * 6 // 12


async def test_what_a_claim_costs_does_not_depend_on_how_many_models_are_waited_for(client: QueueClient) -> None:
    calls = []
    for first, last in ((0, 64), (64, 500)):
        await client.enqueue_many([replace(chat(), model=f"m{n}") for n in range(first, last)])
        before = await _commands_in_all(client)
        # With the view that plans are made from, which is what takes long.
        _, view, *jobs = await client.scripts.run("claim", "w", f"s{last}", 4, LEASE_MS, HORIZON_MS, b"", "1")
        calls.append(await _commands_in_all(client) - before)
        assert len(jobs) == 4 and len(view[1]) // 4 <= 64

    assert calls[1] <= calls[0] + 20


async def _commands_in_all(client: QueueClient) -> int:
    """Those inside of scripts, too."""
    return sum(row["calls"] for row in (await client.redis.info("commandstats")).values())


async def test_within_a_class_the_first_come_is_served_first(client: QueueClient) -> None:
    jobs = [chat() for _ in range(20)]
    for job in jobs:
        await client.enqueue(job)

    claimed = [*await claim(client.scripts, 7), *await claim(client.scripts, 13, seed="b")]

    assert [job.id for job in claimed] == [job.id for job in jobs]


async def test_a_claim_takes_no_more_than_asked_and_wakes_another_worker_for_the_rest(client: QueueClient) -> None:
    await enqueue_many(client, 5, Priority.NORMAL)
    await client.redis.delete(client.keys.wake)

    assert len(await claim(client.scripts, 3)) == 3
    assert await client.redis.zcard(client.keys.wake) == 1
    await client.redis.delete(client.keys.wake)
    assert len(await claim(client.scripts, 3, seed="b")) == 2
    assert await client.redis.zcard(client.keys.wake) == 0


@pytest.mark.req("S1-15")
async def test_two_workers_share_the_queue_and_no_job_runs_twice(
    client: QueueClient, redis_url: str, wait_until: WaitUntil
) -> None:
    gates = [Gate(), Gate()]
    for gate in gates:
        gate.open()
    async with working(redis_url, gates[0].run, worker_id="a"), working(redis_url, gates[1].run, worker_id="b"):
        jobs = [chat() for _ in range(300)]
        await asyncio.gather(*(client.enqueue(job) for job in jobs))
        await wait_until(lambda: _all_done(client), description="all jobs ended")

    runs = Counter([*gates[0].started, *gates[1].started])
    assert runs == Counter(job.id for job in jobs)


async def _all_done(client: QueueClient) -> bool:
    return not await client.redis.zcard(client.keys.alarms)


async def test_ready_jobs_start_at_once_behind_120_long_ones(
    client: QueueClient, redis_url: str, wait_until: WaitUntil
) -> None:
    """Reliability campaign F22; stock arq starts none of the ten."""
    long, short = Gate(), Gate()
    async with working(redis_url, long.run, worker_id="busy", slots=120):
        await enqueue_many(client, 120, Priority.NORMAL)
        await wait_until(lambda: len(long.started) == 120)
        await enqueue_many(client, 10, Priority.NORMAL)
        async with working(redis_url, short.run, worker_id="idle", slots=10):
            await wait_until(lambda: len(short.started) == 10, timeout_s=1.0, description="ten jobs started")


async def test_a_free_worker_is_woken_rather_than_polling(
    client: QueueClient, redis_url: str, wait_until: WaitUntil
) -> None:
    gate = Gate()
    async with working(redis_url, gate.run):
        await wait_until(lambda: _blocked_clients(client), description="the worker waits for work")
        await client.enqueue(chat())
        await wait_until(lambda: gate.started, timeout_s=0.5, description="the job started")


async def _blocked_clients(client: QueueClient) -> int:
    return int((await client.redis.info("clients"))["blocked_clients"])


async def test_an_idle_worker_hardly_talks_to_redis(client: QueueClient, redis_url: str) -> None:
    async with working(redis_url):
        await asyncio.sleep(0.3)  # start-up is not idling
        before = await _commands(client)
        await asyncio.sleep(3)
        calls = await _commands(client) - before
    assert calls <= 30


async def _commands(client: QueueClient) -> int:
    """Calls by clients; commands inside of scripts do not count."""
    stats = await client.redis.info("commandstats")
    calls: dict[str, int] = {name: row["calls"] for name, row in stats.items()}
    return sum(calls.get(f"cmdstat_{name}", 0) for name in ("evalsha", "eval", "bzpopmin", "subscribe", "ping"))


async def test_a_worker_with_no_free_slot_claims_nothing(
    client: QueueClient, redis_url: str, wait_until: WaitUntil
) -> None:
    gate = Gate()
    async with working(redis_url, gate.run, slots=2) as worker:
        await enqueue_many(client, 5, Priority.NORMAL)
        await wait_until(lambda: len(gate.started) == 2)
        await asyncio.sleep(0.1)
        assert len(gate.started) == len(worker.running) == 2
        gate.open()
        await wait_until(lambda: len(gate.started) == 5)


async def test_an_expired_job_is_not_handed_out(client: QueueClient, wait_until: WaitUntil) -> None:
    job = chat(timeout_s=0.05)
    await client.enqueue(job)
    await asyncio.sleep(0.06)

    assert await claim(client.scripts) == []

    record = await client.get(job.id)
    assert record is not None and record.state is State.EXPIRED
    assert record.error is not None and record.error.code == "job_timeout"


async def test_a_job_without_its_payload_is_set_aside_with_the_reason(client: QueueClient) -> None:
    job = chat()
    await client.enqueue(job)
    await client.redis.delete(client.keys.payload_root + job.id)

    assert await claim(client.scripts) == []

    record = await client.get(job.id)
    assert record is not None and record.error is not None
    assert (record.state, record.error.code) == (State.DEAD_LETTERED, "payload_lost")


async def test_a_state_of_another_release_stops_neither_claims_nor_alarms(client: QueueClient) -> None:
    odd, good = chat(), chat()
    await client.enqueue(odd)
    await client.enqueue(good)
    await client.redis.hset(client.keys.record(odd.id), "s", "parked")  # type: ignore[misc]  # redis-py 5 types it as either
    await client.redis.zadd(client.keys.alarms, {odd.id: 1})

    assert [job.id for job in await claim(client.scripts, 5)] == [good.id]
