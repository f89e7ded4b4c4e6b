"""Cancelling the jobs of clients that went away.

The handler that learns of it is itself being cancelled, so the call to Redis is handed over to a task of its own,
which outlives the handler and tries again when Redis hiccups.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from shared.jobs import State
from shared.telemetry.logging import logger

log = logger("abandon")

TRY_AGAIN_AFTER_S = (0.0, 0.2, 0.5, 1.0, 2.0, 4.0)
FLUSH_LIMIT_S = 3.0
MOST_AT_ONCE = 10_000
"""Beyond this, while Redis is away under full load, jobs are left to their deadline."""


class Abandoned:
    """Owns the cancellations under way. `cancel` is the queue's."""

    def __init__(self, cancel: Callable[[str], Awaitable[State | None]], counted: Callable[[], None]) -> None:
        self._cancel = cancel
        self._counted = counted
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, job_id: str) -> None:
        """Cancel this job soon. The caller need not, and cannot, wait."""
        if len(self._tasks) >= MOST_AT_ONCE:
            log.warning("abandon.too_many", job_id=job_id)
            return
        self._counted()
        task = asyncio.create_task(self._cancel_until_done(job_id), name=f"abandon-{job_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Give the cancellations under way a little time, then end them."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=FLUSH_LIMIT_S)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _cancel_until_done(self, job_id: str) -> None:
        for pause_s in TRY_AGAIN_AFTER_S:
            await asyncio.sleep(pause_s)
            try:
                # Unknown can mean "not yet": the client may go while its job is still on the way to Redis.
                if await self._cancel(job_id) is not None:
                    return
            except Exception as error:  # any failure of the store is worth another try
                log.debug("abandon.retry", job_id=job_id, error=type(error).__name__)
        log.warning("abandon.gave_up", job_id=job_id)
