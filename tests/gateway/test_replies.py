"""The reader of a gateway's inbox: everybody gets their job's events, in order, once, whatever gets lost on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import replies as module
from gateway.replies import INBOX_TTL_S, Replies, Subscription
from shared.errors import ErrorRecord
from shared.jobs import NewJob, State
from shared.queue.client import QueueClient
from shared.queue.connection import connect
from shared.wire.canonical import Delta, TextAnswer
from shared.wire.codec import encode, encode_result
from shared.wire.events import Chunk, Ended, Event, Started
from tests.conftest import WaitUntil
from tests.shared.queue.rig import Claimed, chat, claim, publish, queue_client, settings_for, settle

GATEWAY = "g1"


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[QueueClient]:
    async with queue_client(redis_url) as client:
        yield client


@pytest.fixture
async def replies(client: QueueClient, redis_url: str) -> AsyncIterator[Replies]:
    blocking = connect(settings_for(redis_url), socket_timeout_s=15)
    reader = Replies(client, GATEWAY, blocking=blocking)
    await reader.start()
    yield reader
    await reader.stop()
    await blocking.aclose(close_connection_pool=True)


def streamed(**fields: Any) -> NewJob:
    return chat(keep_events=True, reply_to=GATEWAY, **fields)


async def say(client: QueueClient, job: Claimed, seq: int, text: str) -> None:
    assert await publish(client.scripts, job, seq, encode([Delta(content=text)])) == b""


def stored(job: Claimed, content: str) -> bytes:
    answer = encode(TextAnswer(model="m", content=content))
    return encode_result(
        succeeded=True, value=answer, attempt=1, kind="chat", enqueued_ms=1, started_ms=2, finished_ms=3,
        queue_name="q", job_id=job.id,
    )  # fmt: skip


async def finish(client: QueueClient, job: Claimed, content: str = "done") -> None:
    assert await settle(client.scripts, job.id, job.token, result=stored(job, content)) == b"succeeded"


def text(events: list[Event]) -> str:
    return "".join(delta.content for event in events if isinstance(event, Chunk) for delta in event.deltas)


async def until_end(subscription: Subscription, timeout_s: float = 8.0) -> list[Event]:
    events: list[Event] = []
    async with asyncio.timeout(timeout_s):
        events += [event async for event in subscription]
    return events


@pytest.mark.req("S1-08")
async def test_a_client_gets_start_chunks_and_end_in_order(client: QueueClient, replies: Replies) -> None:
    job = streamed()
    with replies.expect(job.id) as subscription:
        await client.enqueue(job)
        [run] = await claim(client.scripts)
        await say(client, run, 1, "a")
        await say(client, run, 2, "b")
        await finish(client, run, "ab")

        events = await until_end(subscription)

    assert events[0] == Started(attempt=1)
    assert [e.id for e in events if isinstance(e, Chunk)] == ["1-1", "1-2"]
    end = events[-1]
    assert isinstance(end, Ended) and end.result is not None
    assert (text(events), end.state, end.attempts) == ("ab", State.SUCCEEDED, 1)


async def test_everybody_hears_of_their_own_job_only(client: QueueClient, replies: Replies) -> None:
    jobs = [chat(reply_to=GATEWAY) for _ in range(20)]
    subscriptions = [replies.expect(job.id) for job in jobs]
    for job in jobs:
        await client.enqueue(job)
    for run in reversed(await claim(client.scripts, 20)):
        await finish(client, run, run.id)

    ends = [await s.ended(5) for s in subscriptions]

    assert all(end is not None and job.id.encode() in (end.result or b"") for job, end in zip(jobs, ends, strict=True))


async def test_two_may_watch_one_job(client: QueueClient, replies: Replies) -> None:
    job = streamed()
    first = replies.expect(job.id)
    await client.enqueue(job)
    second = await replies.attach(job.id)
    assert second is not None
    [run] = await claim(client.scripts)
    await say(client, run, 1, "a")
    await finish(client, run)

    assert text(await until_end(first)) == text(await until_end(second)) == "a"


async def test_a_failure_comes_with_its_error(client: QueueClient, replies: Replies) -> None:
    job = chat(reply_to=GATEWAY)
    subscription = replies.expect(job.id)
    await client.enqueue(job)
    [run] = await claim(client.scripts)
    error = encode(ErrorRecord(code="backend_fault", message="it broke"))
    await settle(client.scripts, run.id, run.token, "dead_lettered", error=error)

    end = await subscription.ended(5)

    assert end is not None and end.error is not None
    assert (end.state, end.error.message, end.result) == (State.DEAD_LETTERED, "it broke", None)


async def test_a_cancelled_job_ends_for_whoever_waits(client: QueueClient, replies: Replies) -> None:
    job = chat(reply_to=GATEWAY)
    subscription = replies.expect(job.id)
    await client.enqueue(job)
    await client.cancel(job.id)

    end = await subscription.ended(5)

    assert end is not None and end.error is not None
    assert (end.state, end.error.code) == (State.CANCELLED, "job_cancelled")


async def test_a_result_too_large_for_the_inbox_is_fetched(client: QueueClient, replies: Replies) -> None:
    job = chat(reply_to=GATEWAY)
    subscription = replies.expect(job.id)
    await client.enqueue(job)
    [run] = await claim(client.scripts)
    await finish(client, run, "x" * 100_000)

    end = await subscription.ended(5)

    assert end is not None and end.result is not None and len(end.result) > 100_000
    entries = await client.redis.xrange(client.keys.inbox(GATEWAY))
    assert max(len(fields.get(b"d", b"")) for _, fields in entries) == 0


async def test_a_chunk_lost_on_the_way_is_read_from_the_log(
    client: QueueClient, replies: Replies, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver = replies._deliver

    async def lose_second(fields: dict[bytes, bytes]) -> None:
        if fields.get(b"q") != b"2":
            await deliver(fields)

    monkeypatch.setattr(replies, "_deliver", lose_second)
    job = streamed()
    subscription = replies.expect(job.id)
    await client.enqueue(job)
    [run] = await claim(client.scripts)
    for seq, word in enumerate(("a", "b", "c", "d"), start=1):
        await say(client, run, seq, word)
    await finish(client, run)

    events = await until_end(subscription)

    assert [e.id for e in events if isinstance(e, Chunk)] == ["1-1", "1-2", "1-3", "1-4"]
    assert text(events) == "abcd"


async def test_a_lost_end_and_the_chunks_lost_with_it_are_found_by_the_sweep(
    client: QueueClient, replies: Replies, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SWEEP_S", 0.2)
    monkeypatch.setattr(module, "TICK_S", 0.1)
    job = streamed()
    subscription = replies.expect(job.id)
    await client.enqueue(job)
    [run] = await claim(client.scripts)
    await say(client, run, 1, "a")
    assert isinstance(await subscription.next(5), Started)
    assert isinstance(await subscription.next(5), Chunk)

    async def lose(fields: dict[bytes, bytes]) -> None:
        """The inbox is being lost."""

    monkeypatch.setattr(replies, "_deliver", lose)
    await say(client, run, 2, "b")
    await finish(client, run, "ab")

    events = await until_end(subscription)

    assert text(events) == "b"
    assert isinstance(events[-1], Ended) and events[-1].state is State.SUCCEEDED


async def test_a_run_that_starts_anew_is_announced(client: QueueClient, replies: Replies) -> None:
    job = streamed()
    subscription = replies.expect(job.id)
    await client.enqueue(job)
    [first] = await claim(client.scripts, seed="a")
    await say(client, first, 1, "old")
    await settle(client.scripts, first.id, first.token, "retried", error=b"@backend_fault")
    [second] = await claim(client.scripts, seed="b")
    await say(client, second, 1, "new")
    await finish(client, second)

    events = await until_end(subscription)

    kinds = [(type(e).__name__, getattr(e, "attempt", None)) for e in events[:-1]]
    assert kinds == [("Started", 1), ("Chunk", 1), ("Started", 2), ("Chunk", 2)]


async def test_a_lost_announcement_of_a_new_run_is_read_from_the_log(
    client: QueueClient, replies: Replies, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver = replies._deliver

    async def lose_second_start(fields: dict[bytes, bytes]) -> None:
        if (fields.get(b"t"), fields.get(b"a")) != (b"s", b"2"):
            await deliver(fields)

    monkeypatch.setattr(replies, "_deliver", lose_second_start)
    job = streamed()
    subscription = replies.expect(job.id)
    await client.enqueue(job)
    [first] = await claim(client.scripts, seed="a")
    await say(client, first, 1, "old")
    await settle(client.scripts, first.id, first.token, "retried", error=b"@backend_fault")
    [second] = await claim(client.scripts, seed="b")
    await say(client, second, 1, "new")
    await finish(client, second)

    events = await until_end(subscription)

    assert Started(attempt=2) in events
    assert [e.id for e in events if isinstance(e, Chunk)] == ["1-1", "2-1"]


async def test_who_comes_late_gets_the_log_and_then_what_follows(client: QueueClient, replies: Replies) -> None:
    job = chat(keep_events=True)  # nobody watches yet
    await client.enqueue(job)
    [run] = await claim(client.scripts)
    await say(client, run, 1, "a")
    await say(client, run, 2, "b")

    whole = await replies.attach(job.id)
    rest = await replies.attach(job.id, after="1-1")
    assert whole is not None and rest is not None
    await say(client, run, 3, "c")
    await finish(client, run)

    assert text(await until_end(whole)) == "abc"
    assert text(await until_end(rest)) == "bc"
    assert (whole.position, rest.position) == ("1-3", "1-3")


async def test_who_comes_after_the_end_gets_everything_from_the_log(client: QueueClient, replies: Replies) -> None:
    job = chat(keep_events=True)
    await client.enqueue(job)
    [run] = await claim(client.scripts)
    await say(client, run, 1, "a")
    await finish(client, run, "a")

    late = await replies.attach(job.id)
    assert late is not None
    events = await until_end(late)

    assert text(events) == "a"
    end = events[-1]
    assert isinstance(end, Ended) and end.result is not None and end.attempts == 1


async def test_an_unknown_job_cannot_be_joined(replies: Replies) -> None:
    assert await replies.attach("job_unknown") is None
    assert replies._subscriptions == {}


async def test_who_waits_for_a_job_that_redis_forgot_is_told(
    client: QueueClient, replies: Replies, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SWEEP_S", 0.2)
    monkeypatch.setattr(module, "TICK_S", 0.1)
    job = chat(reply_to=GATEWAY)
    subscription = replies.expect(job.id)
    await client.enqueue(job)
    await client.redis.flushdb()

    end = await subscription.ended(5)

    assert end is not None and end.error is not None
    assert (end.error.code, end.error.http_status, end.error.retryable) == ("job_lost", 503, True)


async def test_a_bad_entry_stops_nobody(client: QueueClient, replies: Replies) -> None:
    bad, good = chat(reply_to=GATEWAY), chat(reply_to=GATEWAY)
    for job in (bad, good):
        replies.expect(job.id)
        await client.enqueue(job)
    await client.redis.xadd(client.keys.inbox(GATEWAY), {"j": bad.id, "t": "c", "a": "1", "q": "1", "d": b"\xc1"})
    await client.redis.xadd(client.keys.inbox(GATEWAY), {"nothing": "here"})
    runs = await claim(client.scripts, 2)
    [other] = [run for run in runs if run.id == good.id]
    await finish(client, other)

    assert await replies._subscriptions[good.id][0].ended(5) is not None


async def test_the_inbox_lives_only_as_long_as_its_gateway(
    client: QueueClient, redis_url: str, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TICK_S", 0.05)
    inbox = client.keys.inbox("g2")
    reader = Replies(client, "g2", blocking=connect(settings_for(redis_url), socket_timeout_s=15))
    await reader.start()
    assert 0 < await client.redis.ttl(inbox) <= INBOX_TTL_S
    await client.redis.expire(inbox, 5)
    await wait_until(lambda: _renewed(client, inbox), description="its gateway keeps the inbox alive")
    await client.redis.delete(inbox)
    await wait_until(lambda: client.redis.exists(inbox), description="a lost inbox is made again")

    await reader.stop()

    assert not await client.redis.exists(inbox)
    await reader._redis.aclose(close_connection_pool=True)


async def _renewed(client: QueueClient, inbox: str) -> bool:
    return bool(await client.redis.ttl(inbox) > INBOX_TTL_S - 5)


async def test_what_was_read_leaves_the_inbox(
    client: QueueClient, replies: Replies, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = streamed()
    subscription = replies.expect(job.id)
    await client.enqueue(job)
    [run] = await claim(client.scripts)
    for seq in range(1, 30):
        await say(client, run, seq, "x")
    await finish(client, run)
    await until_end(subscription)
    await wait_until(lambda: _inbox_length(client), description="read entries are trimmed")


async def _inbox_length(client: QueueClient) -> bool:
    return bool(await client.redis.xlen(client.keys.inbox(GATEWAY)) <= 1)


# -- Any interleaving of log and live events --------------------------------------------------------------------------


class RecordingReplies:
    """Stands in for `Replies`: notes who asked for the log."""

    def __init__(self) -> None:
        self.asked = 0

    def catch_up(self, subscription: Subscription) -> None:
        self.asked += 1
        subscription.hold()

    def drop(self, subscription: Subscription) -> None:
        """Nothing to forget."""


def story(lengths: list[int]) -> list[Event]:
    """The whole log of a job whose runs sent so many chunks each, and its end."""
    events: list[Event] = []
    for attempt, count in enumerate(lengths, start=1):
        events.append(Started(attempt=attempt))
        events += [Chunk(attempt=attempt, seq=seq, deltas=[Delta(content="x")]) for seq in range(1, count + 1)]
    return [*events, Ended(state=State.SUCCEEDED)]


async def test_who_waits_gets_the_event_or_none_when_the_time_is_up() -> None:
    client = Subscription(cast("Replies", RecordingReplies()), "job")
    assert await client.next(0.001) is None
    assert await client.next(0) is None

    waiting = asyncio.create_task(client.next(30))
    await asyncio.sleep(0)
    client.feed(Started(attempt=1))
    client.feed(Chunk(attempt=1, seq=1, deltas=[]))
    assert await waiting == Started(attempt=1)
    assert isinstance(await client.next(0), Chunk), "what is there needs no time"


async def test_an_event_that_comes_as_the_time_is_up_is_not_lost() -> None:
    client = Subscription(cast("Replies", RecordingReplies()), "job")
    loop = asyncio.get_running_loop()
    waiting = asyncio.create_task(client.next(0))
    await asyncio.sleep(0)
    loop.call_soon(client.feed, Started(attempt=1))  # the timer has woken it, but it has not gone on yet
    seen = [await waiting, await client.next(0)]
    assert Started(attempt=1) in seen and seen.count(None) == 1


async def test_who_stops_waiting_leaves_the_event_to_the_next() -> None:
    client = Subscription(cast("Replies", RecordingReplies()), "job")
    waiting = asyncio.create_task(client.next(30))
    await asyncio.sleep(0)
    waiting.cancel()
    client.feed(Started(attempt=1))
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await client.next(0) == Started(attempt=1)


@settings(max_examples=300, deadline=None)
@given(data=st.data(), lengths=st.lists(st.integers(0, 5), min_size=1, max_size=3))
def test_log_and_live_events_give_one_whole_story(data: st.DataObject, lengths: list[int]) -> None:
    """Live entries may be lost or doubled; whenever a gap shows, or at the sweep, the log is read."""
    events = story(lengths)
    body = events[:-1]
    losses = data.draw(st.lists(st.booleans(), min_size=len(body), max_size=len(body)), label="lost")
    doubled = data.draw(st.lists(st.booleans(), min_size=len(body), max_size=len(body)), label="doubled")
    answers_after = data.draw(st.integers(0, 3), label="the log is answered after so many live events")
    end_lost = data.draw(st.booleans(), label="end lost")

    async def play() -> tuple[list[Event], list[Event]]:
        replies = RecordingReplies()
        client = Subscription(cast("Replies", replies), "job")
        due: int | None = None
        written: list[Event] = []

        def read_log() -> None:
            attempt, seq = client._position
            client.release([e for e in written if _key(e) > (attempt, seq)])

        for event, lost, twice in zip(body, losses, doubled, strict=True):
            written.append(event)
            for _ in range(0 if lost else 1 + twice):
                before = replies.asked
                client.feed(event)
                if replies.asked > before:
                    due = answers_after
            if due is not None:
                due -= 1
                if due < 0:
                    due = None
                    read_log()
        if end_lost:  # the sweep reads the record and the log
            client.hold()
        else:
            client.feed(events[-1])
        if client._held is not None:
            attempt, seq = client._position
            client.release([*(e for e in written if _key(e) > (attempt, seq)), events[-1]])
        return client.drain(), written

    seen, written = asyncio.run(play())
    assert isinstance(seen[-1], Ended) and seen.count(seen[-1]) == 1
    keys = [_key(event) for event in seen[:-1]]
    assert keys == sorted(set(keys)), "in order and none twice"
    # Whatever was seen of a run, nothing before it in that run is missing.
    for attempt, seq in keys:
        assert all((attempt, earlier) in keys for earlier in range(1, seq))
    if end_lost:
        last = len(lengths)
        whole = [_key(e) for e in written if _key(e)[0] == last and _key(e)[1]]
        assert [key for key in keys if key[0] == last and key[1]] == whole, "the log makes the last run whole"


def _key(event: Event) -> tuple[int, int]:
    assert isinstance(event, Started | Chunk)
    return (event.attempt, event.seq if isinstance(event, Chunk) else 0)
