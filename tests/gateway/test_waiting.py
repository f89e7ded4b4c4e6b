"""The parts that act while a job waits or after its client left."""

from __future__ import annotations

import asyncio

import pytest

from gateway import abandon
from gateway.abandon import Abandoned
from gateway.load import LoadView
from gateway.positions import PositionBoard
from gateway.routes.job_events import EventCursor
from shared.errors import QueueUnavailable
from shared.jobs import Priority, State
from shared.queue.admission import refusal
from shared.queue.fleet import Fleet, Standing
from shared.usage.estimates import Estimates, Tally
from shared.wire.canonical import Delta
from shared.wire.events import Chunk, Started
from tests.conftest import WaitUntil


async def test_a_cancellation_outlives_a_hiccup_of_redis(
    monkeypatch: pytest.MonkeyPatch, wait_until: WaitUntil
) -> None:
    monkeypatch.setattr(abandon, "TRY_AGAIN_AFTER_S", (0.0, 0.01, 0.01, 0.01))
    answers: list[State | Exception | None] = [QueueUnavailable(), None, State.CANCELLED]
    asked: list[str] = []

    async def cancel(job_id: str) -> State | None:
        asked.append(job_id)
        answer = answers[len(asked) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer

    counted: list[int] = []
    abandoned = Abandoned(cancel, lambda: counted.append(1))
    abandoned.add("job_1")
    await wait_until(lambda: len(asked) == 3, description="third try")
    await abandoned.stop()
    assert asked == ["job_1"] * 3, "and no fourth after the success"
    assert counted == [1]


async def test_stopping_waits_for_cancellations_under_way() -> None:
    done: list[str] = []

    async def cancel(job_id: str) -> State:
        await asyncio.sleep(0.05)
        done.append(job_id)
        return State.CANCELLED

    abandoned = Abandoned(cancel, lambda: None)
    abandoned.add("job_1")
    await abandoned.stop()
    assert done == ["job_1"]


async def test_a_hundred_watchers_cost_one_call_a_tick(wait_until: WaitUntil) -> None:
    calls: list[list[str]] = []

    async def read(job_ids: list[str]) -> dict[str, Standing]:
        calls.append(job_ids)
        return {
            job_id: Standing(priority=Priority.LOW, line="t:llama3.2", position=index)
            for index, job_id in enumerate(job_ids, 1)
        }

    def place(at: Standing | None) -> int | None:
        return None if at is None else at.position

    board = PositionBoard(read, period_s=0.05)
    ids = [f"job_{index}" for index in range(100)]
    watches = [board.watching(job_id) for job_id in ids]
    for watch in watches:
        watch.__enter__()
    await wait_until(lambda: place(board.standing("job_99")) == 100, description="positions read")
    assert [len(call) for call in calls] == [100] * len(calls)
    for watch in watches:
        watch.__exit__(None, None, None)
    assert board.standing("job_99") is None
    await asyncio.sleep(0.15)
    quiet = len(calls)
    await asyncio.sleep(0.15)
    assert len(calls) == quiet, "nobody waits, so nobody asks"
    asked = await asyncio.gather(*(board.ask(job_id) for job_id in ids))
    assert list(map(place, asked)) == list(range(1, 101))
    assert len(calls) <= quiet + 2
    await board.stop()


async def test_the_fleet_is_read_once_however_many_ask() -> None:
    reads = 0

    async def read() -> Fleet:
        nonlocal reads
        reads += 1
        return Fleet(workers=1, slots=5, running=2)

    load = LoadView(read, Estimates)
    at = Standing(priority=Priority.NORMAL, line="t:llama3.2", position=3)
    await asyncio.gather(*(load.refresh() for _ in range(50)))
    assert reads == 1 and not load.is_old
    outlook = load.outlook(at)
    assert outlook is not None and outlook.wait_s == 0.0


async def test_with_redis_away_the_load_is_what_was_seen_last() -> None:
    async def read() -> Fleet:
        raise QueueUnavailable

    load = LoadView(read, Estimates)
    at = Standing(priority=Priority.NORMAL, line="t:llama3.2", position=3)
    await load.refresh()
    outlook = load.outlook(at)
    assert load.is_old and outlook is not None and outlook.wait_s is None


async def test_a_refused_caller_is_told_by_what_jobs_take_where_no_rate_is_known() -> None:
    async def read() -> Fleet:
        return Fleet(workers=1, slots=5, running=5)

    calls = Tally(calls=10, answers=10, seconds=20.0)
    load = LoadView(read, lambda: Estimates({("t:llama3.2", "a:1"): calls}))
    unknown, known = refusal(b"#queue_full 100.0 0.000 0"), refusal(b"#queue_full 100.0 5.000 0")
    for refused in (unknown, known):
        await load.put_right(refused)
    assert unknown.retry_after_s == 40, "100 jobs of 2 s on 5 slots"
    assert known.retry_after_s == 20, "what was measured counts"


def names(cursor: EventCursor, *events: Started | Chunk) -> list[str]:
    told = b"".join(frame for event in events if (frame := cursor.frame(event)) is not None)
    return [line.removeprefix("event: ") for line in told.decode().splitlines() if line.startswith("event: ")]


def test_a_client_hears_of_a_restart_even_if_its_start_was_missed() -> None:
    def chunk(attempt: int, seq: int) -> Chunk:
        return Chunk(attempt=attempt, seq=seq, deltas=[Delta(content="x")])

    assert names(EventCursor((0, 0)), Started(attempt=1), chunk(1, 1)) == ["started", "chunk"]
    assert names(EventCursor((0, 0)), Started(attempt=1), chunk(2, 1)) == ["started", "restart", "chunk"]
    assert names(EventCursor((1, 4)), Started(attempt=1), chunk(1, 4), chunk(1, 5)) == ["chunk"]
    assert names(EventCursor((1, 4)), Started(attempt=2), chunk(2, 1)) == ["restart", "chunk"]
