"""Jobs whose worker has died twice: one of them may be poison, the others only ran beside it."""

from __future__ import annotations

import pytest

from shared.jobs import State
from shared.queue.client import QueueClient
from tests.conftest import WaitUntil
from tests.shared.queue.rig import Gate, chat, claim, working
from tests.shared.queue.test_leases import has_state, lapse, read


async def suspects(client: QueueClient, count: int) -> list[str]:
    """Jobs that were claimed together, and lost together, twice."""
    jobs = [chat() for _ in range(count)]
    for job in jobs:
        await client.enqueue(job)
    for life in range(2):
        assert len(await claim(client.scripts, count, seed=f"life{life}-")) == count
        for job in jobs:
            await lapse(client, job.id)
    return [job.id for job in jobs]


@pytest.mark.req("S1-11")
async def test_a_worker_runs_one_suspect_at_a_time(client: QueueClient, redis_url: str, wait_until: WaitUntil) -> None:
    ids = await suspects(client, 3)
    harmless = chat()
    await client.enqueue(harmless)
    gate = Gate()
    async with working(redis_url, gate.run, slots=5):
        await wait_until(lambda: len(gate.started) == 2, description="one suspect and the harmless job have started")
        [first] = [job_id for job_id in gate.started if job_id in ids]
        assert harmless.id in gate.started
        others = [job_id for job_id in ids if job_id != first]
        for job_id in others:
            await wait_until(lambda job_id=job_id: has_state(client, job_id, State.SCHEDULED))
        # They come due, are claimed again, and wait again, for as long as the first one runs.
        await wait_until(lambda: handed_back(client, others[0], 2))
        assert len(gate.started) == 2
        gate.open()
        for job_id in (harmless.id, *ids):
            await wait_until(lambda job_id=job_id: has_state(client, job_id, State.SUCCEEDED))
    for job_id in ids:
        record = await read(client, job_id)
        assert (record.crashes, record.failures) == (2, 0), "waiting costs nothing"


async def handed_back(client: QueueClient, job_id: str, times: int) -> bool:
    runs = await client.redis.hget(client.keys.record(job_id), "n")  # type: ignore[misc]  # redis-py 5
    return int(runs) >= 2 + times


async def test_a_poison_job_does_not_take_its_neighbours_along(
    client: QueueClient, redis_url: str, wait_until: WaitUntil
) -> None:
    """As if each suspect were the poison: when its worker dies at once, the others have not been there."""
    ids = await suspects(client, 3)
    gate = Gate()
    async with working(redis_url, gate.run, slots=5):
        await wait_until(lambda: gate.started)
        [poison] = gate.started
        await lapse(client, poison)
        await wait_until(lambda: has_state(client, poison, State.DEAD_LETTERED))
        gate.open()
        for job_id in ids:
            if job_id != poison:
                await wait_until(lambda job_id=job_id: has_state(client, job_id, State.SUCCEEDED))
