"""Tenants share a class: one that floods it waits behind itself."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from shared.jobs import NewJob, Priority
from shared.queue.client import QueueClient
from shared.queue.plans import Place, Plan, Row
from tests.shared.queue.rig import chat, claim, settings_for, settle
from tests.shared.queue.test_leases import lapse


async def arrive(client: QueueClient, tenant: str, count: int) -> list[NewJob]:
    jobs = [chat(tenant=tenant) for _ in range(count)]
    for job in jobs:
        await client.enqueue(job)
    return jobs


async def next_ids(client: QueueClient, count: int) -> list[str]:
    return [run.id for run in await claim(client.scripts, count, seed=secrets.token_hex(4))]


async def test_one_job_does_not_wait_behind_another_tenants_thousand(client: QueueClient) -> None:
    flood = [chat(tenant="a") for _ in range(1000)]
    await asyncio.gather(*(client.enqueue(job) for job in flood))
    await next_ids(client, 300)
    [alone] = await arrive(client, "b", 1)

    assert (await client.positions([alone.id]))[alone.id] <= 2
    assert alone.id in await next_ids(client, 2)


@pytest.mark.req("S1-33")
@pytest.mark.parametrize("model", ["llama3.2", "mistral"], ids=["same model", "another model"])
@pytest.mark.parametrize("planned", [False, True], ids=["any line", "by a plan"])
async def test_one_job_starts_within_a_slot_of_another_tenants_ten_thousand(
    client: QueueClient, model: str, planned: bool
) -> None:
    """Models have lines of their own, and the places in them compare."""
    await client.enqueue_many([chat(tenant="a") for _ in range(10_000)])
    plan = plan_for("llama3.2", "mistral") if planned else b""
    for n in range(10):
        assert len(await claim(client.scripts, 20, seed=f"a{n}", plan=plan)) == 20
    alone = replace(chat(tenant="b"), model=model)
    await client.enqueue(alone)

    assert (await client.positions([alone.id]))[alone.id] <= 2
    assert alone.id in [run.id for run in await claim(client.scripts, 2, seed="b", plan=plan)]


def plan_for(*models: str, calls: int = 1000) -> bytes:
    """A plan by which the models are served on one host, so many calls at a time."""
    rows = [
        Row(line=f"t:{model}", places=[Place(host="h", unit=model, calls=calls, shared_calls=calls)])
        for model in models
    ]  # fmt: skip
    return Plan({"h": calls}, rows).packed()


async def test_a_tenants_share_is_of_the_work_not_of_the_jobs(client: QueueClient) -> None:
    """Jobs four times as long start a quarter as often."""
    jobs = [chat(tenant=tenant, cost=cost) for tenant, cost in (("long", 4.0), ("short", 1.0)) for _ in range(100)]
    await client.enqueue_many(jobs)
    owner = {job.id: job.tenant for job in jobs}

    started = Counter(owner[job_id] for job_id in await next_ids(client, 100))

    assert started["short"] in range(78, 83)


async def test_tenants_take_turns_and_each_keeps_its_own_order(client: QueueClient) -> None:
    jobs = {tenant: await arrive(client, tenant, 20) for tenant in ("a", "b", "c")}
    owner = {job.id: tenant for tenant, own in jobs.items() for job in own}

    started = [job_id for _ in range(10) for job_id in await next_ids(client, 3)]

    for first in range(0, 30, 3):
        assert {owner[job_id] for job_id in started[first : first + 3]} == {"a", "b", "c"}
    for tenant, own in jobs.items():
        assert [job_id for job_id in started if owner[job_id] == tenant] == [job.id for job in own[:10]]


async def test_who_comes_late_gets_its_share_and_nothing_for_the_time_before(client: QueueClient) -> None:
    early = {job.id for job in await arrive(client, "a", 60)}
    await next_ids(client, 30)
    await arrive(client, "b", 30)

    started = await next_ids(client, 20)

    assert sum(job_id in early for job_id in started) in (9, 10, 11)


async def test_what_comes_back_is_not_behind_what_came_later(client: QueueClient) -> None:
    first, second = await arrive(client, "a", 1), await arrive(client, "b", 1)
    waiting = await arrive(client, "a", 10) + await arrive(client, "b", 10)
    crashed, back = await claim(client.scripts, 2)
    assert {crashed.id, back.id} == {first[0].id, second[0].id}
    assert len(await next_ids(client, 4)) == 4
    await lapse(client, crashed.id)
    await settle(client.scripts, back.id, back.token, "released")

    assert set(await next_ids(client, 2)) == {crashed.id, back.id}
    # And the line's clock did not turn back with them: a newcomer is not before those who stood there all the time.
    [late] = await arrive(client, "c", 1)
    ahead = (await client.positions([late.id]))[late.id]
    assert 1 <= ahead <= 3
    assert len(waiting) == 20


async def test_classes_keep_their_own_lines(client: QueueClient) -> None:
    await arrive(client, "a", 50)
    urgent = chat(tenant="a", priority=Priority.HIGH)
    await client.enqueue(urgent)

    assert urgent.id in await next_ids(client, 1)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.sampled_from("abc"), st.integers(1, 6)),
            st.tuples(st.just(""), st.integers(1, 4)),
        ),
        min_size=4,
        max_size=25,
    )
)
def test_backlogged_tenants_never_get_further_apart_than_one_job(
    redis_url: str, steps: Sequence[tuple[str, int]]
) -> None:
    """`steps`: a tenant's new jobs, or, for no tenant, so many starts. Two tenants that both have jobs waiting all
    the while get the same number of starts, give or take one each.
    """
    asyncio.run(_check_shares(redis_url, steps))


async def _check_shares(redis_url: str, steps: Sequence[tuple[str, int]]) -> None:
    client = await QueueClient.connect(settings_for(redis_url))
    await client.redis.flushdb()
    owner: dict[str, str] = {}
    waiting: Counter[str] = Counter()
    starts: dict[frozenset[str], Counter[str]] = {}
    try:
        for tenant, count in steps:
            if tenant:
                owner.update((job.id, tenant) for job in await arrive(client, tenant, count))
                waiting[tenant] += count
                continue
            for _ in range(count):
                both_wait = [pair for pair in map(frozenset, ("ab", "ac", "bc")) if all(waiting[t] for t in pair)]
                starts = {pair: starts.get(pair, Counter()) for pair in both_wait}  # others begin anew
                for job_id in await next_ids(client, 1):
                    chosen = owner[job_id]
                    waiting[chosen] -= 1
                    for pair in both_wait:
                        starts[pair][chosen] += 1
                        one, other = (starts[pair][t] for t in pair)
                        assert abs(one - other) <= 2, (pair, starts[pair])
    finally:
        await client.aclose()
