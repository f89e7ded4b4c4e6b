"""Estimates that keep themselves up to date, beside the work that asks for them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from shared.background import Rounds
from shared.usage.estimates import Estimates, Learner
from shared.usage.reader import UsageReader

EVERY_S = 3.0
LIMIT_S = 2.0
LATE_S = 600.0
"""Workers that could not reach Redis for so long still get their figures read."""


class LearnedEstimates:
    """Reads the fleet's figures every few seconds; with Redis away, `current` stays what it is."""

    def __init__(
        self, reader: UsageReader, *, every_s: float = EVERY_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.current = Estimates()
        self._reader = reader
        self._clock = clock
        self._learner = Learner()
        self._latest_use = 0.0
        self._rounds = Rounds("estimates", self.refresh, every_s, away="estimates.kept")

    async def start(self) -> None:
        self._rounds.start()

    async def stop(self) -> None:
        await self._rounds.stop()

    async def refresh(self) -> None:
        """Learn from what came since the last time. Raises RedisError or OSError."""
        async with asyncio.timeout(LIMIT_S):
            reading = await self._reader.read(used_since=self._latest_use - LATE_S)
        self._latest_use = max((usage.last_used_at for usage in reading), default=self._latest_use)
        self.current = self._learner.learn(reading, self._clock())
