"""What a process does again and again beside its work, and how such a task is ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from redis.exceptions import RedisError

log = structlog.get_logger()

AWAY = (RedisError, OSError)
"""What a call raises when Redis is gone, full, or slower than the call's limit."""


class Rounds:
    """Does `turn` at once and then every `every_s` seconds, in a task of its own, whatever becomes of a turn.

    `start` and `stop` may each be called twice, and `stop` before `start`. `away` is the event that is logged, once an
    outage, when Redis does not answer.
    """

    def __init__(self, name: str, turn: Callable[[], Awaitable[object]], every_s: float, *, away: str) -> None:
        self._name = name
        self._turn = turn
        self._every_s = every_s
        self._away = away
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=self._name)

    async def stop(self) -> bool:
        """Return once it has ended; whether it was running."""
        task, self._task = self._task, None
        if task is not None:
            await end_task(task)
        return task is not None

    async def _run(self) -> None:
        failing = False
        while True:
            try:
                await self._turn()
                failing = False
            except AWAY as exc:
                if not failing:
                    log.warning(self._away, error=type(exc).__name__, hint="Redis does not answer")
                failing = True
            except Exception:  # the edge of a loop that must go on
                log.exception("background.failed", task=self._name)
            await asyncio.sleep(self._every_s)


async def end_task(task: asyncio.Future[Any]) -> None:
    """Cancel a task and wait for its end, whatever that is."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
