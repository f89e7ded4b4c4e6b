"""Leaving: a worker that is told to go costs its jobs nothing."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from signal import Signals
from typing import Any

from shared.jobs import Kind, State
from shared.queue.client import QueueClient
from shared.queue.connection import connect
from shared.queue.engine import EngineOptions, QueueWorker
from shared.queue.scripts import Scripts
from tests.conftest import WaitUntil
from tests.shared.queue.rig import Gate, chat, claim, counter, settings_for, working
from tests.shared.queue.test_leases import has_state, read


async def test_a_drained_job_goes_back_to_the_front_at_no_cost(
    client: QueueClient, redis_url: str, wait_until: WaitUntil
) -> None:
    gate, held, waiting = Gate(), chat(), chat()
    async with working(redis_url, gate.run, slots=1):
        await client.enqueue(held)
        await wait_until(lambda: gate.started)
        await client.enqueue(waiting)

    record = await read(client, held.id)
    assert (record.state, record.failures, record.crashes) == (State.QUEUED, 0, 0)
    assert record.attempts[0].outcome == "drained"
    assert await counter(client, "released") == 1
    assert [job.id for job in await claim(client.scripts, 2)] == [held.id, waiting.id]


async def test_five_restarts_in_a_row_leave_a_job_as_it_was(
    client: QueueClient, redis_url: str, wait_until: WaitUntil
) -> None:
    """Stock arq gives a healthy job up after five restarts."""
    job = chat()
    await client.enqueue(job)
    for n in range(5):
        gate = Gate()
        async with working(redis_url, gate.run, worker_id=f"w{n}"):
            await wait_until(lambda gate=gate: gate.started)

    async with working(redis_url):
        await wait_until(lambda: has_state(client, job.id, State.SUCCEEDED))

    record = await read(client, job.id)
    assert (record.failures, record.crashes, len(record.attempts)) == (0, 0, 6)


async def test_a_worker_that_is_gone_is_off_the_list(
    client: QueueClient, redis_url: str, wait_until: WaitUntil
) -> None:
    async with working(redis_url, worker_id="w9"):
        await wait_until(lambda: client.redis.exists(client.keys.worker("w9")))
    assert not await client.redis.exists(client.keys.worker("w9"), client.keys.workers)


def signalled_worker(url: str, gate: Gate, drain_s: float) -> QueueWorker:
    settings = settings_for(url)
    return QueueWorker(
        dict.fromkeys(Kind, gate.run),
        redis=connect(settings),
        blocking=connect(settings, socket_timeout_s=15.0),
        shard=settings.queue_shard,
        options=EngineOptions(worker_id="w1", drain_s=drain_s),
    )


async def test_the_first_signal_lets_jobs_finish_and_claims_no_more(
    client: QueueClient, redis_url: str, wait_until: WaitUntil
) -> None:
    gate, held, later = Gate(), chat(), chat()
    worker = signalled_worker(redis_url, gate, drain_s=10)
    task = asyncio.create_task(worker.async_run())
    await client.enqueue(held)
    await wait_until(lambda: gate.started)

    worker.handle_sig_wait_for_completion(Signals.SIGTERM)
    await client.enqueue(later)
    await asyncio.sleep(0.1)
    gate.open()
    with suppress(asyncio.CancelledError):
        await asyncio.wait_for(task, 3)
    await worker.close()

    assert gate.started == [held.id]
    assert (await read(client, held.id)).state is State.SUCCEEDED
    assert (await read(client, later.id)).state is State.QUEUED
    assert await client.redis.zcard(client.keys.wake) == 1, "the wake-up it took on its way out is passed on"


async def test_the_second_signal_hands_the_jobs_back_now(
    client: QueueClient, redis_url: str, wait_until: WaitUntil
) -> None:
    gate, held = Gate(), chat()
    worker = signalled_worker(redis_url, gate, drain_s=60)
    task = asyncio.create_task(worker.async_run())
    await client.enqueue(held)
    await wait_until(lambda: gate.started)

    worker.handle_sig_wait_for_completion(Signals.SIGTERM)
    worker.handle_sig_wait_for_completion(Signals.SIGTERM)
    with suppress(asyncio.CancelledError):
        await asyncio.wait_for(task, 3)
    await worker.close()

    record = await read(client, held.id)
    assert (record.state, record.failures, record.crashes) == (State.QUEUED, 0, 0)


async def test_a_drain_that_takes_too_long_hands_the_jobs_back(
    client: QueueClient, redis_url: str, wait_until: WaitUntil
) -> None:
    gate, held = Gate(), chat()
    worker = signalled_worker(redis_url, gate, drain_s=1)
    task = asyncio.create_task(worker.async_run())
    await client.enqueue(held)
    await wait_until(lambda: gate.started)

    worker.handle_sig_wait_for_completion(Signals.SIGTERM)
    with suppress(asyncio.CancelledError):
        await asyncio.wait_for(task, 4)
    await worker.close()

    assert gate.stopped == [held.id]
    assert (await read(client, held.id)).state is State.QUEUED


class HoldClaim(Scripts):
    """Scripts whose claim takes effect, but whose answer takes long."""

    claimed: asyncio.Event

    @classmethod
    def around(cls, scripts: Scripts) -> HoldClaim:
        holding = cls.__new__(cls)
        holding.__dict__.update(scripts.__dict__, claimed=asyncio.Event())
        return holding

    async def run(self, name: str, *args: Any) -> Any:
        reply = await super().run(name, *args)
        if name == "claim" and len(reply) > 2:
            self.claimed.set()
            await asyncio.sleep(60)
        return reply


async def test_a_claim_under_way_when_the_worker_is_told_to_go_is_handed_back(
    client: QueueClient, redis_url: str
) -> None:
    job = chat()
    async with working(redis_url, scripts=HoldClaim.around) as worker:
        assert isinstance(worker._scripts, HoldClaim)
        await client.enqueue(job)
        await asyncio.wait_for(worker._scripts.claimed.wait(), 3)

    record = await read(client, job.id)
    assert (record.state, record.crashes) == (State.QUEUED, 0)


class SlowSettle(Scripts):
    """Scripts whose settle is slow to leave."""

    @classmethod
    def around(cls, scripts: Scripts) -> SlowSettle:
        slow = cls.__new__(cls)
        slow.__dict__.update(scripts.__dict__)
        return slow

    async def run(self, name: str, *args: Any) -> Any:
        if name == "settle":
            await asyncio.sleep(0.3)
        return await super().run(name, *args)


async def test_an_answer_on_its_way_when_the_worker_goes_still_arrives(
    client: QueueClient, redis_url: str, wait_until: WaitUntil
) -> None:
    gate, job = Gate(), chat()
    gate.open()
    async with working(redis_url, gate.run, scripts=SlowSettle.around) as worker:
        await client.enqueue(job)
        await wait_until(lambda: worker.runs.is_settling(job.id))

    assert (await read(client, job.id)).state is State.SUCCEEDED
