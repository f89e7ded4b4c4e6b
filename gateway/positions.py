"""Where jobs stand in the queue, for everyone who waits, read with one call a second for all of them together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator

from shared.queue.batch import Batcher
from shared.queue.fleet import Standing
from shared.telemetry.logging import logger

log = logger("positions")

PERIOD_S = 1.0


class PositionBoard:
    """Knows where each watched job stands. Idle, and without any call, while nobody watches."""

    def __init__(self, read: Callable[[list[str]], Awaitable[dict[str, Standing]]], period_s: float = PERIOD_S) -> None:
        self._read = read
        self._period_s = period_s
        self._watched: dict[str, int] = {}
        """Job id -> watchers."""
        self._standings: dict[str, Standing] = {}
        self._task: asyncio.Task[None] | None = None
        self._asked: Batcher[str, Standing | None] = Batcher(self._read_several)

    async def ask(self, job_id: str) -> Standing | None:
        """Where the job stands now; None for an unknown one. Who asks in one turn of the loop shares one call."""
        return await self._asked.put(job_id)

    async def _read_several(self, job_ids: list[str]) -> list[Standing | None]:
        standings = await self._read(job_ids)
        return [standings.get(job_id) for job_id in job_ids]

    @contextlib.contextmanager
    def watching(self, job_id: str) -> Iterator[None]:
        self._watched[job_id] = self._watched.get(job_id, 0) + 1
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="positions")
        try:
            yield
        finally:
            self._watched[job_id] -= 1
            if not self._watched[job_id]:
                del self._watched[job_id]
                self._standings.pop(job_id, None)

    def standing(self, job_id: str) -> Standing | None:
        """Where it stood a moment ago; None while it is not known."""
        return self._standings.get(job_id)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        # Most jobs start at once and never need a position: hence the pause before the first call.
        await asyncio.sleep(self._period_s / 2)
        while self._watched:
            try:
                self._standings = await self._read(list(self._watched))
            except Exception as error:  # places are a courtesy; the streams go on without
                self._standings = {}
                log.debug("positions.not_read", error=type(error).__name__)
            await asyncio.sleep(self._period_s)
