"""How a run ends: answers, retries, errors, cancels, deadlines, and what stays behind."""

from __future__ import annotations

import asyncio
import pickle
from pathlib import Path
from typing import Any

import pytest
from arq.worker import Retry

from shared.errors import BackendFault, BackendRejected
from shared.jobs import State
from shared.queue.client import QueueClient
from shared.queue.running import HandBack, RetryLater, RunningJob
from shared.wire.canonical import Delta
from shared.wire.codec import decode_answer, decode_deltas
from tests.conftest import WaitUntil
from tests.house.key_leaks import NO_EXPIRY
from tests.shared.queue.rig import ANSWER, Gate, chat, claim, settle, working
from tests.shared.queue.test_leases import has_state, lapse, read


@pytest.mark.req("S1-08")
async def test_a_succeeded_job_has_its_answer_and_timeline(
    client: QueueClient, redis_url: str, wait_until: WaitUntil
) -> None:
    job = chat()
    async with working(redis_url):
        await client.enqueue(job)
        await wait_until(lambda: has_state(client, job.id, State.SUCCEEDED))

    record = await read(client, job.id)
    assert record.result is not None and decode_answer("chat", record.result).model == "llama3.2"
    assert record.started_at is not None and record.ended_at is not None
    assert record.created_at <= record.started_at <= record.ended_at
    [attempt] = record.attempts
    assert (attempt.worker, attempt.outcome, attempt.ended_at) == ("w1", "succeeded", record.ended_at)
    assert not await client.redis.exists(client.keys.payload_root + job.id)


class Failing:
    """Fails `times` runs with `RetryLater`, then answers."""

    def __init__(self, times: int, delay_s: float = 0.0) -> None:
        self.times = times
        self.delay_s = delay_s
        self.failures: list[int] = []

    async def run(self, ctx: dict[str, Any], job: RunningJob) -> bytes:
        self.failures.append(job.failures)
        if len(self.failures) <= self.times:
            raise RetryLater(BackendFault("broken"), self.delay_s)
        return ANSWER


@pytest.mark.req("S1-10")
async def test_a_retry_waits_and_counts_a_failure(client: QueueClient, redis_url: str, wait_until: WaitUntil) -> None:
    function, job = Failing(1, delay_s=0.4), chat()
    async with working(redis_url, function.run):
        await client.enqueue(job)
        await wait_until(lambda: has_state(client, job.id, State.SCHEDULED))
        waiting = await read(client, job.id)
        assert waiting.scheduled_for is not None and waiting.attempts[0].error is not None
        assert waiting.attempts[0].error.code == "backend_fault"
        await wait_until(lambda: has_state(client, job.id, State.SUCCEEDED))

    record = await read(client, job.id)
    assert (record.failures, record.crashes, record.error) == (1, 0, None)
    assert [a.outcome for a in record.attempts] == ["retried", "succeeded"]
    assert record.attempts[0].error is not None and record.attempts[0].error.message == "broken"
    assert record.attempts[1].started_at - (record.attempts[0].ended_at or 0) >= 0.4
    assert function.failures == [0, 1]


async def test_a_retry_at_once_goes_to_the_back_of_the_line(client: QueueClient) -> None:
    failed, next_job = chat(), chat()
    for job in (failed, next_job):
        await client.enqueue(job)
    [held] = await claim(client.scripts)

    assert await settle(client.scripts, held.id, held.token, "retried", error=b"@backend_fault") == b"queued"

    assert [job.id for job in await claim(client.scripts, 2, seed="b")] == [next_job.id, failed.id]


async def test_a_retry_that_would_start_after_the_deadline_ends_the_job(client: QueueClient) -> None:
    job = chat(timeout_s=5)
    await client.enqueue(job)
    [held] = await claim(client.scripts)

    reply = await settle(client.scripts, held.id, held.token, "retried", error=b"@backend_fault", delay_ms=6000)

    record = await read(client, job.id)
    assert (reply, record.state, record.failures) == (b"dead_lettered", State.DEAD_LETTERED, 1)
    assert record.error is not None and record.error.code == "backend_fault"


@pytest.mark.req("S1-11")
async def test_an_error_that_is_not_retried_sets_the_job_aside(
    client: QueueClient, redis_url: str, wait_until: WaitUntil
) -> None:
    async def refuse(ctx: dict[str, Any], job: RunningJob) -> bytes:
        raise BackendRejected("num_ctx is too large")

    job = chat()
    async with working(redis_url, refuse):
        await client.enqueue(job)
        await wait_until(lambda: has_state(client, job.id, State.DEAD_LETTERED))

    record = await read(client, job.id)
    assert record.error is not None
    assert (record.error.code, record.error.message) == ("backend_rejected", "num_ctx is too large")
    assert (record.result, record.attempts[0].outcome) == (None, "failed")


