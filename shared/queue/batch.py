"""Calls made in one turn of the event loop leave together.

One call with fifty items costs Redis and us little more than one call with one: most of the queue's speed comes from
here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

I = TypeVar("I")  # noqa: E741  an item
R = TypeVar("R")

WORTH_A_CALL = 12
"""With so many items a call costs hardly more for each than one with twice as many."""


class Batcher(Generic[I, R]):
    """Gathers items while a call is under way and sends them with the next one. What is enough for two calls leaves as
    two: Redis works on the one while we work on the replies to the other.

    `send` gets up to `limit` items and returns one reply each, in order; what it raises reaches every caller of that
    batch.
    """

    def __init__(self, send: Callable[[list[I]], Awaitable[Sequence[R]]], *, limit: int = 200) -> None:
        self._send = send
        self._limit = limit
        self._waiting: list[tuple[I, asyncio.Future[R]]] = []
        self._under_way = 0
        self._tasks: set[asyncio.Task[None]] = set()
        """The calls under way: the loop alone would not keep them alive."""
        self._will_look = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def put(self, item: I) -> asyncio.Future[R]:
        """The reply to this item, in due time."""
        # Before Python 3.12, to look for the running loop costs a system call.
        loop = self._loop = self._loop or asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._waiting.append((item, future))
        if not self._will_look and self._under_way < 2:
            self._will_look = True
            loop.call_soon(self._look, loop)
        return future

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin the calls that are due."""
        self._will_look = False
        # Without those who gave up meanwhile: what they were told is that it did not happen.
        self._waiting = [pair for pair in self._waiting if not pair[1].done()]
        while size := due(len(self._waiting), self._under_way):
            size = min(size, self._limit)
            batch, self._waiting = self._waiting[:size], self._waiting[size:]
            self._under_way += 1
            task = loop.create_task(self._call(batch, loop))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _call(self, batch: list[tuple[I, asyncio.Future[R]]], loop: asyncio.AbstractEventLoop) -> None:
        try:
            replies = await self._send([item for item, _ in batch])
        except Exception as exc:  # handed to the callers
            for _, future in batch:
                if not future.done():
                    future.set_exception(exc)
        else:
            for (_, future), reply in zip(batch, replies, strict=True):
                if not future.done():
                    future.set_result(reply)
        self._under_way -= 1
        # At once, not when this task has ended: Redis is to work while the callers take their replies.
        self._look(loop)


def due(waiting: int, under_way: int) -> int:
    """How many items of those waiting the next call should take now; 0: none should begin."""
    if under_way == 0:
        return waiting if waiting < 2 * WORTH_A_CALL else (waiting + 1) // 2
    return waiting if under_way == 1 and waiting >= WORTH_A_CALL else 0
