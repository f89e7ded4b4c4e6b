"""How busy the queue is, as the gateway last saw it: for waiting-time estimates and the metrics page."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from shared.errors import ArrieroError

OLD_AFTER_S = 2.0
ENDS = ("succeeded", "dead_lettered", "cancelled", "expired")
_SMOOTHING = 0.5
"""Weight of the newest rate sample."""


class Stats(Protocol):
    """What is needed of `shared.queue.client.QueueStats`."""

    @property
    def counters(self) -> dict[str, int]: ...


def ended_jobs(counters: dict[str, int]) -> int:
    return sum(counters.get(name, 0) for name in ENDS)


def next_rate(old: float | None, ended: int, seconds: float) -> float:
    """Jobs ended a second, smoothed. A counter that went back (an emptied Redis) counts as no news."""
    if ended < 0 or seconds <= 0:
        return old or 0.0
    rate = ended / seconds
    return rate if old is None else old + _SMOOTHING * (rate - old)


def expected_wait_s(position: int | None, rate_per_s: float | None) -> float | None:
    """Seconds until a job at `position` (1 = next) starts, at the present rate; None when nothing can be said."""
    if position is None or rate_per_s is None or rate_per_s <= 0:
        return None
    return round(position / rate_per_s, 1)


class LoadView:
    """Reads the queue's statistics at most every 2 s, and only when someone asks."""

    def __init__(self, read: Callable[[], Awaitable[Stats]]) -> None:
        self._read = read
        self._lock = asyncio.Lock()
        self._seen_at = float("-inf")
        self._ended: int | None = None
        self.rate_per_s: float | None = None

    async def refresh(self) -> None:
        """Bring the view up to date if it is old. Keeps what it has when Redis does not answer."""
        if time.monotonic() - self._seen_at < OLD_AFTER_S:
            return
        async with self._lock:
            now = time.monotonic()
            if now - self._seen_at < OLD_AFTER_S:
                return
            try:
                stats = await self._read()
            except ArrieroError:
                return
            ended = ended_jobs(stats.counters)
            if self._ended is not None:
                self.rate_per_s = next_rate(self.rate_per_s, ended - self._ended, now - self._seen_at)
            self._ended, self._seen_at = ended, now

    async def expected_wait_s(self, position: int | None) -> float | None:
        if position is None:
            return None
        await self.refresh()
        return expected_wait_s(position, self.rate_per_s)
