"""Jobs that are put back, at once or for later, because nothing could be done for them: free of charge."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from shared.errors import BackendBusy
from shared.jobs import State
from shared.queue.client import QueueClient
from shared.queue.running import HandBack, RetryLater, RunningJob
from tests.conftest import WaitUntil
from tests.shared.queue.rig import ANSWER, chat, claim, counter, settle, working
from tests.shared.queue.test_leases import has_state, read


async def due(client: QueueClient, job_id: str) -> None:
    """Let a scheduled job's time come, and somebody notice."""
    await client.redis.zadd(client.keys.alarms, {job_id: 1})
    await client.redis.delete(f"{client.keys.root}sweeping")
    await client.sweep()


@pytest.mark.req("S1-10", "S1-14")
async def test_a_job_handed_back_for_later_waits_and_costs_nothing(
    client: QueueClient, redis_url: str, wait_until: WaitUntil
) -> None:
    runs = 0

    async def busy_first(ctx: dict[str, Any], job: RunningJob) -> bytes:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise HandBack(0.4, "backend_busy")
        assert job.failures == 0
        return ANSWER

    job = chat()
    async with working(redis_url, busy_first):
        await client.enqueue(job)
        await wait_until(lambda: has_state(client, job.id, State.SCHEDULED))
        waiting = await read(client, job.id)
        await wait_until(lambda: has_state(client, job.id, State.SUCCEEDED))

    record = await read(client, job.id)
    assert (record.failures, record.crashes, await counter(client, "retried")) == (0, 0, 0)
    assert [attempt.outcome for attempt in record.attempts] == ["handed_back", "succeeded"]
    why = record.attempts[0].error
    assert why is not None and (why.code, why.retry_after_s) == ("backend_busy", 0.4)
    assert record.attempts[1].started_at - (record.attempts[0].ended_at or 0) >= 0.4
    assert waiting.scheduled_for == pytest.approx((waiting.attempts[0].ended_at or 0) + 0.4, abs=0.002)


@pytest.mark.req("S1-10")
@pytest.mark.parametrize("stop", [HandBack(0.2, "backend_busy"), RetryLater(BackendBusy(), 0.2)])
async def test_an_idle_worker_wakes_for_it_rather_than_at_its_next_round(
    client: QueueClient, redis_url: str, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch, stop: Exception
) -> None:
    monkeypatch.setattr("shared.queue.engine.TICK_S", 12.0)
    monkeypatch.setattr("shared.queue.heartbeat.IDLE_BEAT_S", 60.0)  # a beat rings alarms, too
    stops = [stop]

    async def stopped_first(ctx: dict[str, Any], job: RunningJob) -> bytes:
        if stops:
            await asyncio.sleep(0.1)  # let the worker's other slots go to sleep
            raise stops.pop()
        return ANSWER

    job = chat()
    async with working(redis_url, stopped_first):
        await client.enqueue(job)
        await wait_until(lambda: has_state(client, job.id, State.SUCCEEDED), timeout_s=8)


async def test_it_comes_back_at_its_place_and_a_retry_at_the_back(client: QueueClient) -> None:
    jobs = [chat() for _ in range(4)]
    for job in jobs[:3]:
        await client.enqueue(job)
    handed, retried, fresh = jobs[0], jobs[1], jobs[3]
    first, second = await claim(client.scripts, 2)
    await settle(client.scripts, first.id, first.token, "released", delay_ms=60_000)
    await settle(client.scripts, second.id, second.token, "retried", error=b"@backend_fault", delay_ms=60_000)
    await client.enqueue(fresh)

    await due(client, retried.id)
    await due(client, handed.id)

    order = [run.id for run in await claim(client.scripts, 9, seed="b")]
    assert order == [handed.id, jobs[2].id, fresh.id, retried.id]


async def test_a_retry_after_a_hand_back_goes_to_the_back(client: QueueClient) -> None:
    job, other = chat(), chat()
    await client.enqueue(job)
    for seed, verdict in (("a", "released"), ("b", "retried")):
        [run] = await claim(client.scripts, seed=seed)
        await settle(client.scripts, run.id, run.token, verdict, error=b"@backend_fault", delay_ms=60_000)
        if verdict == "retried":
            await client.enqueue(other)
        await due(client, job.id)
    assert [run.id for run in await claim(client.scripts, 9, seed="c")] == [other.id, job.id]


async def test_a_job_scheduled_from_the_start_queues_up_when_it_is_due(client: QueueClient) -> None:
    late, waiting = chat(delay_s=60), chat()
    await client.enqueue(late)
    await client.enqueue(waiting)
    await due(client, late.id)
    assert [run.id for run in await claim(client.scripts, 9)] == [waiting.id, late.id]


async def test_hours_of_hand_backs_leave_one_line_on_the_timeline(client: QueueClient) -> None:
    job = chat()
    await client.enqueue(job)
    for turn in range(30):
        [run] = await claim(client.scripts, seed=f"s{turn}")
        if turn == 10:
            await settle(client.scripts, run.id, run.token, "retried", error=b"@backend_fault")
        else:
            await settle(client.scripts, run.id, run.token, "released", delay_ms=60_000)
            await due(client, job.id)

    record = await read(client, job.id)
    assert [(attempt.number, attempt.outcome) for attempt in record.attempts] == [(11, "retried"), (30, "handed_back")]
    assert (record.failures, record.state) == (1, State.QUEUED)


async def test_it_expires_at_its_deadline_all_the_same(client: QueueClient) -> None:
    job = chat(timeout_s=0.1)
    await client.enqueue(job)
    [run] = await claim(client.scripts)
    assert await settle(client.scripts, run.id, run.token, "released", delay_ms=60_000) == b"scheduled"
    await asyncio.sleep(0.11)
    await client.redis.delete(f"{client.keys.root}sweeping")
    await client.sweep()

    assert (await read(client, job.id)).state is State.EXPIRED


async def test_a_cancelled_job_is_not_put_back(client: QueueClient) -> None:
    job = chat()
    await client.enqueue(job)
    [run] = await claim(client.scripts)
    await client.cancel(job.id)
    assert await settle(client.scripts, run.id, run.token, "released", delay_ms=60_000) == b"cancelled"


async def test_a_job_put_back_for_later_can_be_cancelled(client: QueueClient) -> None:
    job = chat()
    await client.enqueue(job)
    [run] = await claim(client.scripts)
    await settle(client.scripts, run.id, run.token, "released", delay_ms=60_000)
    assert await client.cancel(job.id) is State.CANCELLED
    assert await settle(client.scripts, run.id, run.token) == b"!"
