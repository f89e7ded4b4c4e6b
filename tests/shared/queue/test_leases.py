"""Leases, crashes and the fence: a job is only ever written by the run that holds it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.exceptions import ConnectionError

from shared.jobs import JobRecord, State
from shared.queue.client import QueueClient
from shared.queue.running import RunningJob
from shared.queue.scripts import Scripts
from shared.wire.canonical import Delta
from tests.conftest import WaitUntil
from tests.shared.queue.rig import ANSWER, Gate, chat, claim, counter, publish, renew, settle, working

SHORT_MS = 150


async def read(client: QueueClient, job_id: str) -> JobRecord:
    record = await client.get(job_id)
    assert record is not None
    return record


async def has_state(client: QueueClient, job_id: str, state: State) -> bool:
    return (await read(client, job_id)).state is state


async def lapse(client: QueueClient, job_id: str) -> None:
    """Let a job's lease be over, and somebody notice."""
    await client.redis.zadd(client.keys.alarms, {job_id: 1})
    await client.redis.delete(f"{client.keys.root}sweeping")
    await client.sweep()


@pytest.mark.req("C31")
async def test_a_held_job_is_renewed_past_its_lease(
    client: QueueClient, redis_url: str, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.queue.heartbeat.RENEW_S", 0.1)
    gate = Gate()
    async with working(redis_url, gate.run, lease_ms=400) as worker:
        job = chat()
        await client.enqueue(job)
        await wait_until(lambda: gate.started)
        await asyncio.sleep(1.0)
        assert worker.runs.lost_leases == 0
        gate.open()
        await wait_until(lambda: has_state(client, job.id, State.SUCCEEDED))

    record = await read(client, job.id)
    assert (record.crashes, len(record.attempts)) == (0, 1)


async def test_a_dead_workers_job_runs_again_elsewhere_and_counts_a_crash_not_a_failure(
    client: QueueClient, redis_url: str, wait_until: WaitUntil
) -> None:
    job = chat()
    await client.enqueue(job)
    await claim(client.scripts, lease_ms=SHORT_MS)  # and this worker is never heard of again

    async with working(redis_url):
        await wait_until(lambda: has_state(client, job.id, State.SUCCEEDED), timeout_s=3)

    record = await read(client, job.id)
    assert (record.crashes, record.failures) == (1, 0)
    assert [(a.worker, a.outcome) for a in record.attempts] == [("ghost", "crashed"), ("w1", "succeeded")]
    assert await counter(client, "crashed") == 1


async def test_a_lost_job_goes_back_to_the_front(client: QueueClient) -> None:
    first, second = chat(), chat()
    for job in (first, second):
        await client.enqueue(job)
    [taken] = await claim(client.scripts)
    await lapse(client, taken.id)

    assert [job.id for job in await claim(client.scripts, 5, seed="b")] == [first.id, second.id]


@pytest.mark.req("S1-11")
async def test_a_job_whose_worker_died_three_times_is_set_aside(client: QueueClient) -> None:
    job = chat()
    await client.enqueue(job)
    for life in range(3):
        assert await claim(client.scripts, seed=f"life{life}")
        await lapse(client, job.id)

    record = await read(client, job.id)
    assert (record.state, record.crashes, record.failures) == (State.DEAD_LETTERED, 3, 0)
    assert record.error is not None and record.error.code == "job_poisoned"
    assert await claim(client.scripts) == []


async def test_a_stale_settlement_is_refused_and_counted(client: QueueClient) -> None:
    job = chat()
    await client.enqueue(job)
    [old] = await claim(client.scripts, seed="old")
    await lapse(client, job.id)
    [new] = await claim(client.scripts, seed="new")

    assert await settle(client.scripts, old.id, old.token, result=b"old") == b"!"
    assert await settle(client.scripts, new.id, new.token, result=b"new") == b"succeeded"
    assert await settle(client.scripts, old.id, old.token, "dead_lettered", result=b"old") == b"!"

    assert await client.redis.get(client.keys.result_root + job.id) == b"new"
    assert await counter(client, "stale_writes") == 2


async def test_a_stale_chunk_reaches_nobody(client: QueueClient) -> None:
    inbox = client.keys.inbox("g1")
    await client.redis.xadd(inbox, {"hello": "1"})
    await client.redis.expire(inbox, 60)
    job = chat(keep_events=True, reply_to="g1")
    await client.enqueue(job)
    [old] = await claim(client.scripts, seed="old")
    await lapse(client, job.id)
    [new] = await claim(client.scripts, seed="new")

    assert await publish(client.scripts, old, 1) == b"!"
    assert await publish(client.scripts, new, 1) == b""

    assert [entry for entry, _ in await client.redis.xrange(client.keys.events(job.id))] == [b"1-0", b"2-0", b"2-1"]
    chunks = [fields for _, fields in await client.redis.xrange(inbox) if fields.get(b"t") == b"c"]
    assert [fields[b"a"] for fields in chunks] == [b"2"]


async def test_a_stale_renewal_is_told_that_the_lease_is_lost_and_extends_nothing(client: QueueClient) -> None:
    job = chat()
    await client.enqueue(job)
    [old] = await claim(client.scripts, seed="old")
    await lapse(client, job.id)
    [new] = await claim(client.scripts, seed="new")
    before = await client.redis.zscore(client.keys.alarms, job.id)

    assert await renew(client.scripts, (old.id, old.token), lease_ms=60_000) == ([job.id], [])
    assert await client.redis.zscore(client.keys.alarms, job.id) == before
    assert await renew(client.scripts, (new.id, new.token), lease_ms=60_000) == ([], [])
    assert (await client.redis.zscore(client.keys.alarms, job.id) or 0) > (before or 0)


async def test_a_lapsed_lease_is_revived_when_nobody_took_the_job(client: QueueClient) -> None:
    job = chat()
    await client.enqueue(job)
    [held] = await claim(client.scripts)
    await client.redis.zadd(client.keys.alarms, {job.id: 1})

    assert await renew(client.scripts, (held.id, held.token)) == ([], [])

    assert (await read(client, job.id)).crashes == 0
    assert await settle(client.scripts, held.id, held.token) == b"succeeded"


async def test_settling_twice_with_one_token_tells_the_end_that_stands(client: QueueClient) -> None:
    job = chat()
    await client.enqueue(job)
    [held] = await claim(client.scripts)

    assert await settle(client.scripts, held.id, held.token, result=b"first") == b"succeeded"
    assert await settle(client.scripts, held.id, held.token, result=b"second") == b"=succeeded"
    assert await publish(client.scripts, held, 9) == b"!"

    assert await client.redis.get(client.keys.result_root + job.id) == b"first"


async def test_a_worker_stops_a_job_it_lost(client: QueueClient, redis_url: str, wait_until: WaitUntil) -> None:
    gate, elsewhere = Gate(), chat()
    async with working(redis_url, gate.run) as worker:
        await client.enqueue(elsewhere)
        await wait_until(lambda: gate.started)
        worker.max_jobs = 0  # it must not be the one that takes the job again
        await lapse(client, elsewhere.id)
        [other] = await claim(client.scripts, seed="other")
        await wait_until(lambda: gate.stopped == [elsewhere.id], timeout_s=4, description="the zombie stopped")
        assert worker.runs.lost_leases == 1
        assert await settle(client.scripts, other.id, other.token) == b"succeeded"


class Publishing:
    """A job function that sends one chunk whenever it is told to, and ends when told to."""

    def __init__(self) -> None:
        self.runs: list[RunningJob] = []
        self.stopped: list[int] = []
        self.end = asyncio.Event()
        self.linger = asyncio.Event()

    async def run(self, ctx: dict[str, Any], job: RunningJob) -> bytes:
        self.runs.append(job)
        try:
            await self.end.wait()
        except asyncio.CancelledError:
            self.stopped.append(job.attempt)
            await self.linger.wait()  # a run may take its time to stop
            raise
        return ANSWER


async def test_a_job_that_comes_back_to_the_worker_still_stopping_it_is_run_and_settled(
    client: QueueClient, redis_url: str, wait_until: WaitUntil
) -> None:
    function, job = Publishing(), chat(keep_events=True)
    async with working(redis_url, function.run):
        await client.enqueue(job)
        await wait_until(lambda: len(function.runs) == 1)
        await lapse(client, job.id)
        await wait_until(lambda: len(function.runs) == 2, description="the same worker has the job again")
        await wait_until(lambda: function.stopped == [1], description="the old run was told to stop")
        function.runs[0].publish(Delta(content="too late"))  # refused, and the new run must not suffer from it
        function.linger.set()
        await asyncio.sleep(0.1)
        function.end.set()
        await wait_until(lambda: has_state(client, job.id, State.SUCCEEDED), timeout_s=2)

    record = await read(client, job.id)
    assert [a.outcome for a in record.attempts] == ["crashed", "succeeded"]
    assert function.stopped == [1]


class LoseReply(Scripts):
    """Scripts whose next run of one name takes effect, but whose answer never arrives."""

    name = "claim"
    armed = False

    @classmethod
    def around(cls, scripts: Scripts) -> LoseReply:
        losing = cls.__new__(cls)
        losing.__dict__.update(scripts.__dict__)
        return losing

    async def run(self, name: str, *args: Any) -> Any:
        reply = await super().run(name, *args)
        if self.armed and name == self.name and (name != "claim" or len(reply) > 2):
            self.armed = False
            raise ConnectionError("the answer got lost")
        return reply


async def test_a_claim_whose_answer_got_lost_is_handed_back_at_no_cost(
    client: QueueClient, redis_url: str, wait_until: WaitUntil
) -> None:
    gate = Gate()
    gate.open()
    async with working(redis_url, gate.run, scripts=LoseReply.around) as worker:
        assert isinstance(worker._scripts, LoseReply)
        worker._scripts.armed = True
        job = chat()
        await client.enqueue(job)
        await wait_until(lambda: has_state(client, job.id, State.SUCCEEDED), timeout_s=3)

    record = await read(client, job.id)
    assert (record.crashes, record.failures) == (0, 0)
    assert [a.outcome for a in record.attempts] == ["drained", "succeeded"]
    assert len(gate.started) == 1


async def test_a_settlement_whose_answer_got_lost_is_sent_again_and_counts_once(
    client: QueueClient, redis_url: str, wait_until: WaitUntil
) -> None:
    ends: list[str] = []
    async with working(
        redis_url, scripts=LoseReply.around, on_settled=lambda job, state, seconds, error: ends.append(state)
    ) as worker:
        assert isinstance(worker._scripts, LoseReply)
        worker._scripts.name, worker._scripts.armed = "settle", True
        await client.enqueue(chat())
        await wait_until(lambda: ends)

    assert (ends, worker.jobs_complete) == (["=succeeded".lstrip("=")], 1)
    assert await counter(client, "succeeded") == 1
    assert await counter(client, "stale_writes") == 0


async def test_disowning_leaves_other_claims_alone_and_ends_what_was_cancelled(client: QueueClient) -> None:
    jobs = [chat() for _ in range(3)]
    for job in jobs:
        await client.enqueue(job)
    [kept] = await claim(client.scripts, seed="aa")
    lost = await claim(client.scripts, 2, seed="bb")
    await client.cancel(lost[1].id)

    assert await client.scripts.run("disown", "bb", 8000) == 2

    states = [(await read(client, job.id)).state for job in jobs]
    assert states == [State.RUNNING, State.QUEUED, State.CANCELLED]
    assert await settle(client.scripts, kept.id, kept.token) == b"succeeded"
    assert await settle(client.scripts, lost[0].id, lost[0].token) == b"!"
