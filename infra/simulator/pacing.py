"""When tokens come: deadlines from the start of decoding, so that late wake-ups do not add up."""

from __future__ import annotations

import asyncio
import random

from infra.simulator.runner import Runner
from infra.simulator.settings import SimulatorSettings

TICK_S = 0.001
"""What an event loop's clock can tell apart: faster tokens come several at a time."""
UNPACED_BLOCK = 64
"""Tokens sent at once when speed is unlimited."""


class Pace:
    """The deadlines of one answer's tokens. The first is due at once."""

    def __init__(
        self, settings: SimulatorSettings, runner: Runner, draw: random.Random, gap_s: float | None = None
    ) -> None:
        """`gap_s` overrides the configured speed."""
        speed = settings.tokens_per_second
        self._gap_s = (1.0 / speed if speed else 0.0) if gap_s is None else gap_s
        self._jitter, self._slowdown = settings.jitter, settings.slowdown
        self._runner, self._draw = runner, draw
        self._clock = asyncio.get_running_loop().time
        self._due = self._clock() - self._step()

    def _step(self) -> float:
        """The gap before the next token: slots of one model share its throughput as `slowdown` says."""
        gap = self._gap_s
        if self._slowdown:
            gap *= 1 + self._slowdown * (self._runner.busy_slots - 1)
        if self._jitter:
            gap *= 1 + self._jitter * (2 * self._draw.random() - 1)
        return gap

    async def next(self, done: int, total: int) -> int:
        """Wait for a token; returns how many of `total` are due then, at least one more than `done`."""
        if not self._gap_s:
            await asyncio.sleep(0)
            return min(total, done + UNPACED_BLOCK)
        self._due += self._step()
        # Also when late: a stream that catches up must not keep the others from their turn.
        await asyncio.sleep(max(0.0, self._due - self._clock()))
        due = done + 1
        if self._gap_s < TICK_S:
            while due < total and self._due < self._clock():
                self._due += self._step()
                due += 1
        return due

    async def through(self, total: int) -> None:
        """Wait until all of `total` tokens have come."""
        if self._slowdown or self._jitter:
            done = 0
            while done < total:
                done = await self.next(done, total)
        elif self._gap_s and total:
            self._due += total * self._gap_s
            await asyncio.sleep(max(0.0, self._due - self._clock()))
