"""Dead letters: what is kept of a job that failed for good, who finds it, running it again, forgetting it."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from shared.errors import BackendTimeout, BadRequest, DeadLetterNotFound, Overloaded, PayloadLost, UndecodableJob
from shared.jobs import Kind, NewJob, Priority, State
from shared.queue.admission import QueueLimits
from shared.queue.client import QueueClient
from shared.queue.dead_letters import DeadLetterFilter
from shared.queue.records import AttemptNotes
from shared.queue.running import RetryLater, RunningJob
from shared.wire.canonical import ChatRequest, EmbeddingRequest
from tests.conftest import WaitUntil
from tests.shared.queue.rig import ANSWER, chat, claim, counter, settings_for, settle, working
from tests.shared.queue.test_leases import has_state, lapse, read

DAY_S = 86_400
WEEK_MS = 7 * DAY_S * 1000


async def bury(client: QueueClient, job: NewJob, reason: str = "backend_fault") -> NewJob:
    """Let `job` fail for good."""
    await client.enqueue(job)
    for run in await claim(client.scripts, 100, seed=job.id):
        await settle(client.scripts, run.id, run.token, "dead_lettered", error=f"@{reason}".encode())
    return job


async def sweep(client: QueueClient) -> None:
    await client.redis.delete(f"{client.keys.root}sweeping")
    await client.sweep()


async def ids(client: QueueClient, **wanted: Any) -> list[str]:
    return [job.id for job in (await client.dead_letters.list(DeadLetterFilter(**wanted))).jobs]


@pytest.mark.req("S1-11")
async def test_a_dead_letter_keeps_request_and_history(
    client: QueueClient, redis_url: str, wait_until: WaitUntil
) -> None:
    tries = 0

    async def fail(ctx: dict[str, Any], job: RunningJob) -> bytes:
        nonlocal tries
        tries += 1
        job.notes = AttemptNotes(backend=f"ollama-{tries}", model="llama3.2")
        error = BackendTimeout(f"no byte, try {tries}")
        if tries < 3:
            raise RetryLater(error, 0.0)
        raise error

    job = chat("a secret question", metadata={"user": "alice"}, retention_s=100)
    async with working(redis_url, fail):
        await client.enqueue(job)
        await wait_until(lambda: has_state(client, job.id, State.DEAD_LETTERED))

    found = await client.dead_letters.show(job.id, content=True)
    assert found.job.dead_letter_reason == "backend_timeout"
    assert [(a.number, a.backend, a.outcome, a.error and a.error.message) for a in found.job.attempts] == [
        (1, "ollama-1", "retried", "no byte, try 1"),
        (2, "ollama-2", "retried", "no byte, try 2"),
        (3, "ollama-3", "failed", "no byte, try 3"),
    ]
    assert found.request is not None and found.request["messages"][0]["content"] == "a secret question"
    assert found.job.metadata == {"user": "alice"}
    for key in (client.keys.record(job.id), client.keys.payload_root + job.id):
        assert WEEK_MS - 60_000 < await client.redis.pttl(key) <= WEEK_MS
    assert (await client.stats()).dead_letters == 1


async def test_texts_are_shown_by_their_lengths_unless_asked_for(client: QueueClient) -> None:
    job = await bury(client, chat("a secret question", metadata={"user": "alice"}))

    found = await client.dead_letters.show(job.id)

    assert "secret" not in repr(found) and "alice" not in repr(found)
    assert found.request is not None
    assert found.request["messages"][0]["content"] == "(17 characters)"
    assert (found.request["model"], found.request["messages"][0]["role"]) == ("llama3.2", "user")
    assert found.job.metadata == {"user": "(5 characters)"}
    [listed] = (await client.dead_letters.list()).jobs
    assert listed.metadata == {"user": "(5 characters)"}


async def test_only_a_dead_letter_is_shown_replayed_or_purged(client: QueueClient) -> None:
    waiting, done = chat(), chat()
    await client.enqueue(done)
    [run] = await claim(client.scripts)
    await settle(client.scripts, run.id, run.token)
    await client.enqueue(waiting)
    for job_id in (waiting.id, done.id, "job_unknown"):
        with pytest.raises(DeadLetterNotFound):
            await client.dead_letters.show(job_id)
        for model in ("", "mistral"):
            with pytest.raises(DeadLetterNotFound):
                await client.dead_letters.replay(job_id, model=model)
        assert not await client.dead_letters.purge(job_id)
    assert (await read(client, waiting.id)).state is State.QUEUED
    assert (await read(client, done.id)).state is State.SUCCEEDED
    assert await client.dead_letters.list() == await client.dead_letters.list(cursor="")
    assert await ids(client) == []


async def test_the_list_is_newest_first_filtered_and_in_pages(client: QueueClient) -> None:
    dead = []
    for n in range(6):
        job = chat(tenant="a" if n % 2 else "b")
        if n == 5:
            request = EmbeddingRequest(model="nomic", inputs=["x"])
            job = NewJob(kind=Kind.EMBEDDING, model="nomic", request=request, tenant="a")
        dead.append((await bury(client, job, "backend_fault" if n < 3 else "model_fault")).id)
        await asyncio.sleep(0.002)
    newest = dead[::-1]

    assert await ids(client) == newest
    assert await ids(client, reason="backend_fault") == [dead[2], dead[1], dead[0]]
    assert await ids(client, tenant="a", reason="model_fault") == [dead[5], dead[3]]
    assert await ids(client, model="nomic") == [dead[5]]
    since = (await read(client, dead[4])).ended_at
    assert since is not None and await ids(client, since=since) == [dead[5], dead[4]]

    pages, cursor = [], ""
    while True:
        page = await client.dead_letters.list(cursor=cursor, limit=2)
        pages += [job.id for job in page.jobs]
        cursor = page.next_cursor
        if not cursor:
            break
        await bury(client, chat())  # comes in front, and must not shift the pages
    assert pages == newest
    for cursor in ("5", "x", "-1", "1-job_é"):
        with pytest.raises(BadRequest):
            await client.dead_letters.list(cursor=cursor)


async def test_a_page_looks_at_so_many_and_goes_on_from_there(client: QueueClient) -> None:
    wanted = await bury(client, chat(tenant="rare"))
    for _ in range(5):
        await bury(client, chat())
    rare = DeadLetterFilter(tenant="rare")

    page = await client.dead_letters.list(rare, scan=3)
    assert page.jobs == [] and page.next_cursor
    [found] = (await client.dead_letters.list(rare, cursor=page.next_cursor, scan=3)).jobs
    assert found.id == wanted.id


async def test_pages_hold_however_many_ended_in_the_same_moment(client: QueueClient) -> None:
    jobs = [chat() for _ in range(350)]
    await asyncio.gather(*(client.enqueue(job) for job in jobs))
    for seed in ("a", "b"):
        for run in await claim(client.scripts, 200, seed=seed):
            await settle(client.scripts, run.id, run.token, "dead_lettered", error=b"@backend_fault")
    await client.redis.zadd(client.keys.dead_letters, {job.id: 1_700_000_000_000 for job in jobs[:320]})

    seen, cursor = [], ""
    while True:
        page = await client.dead_letters.list(cursor=cursor, limit=90)
        seen += [job.id for job in page.jobs]
        cursor = page.next_cursor
        if not cursor:
            break
    assert len(seen) == 350
    assert set(seen) == {job.id for job in jobs}


@pytest.mark.req("S1-11")
async def test_a_replay_is_a_new_job_and_the_dead_letter_stays(
    client: QueueClient, redis_url: str, wait_until: WaitUntil
) -> None:
    old = await bury(client, chat("again", tenant="acme", priority=Priority.HIGH, timeout_s=5, retention_s=60))
    before = await client.redis.hgetall(client.keys.record(old.id))  # type: ignore[misc]  # redis-py 5 types it as either

    replayed = await client.dead_letters.replay(old.id, request_id="req_9")

    assert (replayed.replay_of, replayed.before) == (old.id, False)
    after = await client.redis.hgetall(client.keys.record(old.id))  # type: ignore[misc]  # redis-py 5 types it as either
    assert after == before | {b"ra": replayed.id.encode()}
    new = await read(client, replayed.id)
    assert (new.state, new.replay_of, new.tenant, new.priority) == (State.QUEUED, old.id, "acme", Priority.HIGH)
    assert (new.request_id, new.failures, new.attempts) == ("req_9", 0, [])
    assert new.deadline_at - new.created_at == 600, "nobody waits as long as the first caller wanted to"
    assert (await client.list("acme")).jobs[0].id == new.id

    seen = []

    async def answer(ctx: dict[str, Any], job: RunningJob) -> bytes:
        seen.append(job.request())
        return ANSWER

    async with working(redis_url, answer):
        await wait_until(lambda: has_state(client, new.id, State.SUCCEEDED))
    assert isinstance(seen[0], ChatRequest) and seen[0].messages[0].content == "again"
    assert (await read(client, old.id)).replayed_as == new.id
    assert DAY_S - 60 < await client.redis.ttl(client.keys.record(new.id)) <= DAY_S


async def test_a_second_replay_gives_the_first_ones_job(client: QueueClient) -> None:
    old = await bury(client, chat())
    answers = await asyncio.gather(*(client.dead_letters.replay(old.id) for _ in range(20)))

    assert len({answer.id for answer in answers}) == 1
    assert [answer.before for answer in answers].count(False) == 1
    assert len(await claim(client.scripts, 10)) == 1
    assert await counter(client, "replayed") == 1


async def test_a_replay_whose_answer_got_lost_is_asked_for_again(client: QueueClient) -> None:
    old = await bury(client, chat())
    run, calls = client.scripts.run, 0

    async def lose_first(name: str, *args: Any) -> Any:
        nonlocal calls
        reply = await run(name, *args)
        calls += 1
        if calls == 1:
            raise ConnectionError("the answer got lost")
        return reply

    client.scripts.run = lose_first  # type: ignore[method-assign]  # the fault is injected between client and server
    replayed = await client.dead_letters.replay(old.id)

    assert (replayed.before, calls) == (False, 2)
    assert [job.id for job in await claim(client.scripts, 10)] == [replayed.id]


async def test_a_replay_on_another_model_changes_nothing_else(client: QueueClient) -> None:
    old = await bury(client, chat("same words", keep_events=True))
    replayed = await client.dead_letters.replay(old.id, model="mistral")

    [run] = await claim(client.scripts)
    assert run.id == replayed.id
    stored = msgspec.msgpack.decode(run.payload)
    first = msgspec.msgpack.decode(await client.redis.get(client.keys.payload_root + old.id))
    assert stored["k"]["request"].pop("model") == "mistral"
    first["k"]["request"].pop("model")
    assert stored == first
    assert (await read(client, run.id)).model == "mistral"


async def test_a_replay_that_fails_is_a_dead_letter_of_its_own(client: QueueClient) -> None:
    old = await bury(client, chat())
    second = await client.dead_letters.replay(old.id)
    [run] = await claim(client.scripts)
    await settle(client.scripts, run.id, run.token, "dead_lettered", error=b"@backend_fault")
    third = await client.dead_letters.replay(second.id)

    assert len({old.id, second.id, third.id}) == 3
    assert (await read(client, third.id)).replay_of == second.id


async def test_a_replay_by_filter_is_paced_by_the_queue(client: QueueClient) -> None:
    dead = [(await bury(client, chat(tenant="a"))).id for _ in range(5)]
    other = await bury(client, chat(tenant="b"))
    await client.dead_letters.replay(dead[0])
    await claim(client.scripts)

    outcome = await client.dead_letters.replay_matching(DeadLetterFilter(tenant="a"), per_second=2)

    assert {each.replay_of for each in outcome.replayed} == set(dead[1:])
    assert (outcome.without_payload, outcome.refused) == (0, None)
    jobs = [await read(client, each.id) for each in outcome.replayed]
    dues = [(job.scheduled_for or job.created_at) - job.created_at for job in jobs]
    assert dues == pytest.approx([0, 0.5, 1.0, 1.5], abs=0.01)
    assert [job.state for job in jobs] == [State.QUEUED, *[State.SCHEDULED] * 3]
    assert (await read(client, other.id)).replayed_as == ""
    again = await client.dead_letters.replay_matching(DeadLetterFilter(tenant="a"))
    assert again.replayed == []


async def test_a_replay_stops_where_the_queue_is_full(client: QueueClient, redis_url: str) -> None:
    for _ in range(5):
        await bury(client, chat())
    full = await QueueClient.connect(settings_for(redis_url), limits=QueueLimits(depth=3))
    outcome = await full.dead_letters.replay_matching(DeadLetterFilter())
    assert len(outcome.replayed) == 3
    assert outcome.refused is not None and outcome.refused.code == "queue_full"
    left = [job for job in (await full.dead_letters.list()).jobs if not job.replayed_as]
    assert len(left) == 2
    with pytest.raises(Overloaded):
        await full.dead_letters.replay(left[0].id)
    assert (await read(client, left[0].id)).replayed_as == ""
    await full.aclose()


async def test_what_has_no_readable_request_is_left_out(client: QueueClient) -> None:
    lost, foreign = chat(), chat()
    await bury(client, lost)
    await bury(client, foreign, "undecodable_job")
    await client.redis.delete(client.keys.payload_root + lost.id)
    await client.redis.set(client.keys.payload_root + foreign.id, b"\x80garbage", keepttl=True)

    assert (await client.dead_letters.show(lost.id)).request is None
    assert (await client.dead_letters.show(foreign.id)).request is None
    for model in ("", "mistral"):
        with pytest.raises(PayloadLost):
            await client.dead_letters.replay(lost.id, model=model)
    with pytest.raises(UndecodableJob):
        await client.dead_letters.replay(foreign.id, model="mistral")
    outcome = await client.dead_letters.replay_matching(DeadLetterFilter(), model="mistral")
    assert (outcome.replayed, outcome.without_payload) == ([], 2)
    assert not (await client.dead_letters.replay(foreign.id)).before, "a later release may read it"


async def test_a_poisoned_job_can_be_replayed(client: QueueClient) -> None:
    job = chat()
    await client.enqueue(job)
    for life in range(3):
        await claim(client.scripts, seed=f"life{life}")
        await lapse(client, job.id)

    found = await client.dead_letters.show(job.id)
    assert (found.job.dead_letter_reason, found.job.crashes) == ("job_poisoned", 3)
    assert [attempt.outcome for attempt in found.job.attempts] == ["crashed"] * 3
    new = await client.dead_letters.replay(job.id)
    assert (await read(client, new.id)).crashes == 0


async def test_purging_removes_every_trace(client: QueueClient) -> None:
    dead = [await bury(client, chat(tenant="a", keep_events=True)) for _ in range(3)]
    other = await bury(client, chat(tenant="b"))
    assert await client.dead_letters.purge(dead[0].id)
    assert not await client.dead_letters.purge(dead[0].id)
    assert await client.get(dead[0].id) is None
    assert await client.dead_letters.purge_matching(DeadLetterFilter(tenant="a")) == 2
    assert [key async for key in client.redis.scan_iter(match=f"*{dead[1].id}*")] == []
    assert (await client.list("a")).jobs == []
    assert await ids(client) == [other.id]
    assert await client.dead_letters.purge_matching(DeadLetterFilter()) == 1
    assert await counter(client, "purged") == 4


async def test_dead_letters_go_after_their_time_and_the_oldest_of_too_many(redis_url: str) -> None:
    limits = QueueLimits(dead_letters=3, dead_letter_ttl_s=1000)
    client = await QueueClient.connect(settings_for(redis_url), limits=limits)
    await sweep(client)  # tells the scripts how long
    short, long = chat(retention_s=60), chat(retention_s=5000)
    dead = [await bury(client, job) for job in (short, long, *(chat() for _ in range(3)))]
    assert 900 < await client.redis.ttl(client.keys.record(short.id)) <= 1000
    assert 4900 < await client.redis.ttl(client.keys.record(long.id)) <= 5000
    vanished = dead[3]
    # Two deaths may fall into one millisecond, and then their ids decide who is older.
    for age, job in enumerate(reversed(dead)):
        await client.redis.zincrby(client.keys.dead_letters, -age, job.id)
    await client.redis.zadd(client.keys.dead_letters, {vanished.id: 1})
    await client.redis.delete(client.keys.record(vanished.id))

    await sweep(client)

    assert set(await ids(client)) == {long.id, dead[2].id, dead[4].id}
    assert (await read(client, short.id)).state is State.DEAD_LETTERED, "its own retention is not over"
    assert await client.redis.ttl(client.keys.record(short.id)) <= 60
    with pytest.raises(PayloadLost):
        await client.dead_letters.replay(short.id)

    await client.redis.zincrby(client.keys.dead_letters, -1_001_000, long.id)
    await client.redis.zincrby(client.keys.dead_letters, -4_000_000, dead[2].id)
    await sweep(client)

    assert await ids(client) == [dead[4].id]
    assert 3900 < await client.redis.ttl(client.keys.record(long.id)) < 4000
    assert await client.get(dead[2].id) is None
    assert not await client.redis.exists(client.keys.payload_root + long.id)
    await client.aclose()