async def test_a_bug_in_a_job_function_ends_its_job_and_not_the_worker(
    client: QueueClient, redis_url: str, wait_until: WaitUntil
) -> None:
    async def stumble(ctx: dict[str, Any], job: RunningJob) -> bytes:
        raise ZeroDivisionError("secret detail")

    jobs = [chat(), chat()]
    async with working(redis_url, stumble):
        for job in jobs:
            await client.enqueue(job)
            await wait_until(lambda job=job: has_state(client, job.id, State.DEAD_LETTERED))

    record = await read(client, jobs[0].id)
    assert record.error is not None
    assert (record.error.code, "secret" in record.error.message) == ("internal_error", False)


async def test_a_job_handed_back_costs_nothing_and_keeps_its_place(
    client: QueueClient, redis_url: str, wait_until: WaitUntil
) -> None:
    runs: list[str] = []

    async def hand_back_once(ctx: dict[str, Any], job: RunningJob) -> bytes:
        runs.append(job.id)
        if len(runs) == 1:
            raise HandBack
        return ANSWER

    first, second = chat(), chat()
    for job in (first, second):
        await client.enqueue(job)
    async with working(redis_url, hand_back_once, slots=1):
        await wait_until(lambda: has_state(client, second.id, State.SUCCEEDED))

    assert runs == [first.id, first.id, second.id]
    record = await read(client, first.id)
    assert (record.failures, record.crashes) == (0, 0)


async def test_arqs_own_retry_is_understood(client: QueueClient, redis_url: str, wait_until: WaitUntil) -> None:
    async def ask_again(ctx: dict[str, Any], job: RunningJob) -> bytes:
        if job.failures == 0:
            raise Retry(defer=0.1)
        return ANSWER

    job = chat()
    async with working(redis_url, ask_again):
        await client.enqueue(job)
        await wait_until(lambda: has_state(client, job.id, State.SUCCEEDED))
    assert (await read(client, job.id)).failures == 1


@pytest.mark.parametrize("delay_s", [0.0, 60.0], ids=["queued", "scheduled"])
async def test_a_waiting_job_is_cancelled_at_once(client: QueueClient, delay_s: float) -> None:
    job = chat(delay_s=delay_s)
    await client.enqueue(job)

    assert await client.cancel(job.id) is State.CANCELLED

    record = await read(client, job.id)
    assert record.error is not None and record.error.code == "job_cancelled"
    assert await claim(client.scripts) == []
    assert await client.redis.zcard(client.keys.alarms) == 0


async def test_a_running_job_is_stopped_by_the_message(
    client: QueueClient, redis_url: str, wait_until: WaitUntil
) -> None:
    gate, job = Gate(), chat()
    async with working(redis_url, gate.run) as worker:
        await wait_until(lambda: _listeners(client), description="the worker listens")
        await client.enqueue(job)
        await wait_until(lambda: gate.started)
        assert await client.cancel(job.id) is State.RUNNING
        await wait_until(lambda: has_state(client, job.id, State.CANCELLED), timeout_s=1.5)
        assert worker.jobs_failed == 1

    assert gate.stopped == [job.id]
    assert (await read(client, job.id)).attempts[0].outcome == "cancelled"


async def _listeners(client: QueueClient) -> int:
    [(_, count)] = await client.redis.pubsub_numsub(client.keys.control)
    return int(count)


