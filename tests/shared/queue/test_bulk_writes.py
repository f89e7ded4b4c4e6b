"""What the jobs of one call change in one key is written with one command, and never read before it is there."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis

from shared.jobs import NewJob, Priority
from shared.queue.arrivals import Accepted
from shared.queue.client import QueueClient
from shared.queue.keys import Keys
from shared.queue.scripts import Scripts
from tests.shared.queue.clocked import clocked_sources
from tests.shared.queue.rig import chat, claim, counter, settle
from tests.shared.queue.scenarios import LEASE_MS, Stage
from tests.shared.queue.slot_scenarios import place, plan, row

JOBS = 50
TO_WRITE_A_JOB = {"enqueue": 1, "claim": 1, "settle": 3}
"""The record; the record; the record, its lifetime and the result."""
TO_WRITE_A_CALL = 20
"""More than the counters, lines and alarms of any call take."""
WRITES = ("hset", "hdel", "hincrby", "zadd", "zrem", "zpopmin", "pexpire", "set", "mset", "del", "sadd")


async def _writes(redis: Redis) -> int:
    stats: dict[str, Any] = await redis.info("commandstats")
    return sum(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"] for command in WRITES)


async def test_a_job_costs_few_writes_of_its_own(client: QueueClient) -> None:
    async def most(script: str, before: int) -> int:
        written = await _writes(client.redis)
        assert written - before <= TO_WRITE_A_JOB[script] * JOBS + TO_WRITE_A_CALL
        return written

    written = await _writes(client.redis)
    await client.enqueue_many([chat(tenant=f"t{n % 3}") for n in range(JOBS)])
    written = await most("enqueue", written)
    runs = await claim(client.scripts, JOBS)
    written = await most("claim", written)
    rows = [field for run in runs for field in (run.id, run.token, "succeeded", b"", b"R", 0, b"")]
    assert await client.scripts.run("settle", *rows) == [b"succeeded"] * JOBS
    await most("settle", written)


async def test_more_jobs_than_lua_hands_over_at_once(client: QueueClient) -> None:
    many = 4500
    await client.enqueue_many([chat(text=str(n)) for n in range(many)])
    runs = [*await claim(client.scripts, many), *await claim(client.scripts, many, seed="b")]
    assert len({run.id for run in runs}) == many
    rows = [field for run in runs for field in (run.id, run.token, "released", b"", b"", 0, b"")]
    assert await client.scripts.run("settle", *rows) == [b"queued"] * many
    assert await client.redis.zcard(client.keys.alarms) == many
    assert await client.redis.zcard(client.keys.line("normal", "t:llama3.2")) == many

    assert await client.clear() == many

    assert await client.redis.exists(client.keys.alarms, client.keys.lines("normal"), client.keys.tags("normal")) == 0
    assert await counter(client, "queued") == 0


async def test_jobs_of_one_call_are_told_where_they_stand_beside_each_other(client: QueueClient) -> None:
    def job(tenant: str, priority: Priority, model: str) -> NewJob:
        made = chat(tenant=tenant, priority=priority)
        made.model = model
        return made

    jobs = [
        job(tenant, priority, model)
        for tenant in ("a", "b", "a")
        for priority in (Priority.NORMAL, Priority.HIGH)
        for model in ("x", "y")
    ]

    accepted = await client.enqueue_many(jobs)

    standings = await client.standings([job.id for job in jobs])
    told = [each.standing for each in accepted if isinstance(each, Accepted)]
    assert told == [standings[job.id] for job in jobs]
    positions = [standing.position for standing in told if standing is not None]
    assert min(positions) == 1
    assert max(positions) <= len(jobs)


async def test_a_job_that_a_claim_finds_lost_runs_on_under_a_new_lease(redis_url: str) -> None:
    """It is put in line and taken out, its alarm set twice, in one call."""
    async with Redis.from_url(redis_url) as redis:
        keys = Keys("gw")
        on = Stage(Scripts(redis, keys, sources=clocked_sources()), redis, keys)
        await on.after(0)
        planned = plan(row(place()))
        await on.enqueue("j")
        await on.take(plan=planned)
        await on.after(LEASE_MS + 1)

        [again] = await on.take(seed="again", plan=planned)

        assert (again.id, again.attempt) == ("j", 2)
        assert await redis.zscore(keys.alarms, "j") == on.now_us // 1000 + LEASE_MS
        assert await redis.zcard(keys.lines("normal")) == 0
        assert await on.calls() == {"a": 1000, "a|m": 1000}
        await settle(on.scripts, "j", again.token)
        assert await redis.zcard(keys.alarms) == 0
        await redis.flushdb()


async def test_of_a_long_list_whatever_is_gone_is_trimmed_in_the_end(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as redis:
        keys = Keys("gw")
        on = Stage(Scripts(redis, keys, sources=clocked_sources()), redis, keys)
        await on.after(0)
        for n in range(220):
            await on.enqueue(f"j{n:03d}")
        gone = ["j003", "j004", "j057", "j150", "j219"]
        await redis.delete(*map(keys.record, gone))

        for _ in range(10):
            await on.sweep()
            await on.after(1)

        left = [job_id.decode() for job_id in await redis.zrange(keys.tenant("t"), 0, -1)]
        assert left == [f"j{n:03d}" for n in range(220) if f"j{n:03d}" not in gone]
        await redis.flushdb()
