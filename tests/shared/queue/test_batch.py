"""What is asked in one turn of the loop leaves together, while no other call is under way."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from shared.queue.batch import Batcher


class Line:
    """Answers calls by hand: a call waits in `sent` until it is let go."""

    def __init__(self) -> None:
        self.sent: list[tuple[list[int], asyncio.Future[None]]] = []

    async def send(self, items: list[int]) -> Sequence[int]:
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.sent.append((items, gate))
        await gate
        return [item * 10 for item in items]

    @property
    def batches(self) -> list[list[int]]:
        return [items for items, _ in self.sent]


async def turn() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_one_turn_is_one_call_and_the_next_waits_for_it() -> None:
    line = Line()
    batcher = Batcher(line.send)
    first = [batcher.put(n) for n in (1, 2, 3)]
    await turn()
    later = [batcher.put(n) for n in (4, 5)]
    await turn()
    assert line.batches == [[1, 2, 3]]
    line.sent[0][1].set_result(None)
    assert await asyncio.gather(*first) == [10, 20, 30]
    await turn()
    assert line.batches == [[1, 2, 3], [4, 5]]
    line.sent[1][1].set_result(None)
    assert await asyncio.gather(*later) == [40, 50]


async def test_what_is_put_as_a_call_ends_is_not_left_behind() -> None:
    async def send(items: list[int]) -> Sequence[int]:
        return items

    batcher = Batcher(send)
    for n in range(50):
        async with asyncio.timeout(5):
            assert await batcher.put(n) == n


async def test_a_failure_reaches_its_own_batch_only() -> None:
    async def send(items: list[int]) -> Sequence[int]:
        if 1 in items:
            raise ValueError("one")
        return items

    batcher = Batcher(send)
    first = batcher.put(1)
    await turn()
    second = batcher.put(2)
    with pytest.raises(ValueError, match="one"):
        await first
    assert await second == 2


async def test_a_limit_splits_a_turn_and_who_gave_up_is_left_out() -> None:
    line = Line()
    batcher = Batcher(line.send, limit=2)
    futures = [batcher.put(n) for n in range(4)]
    futures[1].cancel()
    await turn()
    assert line.batches == [[0]]
    line.sent[0][1].set_result(None)
    await turn()
    assert line.batches == [[0], [2, 3]]
    line.sent[1][1].set_result(None)
    assert await asyncio.gather(futures[0], *futures[2:]) == [0, 20, 30]
