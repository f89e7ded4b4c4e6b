"""What is known of the fleet and of a job's place in it, in one round trip each."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from shared.jobs import Priority
from shared.queue.client import QueueClient
from shared.queue.fleet import Capacity, Standing
from shared.queue.plans import Place, Plan, Row
from shared.queue.sightings import Resident, Sighting
from tests.conftest import WaitUntil
from tests.shared.queue.rig import LINE, Gate, chat, claim, working

CAPACITY = Capacity(hosts=["a:1"], host_calls=4, unit_calls=2, embedding_calls=1, patience_s={"high": 2.0})


async def test_where_jobs_stand(client: QueueClient) -> None:
    other = replace(chat(), model="mistral")
    high, first, second, delayed = chat(priority=Priority.HIGH), chat(), chat(), chat(delay_s=60)
    accepted = {job.id: await client.enqueue(job) for job in (high, other, first, second, delayed)}

    standings = await client.standings([*accepted, "job_unknown"])

    assert standings.keys() == accepted.keys()
    assert standings == {job_id: taken.standing for job_id, taken in accepted.items()}
    at = standings[second.id]
    assert at == Standing(priority=Priority.NORMAL, line=LINE, position=4, in_class=2, in_line=1)
    assert standings[delayed.id] == Standing(priority=Priority.NORMAL, line=LINE)


async def test_a_running_job_stands_nowhere_but_has_its_slot(client: QueueClient) -> None:
    job = chat()
    await client.enqueue(job)
    place = Place(host="a:1", unit="llama3.2", calls=1, shared_calls=1)
    await claim(client.scripts, plan=Plan({"a:1": 1}, [Row(line=LINE, places=[place])]).packed())

    assert (await client.standings([job.id]))[job.id] == Standing(
        priority=Priority.NORMAL, line=LINE, host="a:1", unit="llama3.2"
    )
    assert await client.positions([job.id]) == {}
    assert (await client.fleet()).calls == {"a:1": 1.0, "a:1|llama3.2": 1.0}


@pytest.mark.req("S1-58")
async def test_the_fleet_is_what_its_workers_tell_and_what_waits(
    client: QueueClient, redis_url: str, wait_until: WaitUntil
) -> None:
    assert (await client.fleet()).workers == 0
    seen = Sighting(at=1.0, residents=[Resident("llama3.2")])
    hosts: dict[str | bytes, bytes] = {"a:1": seen.packed(), "b:1": b"of another release"}
    await client.redis.hset(client.keys.hosts, mapping=hosts)  # type: ignore[misc]  # redis-py 5 types it as either
    await client.redis.hset(client.keys.load, "rate", "2.5000")  # type: ignore[misc]  # as above
    await client.redis.expire(client.keys.hosts, 60)
    gate = Gate()
    async with working(redis_url, gate.run, slots=2, capacity=CAPACITY):
        for _ in range(5):
            await client.enqueue(chat())
        await client.enqueue(chat(priority=Priority.LOW, delay_s=60))
        await wait_until(lambda: len(gate.started) == 2)
        fleet = await client.fleet()
    assert (fleet.workers, fleet.slots, list(fleet.capacities)) == (1, 2, [CAPACITY])
    assert fleet.waiting == {Priority.HIGH: 0, Priority.NORMAL: 3, Priority.LOW: 0}
    assert [(line.priority, line.name, line.waiting) for line in fleet.lines] == [(Priority.NORMAL, LINE, 3)]
    assert fleet.hosts == {"a:1": seen}
    assert fleet.drain_per_s == 2.5


@pytest.mark.req("S1-33")
async def test_no_line_stays_out_of_sight(client: QueueClient, wait_until: WaitUntil) -> None:
    """A host must hear of work for it, however many lines wait before that for another one."""
    await client.enqueue_many([replace(chat(), model=f"model-{n}") for n in range(150)])
    seen: set[str] = set()

    async def all_seen() -> bool:
        shown = [line.name for line in (await client.fleet()).lines]
        assert len(shown) == len(set(shown)) == 64, "a view stays small"
        seen.update(shown)
        return len(seen) == 150

    await wait_until(all_seen, 30.0, description="a view of every line")
