"""The parts that act while a job waits or after its client left."""

from __future__ import annotations

import asyncio

import pytest

from gateway import abandon
from gateway.abandon import Abandoned
from gateway.load import LoadView, expected_wait_s, free_slots
from gateway.positions import PositionBoard
from gateway.routes.job_events import EventCursor
from shared.errors import QueueUnavailable
from shared.jobs import State
from shared.queue.stats import QueueStats, WorkerInfo
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

    async def read(job_ids: list[str]) -> dict[str, int]:
        calls.append(job_ids)
        return {job_id: index for index, job_id in enumerate(job_ids, 1)}

    board = PositionBoard(read, period_s=0.05)
    ids = [f"job_{index}" for index in range(100)]
    watches = [board.watching(job_id) for job_id in ids]
    for watch in watches:
        watch.__enter__()
    await wait_until(lambda: board.position("job_99") == 100, description="positions read")
    assert [len(call) for call in calls] == [100] * len(calls)
    for watch in watches:
        watch.__exit__(None, None, None)
    assert board.position("job_99") is None
    await asyncio.sleep(0.15)
    quiet = len(calls)
    await asyncio.sleep(0.15)
    assert len(calls) == quiet, "nobody waits, so nobody asks"
    assert await asyncio.gather(*(board.ask(job_id) for job_id in ids)) == list(range(1, 101))
    assert len(calls) <= quiet + 2
    await board.stop()


@pytest.mark.parametrize(
    ("position", "free", "drain_per_s", "expected"),
    [
        (1, 4, None, 0.0),
        (4, 4, 0.1, 0.0),
        (5, 4, 0.5, 2.0),
        (3, 0, 2.0, 1.5),
        (5, 4, None, None),
        (1, 0, 0.0, None),
        (1, None, 2.0, None),
    ],
)
def test_the_wait_by_free_slots_and_the_drain_rate(
    position: int, free: int | None, drain_per_s: float | None, expected: float | None
) -> None:
    assert expected_wait_s(position, free, drain_per_s) == expected


def test_slots_are_free_where_a_worker_says_so() -> None:
    assert free_slots(stats()) is None
    assert free_slots(stats((5, 2), (5, 5), (2, 3))) == 3, "one that is taking a slot more than it has owes none"


def stats(*workers: tuple[int, int]) -> QueueStats:
    """Statistics with workers of so many slots, so many of them taken."""
    return QueueStats(
        states={},
        queued_by_class={},
        oldest_wait_s=0.0,
        counters={},
        workers=[
            WorkerInfo(id=f"w{at}", host="h", pid=at, slots=slots, running=running, seen_s_ago=0.0, version="")
            for at, (slots, running) in enumerate(workers)
        ],
    )


async def test_the_load_is_read_once_however_many_ask() -> None:
    reads = 0

    async def read() -> QueueStats:
        nonlocal reads
        reads += 1
        return stats((5, 2))

    load = LoadView(read)
    waits = await asyncio.gather(*(load.expected_wait_s(3) for _ in range(50)))
    assert reads == 1
    assert set(waits) == {0.0}


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
