"""Accepting jobs: each once, bounded, in its time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace
from redis.exceptions import ConnectionError

from shared.errors import BadRequest, IdempotencyMismatch, JobNotFound, Overloaded, PayloadTooLarge, QueueUnavailable
from shared.jobs import Priority, State
from shared.queue.admission import QueueLimits
from shared.queue.arrivals import Accepted
from shared.queue.client import QueueClient
from shared.routes import Candidate, Route
from shared.wire import codec
from tests.conftest import WaitUntil
from tests.house.redis_server import RedisServer
from tests.shared.queue.rig import Gate, chat, claim, counter, queue_client, settings_for, working


async def test_a_job_is_there_once_enqueue_has_returned(client: QueueClient) -> None:
    job = chat(tenant="t1", priority=Priority.HIGH, metadata={"k": "v"}, request_id="r1", keep_events=True)

    accepted = await client.enqueue(job)

    record = await client.get(job.id)
    assert record is not None
    assert (accepted.state, accepted.duplicate) == (State.QUEUED, False)
    assert (record.state, record.priority, record.tenant, record.model) == ("queued", "high", "t1", "llama3.2")
    assert (record.metadata, record.request_id, record.keeps_events) == ({"k": "v"}, "r1", True)
    assert record.deadline_at - record.created_at == pytest.approx(600)
    assert (record.attempts, record.result, record.error) == ([], None, None)


async def test_the_same_id_and_body_is_the_same_job(client: QueueClient) -> None:
    job = chat(fingerprint="f1")
    await client.enqueue(job)

    again = await client.enqueue(job)

    assert (again.id, again.state, again.duplicate) == (job.id, State.QUEUED, True)
    assert len(await claim(client.scripts, 5)) == 1
    assert (await client.enqueue(job)).state is State.RUNNING
    assert await counter(client, "accepted") == 1


async def test_the_same_id_with_another_body_is_refused(client: QueueClient) -> None:
    job = chat(fingerprint="f1")
    await client.enqueue(job)

    with pytest.raises(IdempotencyMismatch):
        await client.enqueue(chat("other", id=job.id, fingerprint="f2"))

    [claimed] = await claim(client.scripts, 5)
    assert codec.decode_request("chat", codec.decode_job(claimed.payload).k.request).messages[0].content == "hi"  # type: ignore[union-attr]  # a chat


async def test_two_hundred_at_once_with_one_id_are_one_job(client: QueueClient) -> None:
    job = chat(fingerprint="f1")

    answers = await asyncio.gather(*(client.enqueue(job) for _ in range(200)))

    assert [a.duplicate for a in answers].count(False) == 1
    assert len(await claim(client.scripts, 200)) == 1


async def test_a_full_queue_refuses_and_stores_nothing(redis_url: str) -> None:
    async with queue_client(redis_url, depth_limit=3) as client:
        results = await asyncio.gather(*(client.enqueue(chat()) for _ in range(5)), return_exceptions=True)

        refused = [r for r in results if isinstance(r, Overloaded)]
        assert len(refused) == 2
        assert refused[0].retry_after_s == 5
        assert await client.redis.zcard(client.keys.alarms) == 3
        assert await counter(client, "refused") == 2
        await claim(client.scripts, 1)
        assert (await client.enqueue(chat())).state is State.QUEUED


async def test_a_duplicate_is_recognised_even_when_the_queue_is_full(redis_url: str) -> None:
    async with queue_client(redis_url, depth_limit=1) as client:
        job = chat()
        await client.enqueue(job)
        assert (await client.enqueue(job)).duplicate


async def test_a_job_too_large_for_the_queue_is_refused_before_redis(
    client: QueueClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.queue.arrivals.MAX_PAYLOAD_BYTES", 1000)
    with pytest.raises(PayloadTooLarge):
        await client.enqueue(chat("x" * 1000))
    assert not await client.redis.exists(client.keys.counters)


async def test_a_lost_reply_is_asked_for_again_and_stays_one_job(client: QueueClient) -> None:
    run, calls = client.scripts.run, 0

    async def lose_first(name: str, *args: Any) -> Any:
        nonlocal calls
        reply = await run(name, *args)
        calls += 1
        if calls == 1:
            raise ConnectionError("the answer got lost")
        return reply

    client.scripts.run = lose_first  # type: ignore[method-assign]  # the fault is injected between client and server
    job = chat(fingerprint="f1")

    accepted = await client.enqueue(job)

    assert (accepted.id, calls) == (job.id, 2)
    client.scripts.run = run  # type: ignore[method-assign]  # back to normal
    assert len(await claim(client.scripts, 5)) == 1


async def test_a_redis_that_is_away_is_reported_within_about_two_seconds() -> None:
    with RedisServer() as server:
        async with queue_client(server.url) as client:
            server.kill()
            loop = asyncio.get_running_loop()
            start = loop.time()
            with pytest.raises(QueueUnavailable):
                await client.enqueue(chat())
            assert loop.time() - start < 3


@pytest.mark.req("S1-01")
async def test_a_scheduled_job_becomes_due_and_runs(client: QueueClient, redis_url: str, wait_until: WaitUntil) -> None:
    gate = Gate()
    gate.open()
    job = chat(delay_s=0.3)
    assert (await client.enqueue(job)).state is State.SCHEDULED
    record = await client.get(job.id)
    assert record is not None and record.scheduled_for == pytest.approx(record.created_at + 0.3, abs=0.002)

    async with working(redis_url, gate.run):
        await wait_until(lambda: gate.started, description="the scheduled job started")

    record = await client.get(job.id)
    assert record is not None and record.started_at is not None
    assert record.started_at >= record.created_at + 0.3


async def test_a_scheduled_job_is_not_claimed_before_its_time(client: QueueClient) -> None:
    await client.enqueue(chat(delay_s=60))
    assert await claim(client.scripts, 5) == []


async def test_the_list_shows_a_tenants_own_jobs_newest_first(client: QueueClient) -> None:
    mine = [chat(tenant="a") for _ in range(5)]
    for job in mine:
        await client.enqueue(job)
        await asyncio.sleep(0.002)  # the index is by milliseconds
    await client.enqueue(chat(tenant="b"))
    await client.cancel(mine[0].id)

    page = await client.list("a", limit=3)
    rest = await client.list("a", limit=3, cursor=page.next_cursor)
    cancelled = await client.list("a", state=State.CANCELLED)

    assert [job.id for job in (*page.jobs, *rest.jobs)] == [job.id for job in reversed(mine)]
    assert rest.next_cursor == ""
    assert [job.id for job in cancelled.jobs] == [mine[0].id]
    assert (await client.list("a", model="other")).jobs == []
    with pytest.raises(BadRequest):
        await client.list("a", cursor="-1")


async def test_what_was_accepted_knows_its_place_and_the_servers_time(client: QueueClient) -> None:
    await client.enqueue(chat(priority=Priority.HIGH))
    for place in (2, 3):
        accepted = await client.enqueue(chat())
        assert (accepted.state, accepted.position) == (State.QUEUED, place)
        record = await client.get(accepted.id)
        assert record is not None and record.created_at == accepted.at
    assert (await client.enqueue(chat(delay_s=60))).position == 0


async def test_many_jobs_take_one_call_and_each_its_own_answer(redis_url: str) -> None:
    client = await QueueClient.connect(settings_for(redis_url), limits=QueueLimits(depth=20))
    known = chat(fingerprint="one body")
    await client.enqueue(known)
    again, other = replace(known), replace(known, fingerprint="another body")
    jobs = [chat() for _ in range(30)]
    before = (await client.redis.info("commandstats"))["cmdstat_evalsha"]["calls"]

    outcomes = await client.enqueue_many([again, other, *jobs])

    assert (await client.redis.info("commandstats"))["cmdstat_evalsha"]["calls"] == before + 1
    assert isinstance(outcomes[0], Accepted) and outcomes[0].duplicate
    assert isinstance(outcomes[1], IdempotencyMismatch)
    taken = [outcome for outcome in outcomes[2:] if isinstance(outcome, Accepted)]
    assert [job.position for job in taken] == list(range(2, 20))
    assert all(isinstance(outcome, Overloaded) for outcome in outcomes[2 + len(taken) :])
    assert (await client.stats()).states["queued"] == 19
    await client.aclose()


async def test_positions_count_from_one_over_all_classes(client: QueueClient) -> None:
    low, normal, high = (chat(priority=p) for p in (Priority.LOW, Priority.NORMAL, Priority.HIGH))
    delayed = chat(delay_s=10)
    for job in (low, normal, high, delayed):
        await client.enqueue(job)

    positions = await client.positions([low.id, normal.id, high.id, delayed.id, "job_unknown"])

    assert positions == {high.id: 1, normal.id: 2, low.id: 3}


async def test_clear_cancels_what_waits_and_leaves_what_runs(client: QueueClient) -> None:
    running = chat()
    await client.enqueue(running)
    await claim(client.scripts)
    waiting = [chat(), chat(priority=Priority.LOW), chat(delay_s=60)]
    for job in waiting:
        await client.enqueue(job)

    assert await client.clear() == 3

    states = [(await client.get(job.id)).state for job in (running, *waiting)]  # type: ignore[union-attr]  # just made
    assert states == ["running", "cancelled", "cancelled", "cancelled"]


async def test_an_unknown_job_is_none_or_not_found(client: QueueClient) -> None:
    assert await client.get("job_x") is None
    assert await client.cancel("job_x") is None
    with pytest.raises(JobNotFound):
        await client.attach("job_x", "g1")


async def test_stats_count_what_is_there(client: QueueClient, redis_url: str, wait_until: WaitUntil) -> None:
    gate = Gate()
    async with working(redis_url, gate.run, slots=1):
        for _ in range(3):
            await client.enqueue(chat())
        await client.enqueue(chat(delay_s=60))
        await wait_until(lambda: gate.started)

        stats = await client.stats()

    assert stats.states == {"queued": 2, "running": 1, "scheduled": 1}
    assert stats.queued_by_class == {"high": 0, "normal": 2, "low": 0}
    assert stats.oldest_wait_s > 0
    assert [(w.id, w.slots) for w in stats.workers] == [("w1", 1)]
    assert stats.durability == "none"


async def test_jobs_of_one_call_keep_what_they_share_and_what_is_their_own(client: QueueClient) -> None:
    gpu = Route(candidates=(Candidate("ollama", "llama3.2"),), reason="default")
    jobs = [
        chat(tenant="a", request_id="r1", keep_events=True, route=gpu),
        chat(tenant="b", metadata={"k": "1"}),
        chat(tenant="a", request_id="r2", keep_events=True, route=gpu),
        chat(tenant="a", request_id="r3", fingerprint="f", cost=2.5, retention_s=60, reply_to="g1", delay_s=5),
    ]

    outcomes = await client.enqueue_many(jobs)

    assert [outcome.id for outcome in outcomes if isinstance(outcome, Accepted)] == [job.id for job in jobs]
    for job in jobs:
        record = await client.get(job.id)
        assert record is not None
        assert (record.tenant, record.request_id, record.metadata) == (job.tenant, job.request_id, job.metadata)
        assert (record.keeps_events, record.route) == (job.keep_events, job.route)
    fields = await client.redis.hmget(client.keys.record(jobs[3].id), ["co", "ttl", "rt", "fp"])  # type: ignore[misc]  # redis-py 5 types it as either
    assert fields == [b"2.5", b"60000", b"g1", b"f"]
    assert isinstance((await client.enqueue_many([replace(jobs[3], fingerprint="g")]))[0], IdempotencyMismatch)


async def test_a_job_that_stands_between_those_of_a_call_is_counted_before_the_later_ones(client: QueueClient) -> None:
    await client.enqueue(chat(tenant="b", cost=1.5))

    outcomes = await client.enqueue_many([chat(tenant="a") for _ in range(3)])

    assert [outcome.position for outcome in outcomes if isinstance(outcome, Accepted)] == [1, 3, 4]
