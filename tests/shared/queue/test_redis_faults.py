"""Redis goes away, comes back, forgets, refuses: workers stay, jobs stay."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from redis.exceptions import RedisError

from shared.errors import MemoryPressure, QueueUnavailable
from shared.jobs import Priority, State
from shared.queue.client import QueueClient
from shared.queue.running import RunningJob
from shared.wire.canonical import Delta
from tests.conftest import WaitUntil
from tests.house.redis_server import RedisServer
from tests.shared.queue.rig import ANSWER, Gate, answer, chat, queue_client, working
from tests.shared.queue.test_leases import has_state, read

AOF = ("--appendonly", "yes", "--appendfsync", "always")


async def test_forgotten_scripts_are_sent_again(client: QueueClient, redis_url: str, wait_until: WaitUntil) -> None:
    async with working(redis_url):
        for _ in range(3):
            await client.redis.script_flush()
            job = chat()
            await client.enqueue(job)
            await wait_until(lambda job=job: has_state(client, job.id, State.SUCCEEDED))


async def test_cut_connections_end_no_worker_and_lose_no_job(
    client: QueueClient, redis_url: str, wait_until: WaitUntil
) -> None:
    runs = Counter[str]()

    async def work(ctx: dict[str, Any], job: RunningJob) -> bytes:
        runs[job.id] += 1
        await asyncio.sleep(0.02)
        return ANSWER

    jobs = [chat() for _ in range(150)]
    async with working(redis_url, work, worker_id="a") as a, working(redis_url, work, worker_id="b") as b:
        for n, job in enumerate(jobs):
            await client.enqueue(job)
            if n % 10 == 0:
                for kind in ("normal", "pubsub"):
                    await client.redis.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")  # type: ignore[no-untyped-call]  # redis-py 5
            await asyncio.sleep(0.005)
        await wait_until(lambda: _empty(client), timeout_s=20, description="every job ended")
        assert a.main_task is not None and not a.main_task.done()
        assert b.main_task is not None and not b.main_task.done()

    records = [await read(client, job.id) for job in jobs]
    assert {record.state for record in records} == {State.SUCCEEDED}
    # A claim whose answer was cut off is handed back, so it is neither lost nor counted as a crash.
    assert sum(record.crashes for record in records) == 0
    assert all(runs[job.id] == 1 for job in jobs)


async def _empty(client: QueueClient) -> bool:
    try:
        return not await client.redis.zcard(client.keys.alarms)
    except RedisError:
        return False


async def test_a_redis_crash_with_aof_costs_nothing(wait_until: WaitUntil) -> None:
    with RedisServer(AOF) as server:
        gate = Gate()
        async with queue_client(server.url) as client, working(server.url, gate.run, slots=2) as worker:
            jobs = [chat() for _ in range(5)]
            for job in jobs:
                await client.enqueue(job)
            await wait_until(lambda: len(gate.started) == 2)

            server.kill()
            gate.open()  # two answers come while Redis is away
            await asyncio.sleep(0.5)
            server.start()

            for job in jobs:
                await wait_until(lambda job=job: has_state(client, job.id, State.SUCCEEDED))
            assert worker.main_task is not None and not worker.main_task.done()
            records = [await read(client, job.id) for job in jobs]

    assert [(r.crashes, r.failures, len(r.attempts)) for r in records] == [(0, 0, 1)] * 5


async def test_leases_that_ran_out_while_redis_was_away_are_revived_by_their_worker(wait_until: WaitUntil) -> None:
    with RedisServer(AOF) as server:
        gate, job = Gate(), chat()
        async with queue_client(server.url) as client, working(server.url, gate.run, lease_ms=1000) as worker:
            await client.enqueue(job)
            await wait_until(lambda: gate.started)
            server.kill()
            await asyncio.sleep(1.5)
            server.start()
            await wait_until(lambda: worker.idle_for_s < 0.5)
            gate.open()
            await wait_until(lambda: has_state(client, job.id, State.SUCCEEDED))
            record = await read(client, job.id)

    assert (record.crashes, gate.started) == (0, [job.id])


async def test_a_redis_that_comes_back_empty_is_worked_on_as_it_is(wait_until: WaitUntil) -> None:
    with RedisServer() as server:
        gate, lost, new = Gate(), chat(), chat()
        async with queue_client(server.url) as client, working(server.url, gate.run) as worker:
            await client.enqueue(lost)
            await wait_until(lambda: gate.started)
            server.kill()
            server.start()
            gate.open()
            await wait_until(lambda: worker.outbox.stale_writes == 1, description="the lost job's answer is refused")
            await client.enqueue(new)
            await wait_until(lambda: has_state(client, new.id, State.SUCCEEDED))
            assert await client.get(lost.id) is None


async def test_a_worker_may_start_before_redis(wait_until: WaitUntil) -> None:
    with RedisServer() as server:
        server.kill()
        async with working(server.url), queue_client(server.url) as client:
            await asyncio.sleep(0.2)
            server.start()
            job = chat()
            await client.enqueue(job)
            await wait_until(lambda: has_state(client, job.id, State.SUCCEEDED))


@pytest.mark.req("S1-14")
async def test_accepted_jobs_run_and_end_though_redis_is_out_of_memory(wait_until: WaitUntil) -> None:
    held = asyncio.Event()

    async def stream(ctx: dict[str, Any], job: RunningJob) -> bytes:
        await held.wait()
        job.publish(Delta(content="so far"))
        return ANSWER

    with RedisServer(("--maxmemory-policy", "noeviction")) as server:
        jobs = [chat(keep_events=True, priority=priority) for priority in Priority]
        async with queue_client(server.url) as client, working(server.url, stream, slots=1, lease_ms=1000) as worker:
            for job in jobs:
                await client.enqueue(job)
            await wait_until(lambda: worker.running)
            await client.redis.config_set("maxmemory", "1")
            with pytest.raises(MemoryPressure):
                await client.enqueue(chat())
            await asyncio.sleep(1.5)  # longer than the lease
            held.set()
            for job in jobs:
                await wait_until(lambda job=job: has_state(client, job.id, State.SUCCEEDED))
            records = [await read(client, job.id) for job in jobs]
            events = [(await client.attach(job.id, "g1")).events for job in jobs]
            await client.sweep()

    assert [(record.crashes, len(record.attempts)) for record in records] == [(0, 1)] * 3
    assert [len(log) for log in events] == [2] * 3  # its start and its text


async def refuse_writes(client: QueueClient, refuse: bool) -> None:
    """Redis answers, but takes no writes: as with a full disk."""
    await client.redis.config_set("min-replicas-to-write", int(refuse))


async def test_an_answer_that_redis_refuses_waits_until_it_does_not(wait_until: WaitUntil) -> None:
    with RedisServer() as server:
        gate, job = Gate(), chat()
        async with queue_client(server.url) as client, working(server.url, gate.run) as worker:
            await client.enqueue(job)
            await wait_until(lambda: gate.started)
            await refuse_writes(client, True)
            gate.open()
            await wait_until(lambda: worker.runs.is_settling(job.id))
            await asyncio.sleep(0.3)
            assert (await read(client, job.id)).state is State.RUNNING
            await refuse_writes(client, False)
            await wait_until(lambda: has_state(client, job.id, State.SUCCEEDED))


async def test_answers_survive_a_long_refusal_and_no_run_is_spent(wait_until: WaitUntil) -> None:
    with RedisServer() as server:
        gate, job = Gate(), chat()
        async with queue_client(server.url) as client, working(server.url, gate.run, lease_ms=500):
            await client.enqueue(job)
            await wait_until(lambda: gate.started)
            await refuse_writes(client, True)
            with pytest.raises(QueueUnavailable, match="takes no writes"):
                await client.enqueue(chat())
            gate.open()
            await asyncio.sleep(1.5)  # the lease is over
            await refuse_writes(client, False)
            await wait_until(lambda: has_state(client, job.id, State.SUCCEEDED))
            record = await read(client, job.id)

    assert (record.crashes, gate.started) == (0, [job.id])


async def test_a_write_that_cannot_succeed_does_not_hold_up_the_others(
    wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.queue.outbox.MAX_REFUSALS", 3)
    ends: list[tuple[str, str]] = []
    with RedisServer() as server:
        wrong, later = chat(), chat()
        gate = Gate()
        async with (
            queue_client(server.url) as client,
            working(server.url, gate.run, on_settled=lambda job, state, seconds, error: ends.append((job.id, state))),
        ):
            await client.enqueue(wrong)
            await wait_until(lambda: gate.started)
            await client.redis.delete(client.keys.record(wrong.id))
            await client.redis.set(client.keys.record(wrong.id), "not a hash", ex=60)
            gate.open()
            await wait_until(lambda: ends == [(wrong.id, "!")], description="given up as lost")
            await client.redis.delete(client.keys.record(wrong.id))
            await client.enqueue(later)
            await wait_until(lambda: has_state(client, later.id, State.SUCCEEDED))


async def test_two_clients_share_nothing_but_redis(redis_url: str, wait_until: WaitUntil) -> None:
    job = chat()
    async with queue_client(redis_url) as one, queue_client(redis_url) as other, working(redis_url, answer):
        await one.enqueue(job)
        await wait_until(lambda: has_state(other, job.id, State.SUCCEEDED))
