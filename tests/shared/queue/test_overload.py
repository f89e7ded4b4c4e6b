"""The queue's limits, checked where the job is stored: what is refused, why, who goes first, and how it is measured."""

from __future__ import annotations

import asyncio

import pytest

from shared.errors import MemoryPressure, Overloaded, QueueUnavailable
from shared.jobs import NewJob, Priority, State
from shared.queue.admission import QueueLimits
from shared.queue.client import QueueClient
from shared.wire.codec import encode_job
from tests.house.redis_server import RedisServer
from tests.shared.queue.rig import chat, claim, counter, queue_client, settings_for, settle
from tests.shared.queue.test_leases import lapse, read


async def limited(url: str, **limits: float) -> QueueClient:
    return await QueueClient.connect(settings_for(url), limits=QueueLimits(**limits))  # type: ignore[arg-type]  # numbers all


async def refused(client: QueueClient, job: NewJob) -> Overloaded:
    """The refusal of `job`, of which nothing may be stored."""
    before = await client.redis.dbsize()
    with pytest.raises(Overloaded) as caught:
        await client.enqueue(job)
    assert await client.get(job.id) is None
    assert not await client.redis.exists(client.keys.payload_root + job.id)
    assert await client.redis.dbsize() <= before + 1  # the counters' first field
    return caught.value


async def sweep(client: QueueClient) -> None:
    await client.redis.delete(f"{client.keys.root}sweeping")
    await client.sweep()


def size(job: NewJob) -> int:
    return len(encode_job(job.kind, job.request, restartable=job.restartable, enqueued_ms=1_700_000_000_000))


async def held(client: QueueClient) -> tuple[int, dict[str, int]]:
    """(payload bytes of unfinished jobs, unfinished jobs of each tenant) as the shard counts them."""
    pipe = client.redis.pipeline()
    pipe.hget(client.keys.load, "bytes")
    pipe.hgetall(client.keys.unfinished)
    held_bytes, tenants = await pipe.execute()
    return int(held_bytes or 0), {name.decode(): int(count) for name, count in tenants.items()}


async def test_one_tenant_cannot_fill_the_queue(redis_url: str) -> None:
    client = await limited(redis_url, depth=100, tenant_depth=3)
    for _ in range(2):
        await client.enqueue(chat(tenant="loud"))
    await client.enqueue(chat(tenant="loud", delay_s=60))

    error = await refused(client, chat(tenant="loud"))

    assert (error.code, error.http_status) == ("tenant_queue_full", 429)
    await client.enqueue(chat(tenant="quiet"))
    runs = await claim(client.scripts, 3)
    assert (await refused(client, chat(tenant="loud"))).code == "tenant_queue_full", "a running job counts"
    for run in runs:
        await settle(client.scripts, run.id, run.token)
    await client.enqueue(chat(tenant="loud"))
    await client.aclose()


async def test_the_limit_holds_within_one_call_too(redis_url: str) -> None:
    client = await limited(redis_url, tenant_depth=3)
    outcomes = await asyncio.gather(*(client.enqueue(chat()) for _ in range(10)), return_exceptions=True)
    assert sum(isinstance(outcome, Overloaded) for outcome in outcomes) == 7
    await client.aclose()


async def test_low_priority_is_shed_first_and_high_last(redis_url: str) -> None:
    client = await limited(redis_url, depth=20)
    low, normal, high = (Priority.LOW, Priority.NORMAL, Priority.HIGH)
    for _ in range(16):
        await client.enqueue(chat(priority=low))
    assert (await refused(client, chat(priority=low))).code == "queue_full"
    for _ in range(3):
        await client.enqueue(chat(priority=normal))
    assert (await refused(client, chat(priority=normal))).code == "queue_full"
    await client.enqueue(chat(priority=high))
    assert (await refused(client, chat(priority=high))).code == "queue_full"
    assert await counter(client, "refused") == 3
    await client.aclose()


async def test_the_bytes_of_what_waits_are_bounded(redis_url: str) -> None:
    job = chat("x" * 1000)
    client = await limited(redis_url, payload_bytes=int(2.5 * size(job)))
    await client.enqueue(job)
    await client.enqueue(chat("x" * 1000))

    error = await refused(client, chat("x" * 1000))

    assert (error.code, error.http_status) == ("queue_bytes_full", 503)
    await client.cancel(job.id)
    await client.enqueue(chat("x" * 1000))
    await client.aclose()