async def test_a_cancel_whose_message_got_lost_comes_with_the_renewal(
    client: QueueClient, redis_url: str, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.queue.heartbeat.RENEW_S", 0.2)
    gate, job = Gate(), chat()
    async with working(redis_url, gate.run):
        await client.enqueue(job)
        await wait_until(lambda: gate.started)
        await client.redis.hset(client.keys.record(job.id), "cx", "1")  # type: ignore[misc]  # the flag alone, no message
        await wait_until(lambda: has_state(client, job.id, State.CANCELLED), timeout_s=1.5)


async def test_a_cancelled_job_does_not_run_again_after_a_crash(client: QueueClient) -> None:
    job = chat()
    await client.enqueue(job)
    await claim(client.scripts)
    await client.cancel(job.id)

    await lapse(client, job.id)

    assert (await read(client, job.id)).state is State.CANCELLED


async def test_cancelling_what_is_over_changes_nothing(client: QueueClient) -> None:
    job = chat()
    await client.enqueue(job)
    [held] = await claim(client.scripts)
    await settle(client.scripts, held.id, held.token)

    assert await client.cancel(job.id) is State.SUCCEEDED
    assert (await read(client, job.id)).cancel_requested is False


async def test_a_running_job_is_stopped_at_its_deadline(
    client: QueueClient, redis_url: str, wait_until: WaitUntil
) -> None:
    gate, job = Gate(), chat(timeout_s=0.4)
    async with working(redis_url, gate.run):
        await client.enqueue(job)
        await wait_until(lambda: has_state(client, job.id, State.EXPIRED), timeout_s=2)

    record = await read(client, job.id)
    assert gate.stopped == [job.id]
    assert record.error is not None and record.error.code == "job_timeout"
    assert 0.35 <= (record.ended_at or 0) - record.created_at < 1.4


async def test_a_job_that_waits_expires_even_with_no_worker(client: QueueClient, wait_until: WaitUntil) -> None:
    queued, delayed = chat(timeout_s=0.05), chat(timeout_s=0.05, delay_s=60)
    for job in (queued, delayed):
        await client.enqueue(job)
    await asyncio.sleep(0.06)

    await client.sweep()

    for job in (queued, delayed):
        assert (await read(client, job.id)).state is State.EXPIRED
    assert await client.positions([queued.id]) == {}


async def test_an_unfinished_job_is_kept_and_what_stays_of_it_for_its_own_retention(client: QueueClient) -> None:
    job = chat(retention_s=100, timeout_s=50, keep_events=True)
    await client.enqueue(job)
    keys = client.keys
    [held] = await claim(client.scripts)
    for key in (keys.record(job.id), keys.payload_root + job.id, keys.events(job.id)):
        assert await client.redis.ttl(key) == NO_EXPIRY, "it ends by its alarm, even if nobody was there for days"

    await settle(client.scripts, held.id, held.token, result=b"R")

    assert not await client.redis.exists(keys.payload_root + job.id)
    for key in (keys.record(job.id), keys.result_root + job.id, keys.events(job.id)):
        assert 90 < await client.redis.ttl(key) <= 100


async def test_the_sweep_forgets_tenants_whose_jobs_are_gone(client: QueueClient) -> None:
    job = chat(tenant="t1")
    await client.enqueue(job)
    await client.cancel(job.id)
    await client.redis.delete(client.keys.record(job.id))

    await client.sweep()

    assert not await client.redis.exists(client.keys.tenant("t1"), client.keys.tenants)


class Bomb:
    """Unpickled, it touches a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


async def test_foreign_bytes_are_set_aside_unread(
    client: QueueClient, redis_url: str, wait_until: WaitUntil, tmp_path: Path
) -> None:
    trace = tmp_path / "executed"
    payloads = [
        pickle.dumps({"t": None, "f": "chat", "a": (), "k": {"bomb": Bomb(trace)}, "et": 1}),
        b"\x00garbage\xff",
        b"",
        b"\x91" * 100_000,  # nested deeper than any decoder follows
    ]
    jobs = [chat() for _ in payloads]
    for job, payload in zip(jobs, payloads, strict=True):
        await client.enqueue(job)
        await client.redis.set(client.keys.payload_root + job.id, payload, keepttl=True)
    good, gate = chat(), Gate()
    gate.open()
    await client.enqueue(good)

    async with working(redis_url, gate.run):
        await wait_until(lambda: has_state(client, good.id, State.SUCCEEDED))
        for job in jobs:
            await wait_until(lambda job=job: has_state(client, job.id, State.DEAD_LETTERED))

    assert not trace.exists()
    assert gate.started == [good.id]
    for job in jobs:
        error = (await read(client, job.id)).error
        assert error is not None and error.code == "undecodable_job"


async def test_a_job_of_another_schema_version_is_set_aside_with_the_reason(
    client: QueueClient, redis_url: str, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = chat()
    with monkeypatch.context() as patch:
        patch.setattr("shared.wire.codec.SCHEMA_VERSION", 99)
        await client.enqueue(job)
    async with working(redis_url):
        await wait_until(lambda: has_state(client, job.id, State.DEAD_LETTERED))

    error = (await read(client, job.id)).error
    assert error is not None and "schema version 99" in error.message


async def test_chunks_come_before_the_end_and_none_is_lost(
    client: QueueClient, redis_url: str, wait_until: WaitUntil
) -> None:
    async def talk(ctx: dict[str, Any], job: RunningJob) -> bytes:
        for n in range(50):
            job.publish(Delta(content=f"{n} "))
            await asyncio.sleep(0.001)
        return ANSWER

    job = chat(keep_events=True)
    async with working(redis_url, talk):
        await client.enqueue(job)
        await wait_until(lambda: has_state(client, job.id, State.SUCCEEDED))

    attached = await client.attach(job.id, "g1")
    chunks = [(entry, decode_deltas(fields[b"d"])) for entry, fields in attached.events if fields[b"t"] == b"c"]
    assert "".join(d.content for _, deltas in chunks for d in deltas) == "".join(f"{n} " for n in range(50))
    assert [entry for entry, _ in chunks] == [f"1-{n}" for n in range(1, len(chunks) + 1)]
    assert len(chunks[0][1]) == 1, "the first delta goes at once, alone"
    assert len(chunks) < 50, "later ones are gathered"