async def test_bytes_and_jobs_are_counted_exactly_whatever_their_end(client: QueueClient) -> None:
    jobs = [chat("x" * (n + 1), tenant="a" if n % 2 else "b", keep_events=True) for n in range(8)]
    for job in jobs:
        await client.enqueue(job)
        await client.enqueue(job)  # a repetition holds nothing
    stored = [len(await client.redis.get(client.keys.payload_root + job.id)) for job in jobs]
    assert await held(client) == (sum(stored), {"a": 4, "b": 4})

    runs = {run.id: run for run in await claim(client.scripts, 6)}  # the tenants take turns
    done, dead, again, back, crashed = (runs[job.id] for job in jobs[:5])
    assert await held(client) == (sum(stored), {"a": 4, "b": 4})
    await settle(client.scripts, done.id, done.token, result=b"R")
    await settle(client.scripts, done.id, done.token, result=b"R")  # a repetition releases nothing
    await settle(client.scripts, dead.id, dead.token, "dead_lettered", error=b"@backend_fault")
    await settle(client.scripts, again.id, again.token, "retried", error=b"@backend_fault", delay_ms=60_000)
    await settle(client.scripts, back.id, back.token, "released", delay_ms=60_000)
    await settle(client.scripts, jobs[5].id, runs[jobs[5].id].token, "released")
    await lapse(client, crashed.id)
    await client.cancel(jobs[6].id)
    assert await held(client) == (sum(stored) - stored[0] - stored[1] - stored[6], {"a": 3, "b": 2})

    assert await client.clear() == 5
    assert await held(client) == (0, {})
    assert (await client.stats()).payload_bytes == 0


async def test_what_vanished_unended_is_forgotten_once_nothing_is_under_way(client: QueueClient) -> None:
    gone, there = chat(tenant="a"), chat(tenant="b")
    await client.enqueue(gone)
    await client.enqueue(there)
    await client.redis.delete(client.keys.record(gone.id), client.keys.payload_root + gone.id)
    await client.redis.zadd(client.keys.alarms, {gone.id: 1})

    await sweep(client)
    assert (await held(client))[1] == {"a": 1, "b": 1}, "as long as anything is under way, nothing is guessed"

    await client.cancel(there.id)
    await sweep(client)
    assert await held(client) == (0, {})
    assert (await client.stats()).states == {"queued": 0, "running": 0, "scheduled": 0}


async def test_a_class_whose_oldest_job_waits_too_long_takes_no_more(redis_url: str) -> None:
    client = await limited(redis_url, oldest_wait_s=0.2)
    await client.enqueue(chat())
    await client.enqueue(chat())
    await asyncio.sleep(0.25)

    error = await refused(client, chat())

    assert (error.code, error.http_status) == ("queue_too_slow", 503)
    await client.enqueue(chat(priority=Priority.HIGH))  # its own line is short
    await claim(client.scripts, 3)
    await client.enqueue(chat())
    await client.aclose()


async def measured(client: QueueClient, **fields: float) -> None:
    """As if the sweep had just found this."""
    now_ms = int((await client.redis.time())[0] * 1000)
    await client.redis.hset(client.keys.load, mapping={"rated": now_ms, "at": now_ms, **fields})  # type: ignore[misc]  # redis-py 5 types it as either


async def test_a_job_that_would_wait_past_its_deadline_is_told_so_now(redis_url: str) -> None:
    client = await limited(redis_url, estimates=True)
    for _ in range(20):
        await client.enqueue(chat())
    await client.enqueue(chat(timeout_s=5))  # nothing is known yet
    await measured(client, rate=2.0)

    error = await refused(client, chat(timeout_s=5))

    assert (error.code, error.http_status) == ("deadline_unreachable", 503)
    assert error.retry_after_s == 6, "21 jobs at 2 a second take 10.5 s: 5.5 more than it has"
    await client.enqueue(chat(timeout_s=15))
    await client.enqueue(chat(timeout_s=5, priority=Priority.HIGH))  # gets 8 of 11 turns
    await client.enqueue(chat(timeout_s=5, delay_s=4))  # who knows what will be then
    await client.redis.hincrby(client.keys.load, "rated", -61_000)  # type: ignore[misc]  # redis-py 5 types it as either
    await client.enqueue(chat(timeout_s=5))  # measured too long ago to refuse anybody by it
    await client.aclose()


async def test_retry_after_follows_the_measured_rate(redis_url: str) -> None:
    client = await limited(redis_url, depth=100)
    for _ in range(95):
        await client.enqueue(chat())
    assert (await refused(client, chat())).retry_after_s == 5, "nothing measured"
    await measured(client, rate=2.0)
    assert (await refused(client, chat())).retry_after_s == 5, "a tenth of 95 at 2 a second"
    await measured(client, rate=0.5)
    assert (await refused(client, chat())).retry_after_s == 19
    await measured(client, rate=0.01)
    assert (await refused(client, chat())).retry_after_s == 120
    await measured(client, rate=50.0)
    assert (await refused(client, chat())).retry_after_s == 1
    await measured(client, rate=50.0, busy=1)
    await client.redis.hincrby(client.keys.load, "at", -40_000)  # type: ignore[misc]  # redis-py 5 types it as either
    assert (await refused(client, chat())).retry_after_s in (40, 41), "nothing has ended for 40 s"
    await client.aclose()


async def drain(client: QueueClient, count: int, seed: str) -> None:
    for run in await claim(client.scripts, count, seed=seed):
        await settle(client.scripts, run.id, run.token)


async def age_measurement(client: QueueClient, ms: int) -> None:
    await client.redis.hincrby(client.keys.load, "at", -ms)  # type: ignore[misc]  # redis-py 5 types it as either


async def test_the_drain_rate_is_measured_while_jobs_wait(client: QueueClient) -> None:
    for _ in range(100):
        await client.enqueue(chat())
    await sweep(client)
    assert (await client.stats()).drain_per_s is None
    await drain(client, 20, "a")
    await age_measurement(client, 2000)
    await sweep(client)
    first = (await client.stats()).drain_per_s
    assert first == pytest.approx(10, rel=0.1)

    await age_measurement(client, 1000)
    await sweep(client)  # nothing ended: the interval only grows
    assert (await client.stats()).drain_per_s == first
    await drain(client, 40, "b")
    await age_measurement(client, 1000)
    await sweep(client)
    second = (await client.stats()).drain_per_s
    assert second == pytest.approx(10 + (1 - 2.718 ** (-2 / 10)) * 10, rel=0.1), "40 in 2 s, smoothed over 10 s"

    await drain(client, 40, "c")
    await sweep(client)  # the line is empty: now the rate would only tell what was asked for
    assert (await client.stats()).drain_per_s == second


async def test_memory_pressure_leaves_room_for_the_jobs_under_way() -> None:
    with RedisServer(("--maxmemory-policy", "noeviction")) as server:
        client = await limited(server.url, memory_percent=80)
        running = chat()
        await client.enqueue(running)
        [run] = await claim(client.scripts)

        async def in_use(share: float) -> None:
            await sweep(client)  # its script takes memory too, once
            used = (await client.redis.info("memory"))["used_memory"]
            await client.redis.config_set("maxmemory", int(used / share))
            await sweep(client)

        await in_use(0.77)
        assert (await refused(client, chat(priority=Priority.LOW))).code == "memory_pressure"
        await client.enqueue(chat())

        await in_use(0.9)
        error = await refused(client, chat(priority=Priority.HIGH))
        assert (error.code, error.http_status) == ("memory_pressure", 503)
        assert await settle(client.scripts, run.id, run.token, result=b"R" * 1000) == b"succeeded"

        await client.redis.config_set("maxmemory", 0)
        await sweep(client)
        await client.enqueue(chat())
        await client.aclose()


async def test_a_redis_without_memory_or_disk_is_503_and_heals() -> None:
    with RedisServer(("--maxmemory-policy", "noeviction")) as server:
        async with queue_client(server.url) as client:
            late = chat(timeout_s=0.05)
            await client.enqueue(late)
            await client.redis.config_set("maxmemory", "1")
            with pytest.raises(MemoryPressure):
                await client.enqueue(chat())
            await asyncio.sleep(0.1)
            await sweep(client)  # which gives memory back, and so must still work
            assert (await read(client, late.id)).state is State.EXPIRED
            await client.redis.config_set("maxmemory", "0")
            await client.enqueue(chat())

            # A failed save makes Redis refuse writes: a directory has the file's name.
            (server.log.parent / "dump.rdb").mkdir()
            await client.redis.config_set("stop-writes-on-bgsave-error", "yes")
            await client.redis.config_set("save", "1 1")
            await client.redis.bgsave()
            for _ in range(300):
                if (await client.redis.info("persistence"))["rdb_last_bgsave_status"] == "err":
                    break
                await asyncio.sleep(0.01)
            with pytest.raises(QueueUnavailable, match="disk"):
                await client.enqueue(chat())
            assert (await client.stats()).states["queued"] == 1
            await client.redis.config_set("stop-writes-on-bgsave-error", "no")
            await client.enqueue(chat())


async def test_the_list_of_a_tenants_jobs_is_trimmed_behind_a_dead_letter(client: QueueClient) -> None:
    dead = chat()
    await client.enqueue(dead)
    [run] = await claim(client.scripts)
    await settle(client.scripts, run.id, run.token, "dead_lettered", error=b"@backend_fault")
    index = client.keys.tenant("default")
    await client.redis.zadd(index, {f"job_{n:05d}": 2_000_000_000_000 + n for n in range(4500)})  # long gone

    for _ in range(4):
        await sweep(client)

    assert await client.redis.zrange(index, 0, -1) == [dead.id.encode()]
