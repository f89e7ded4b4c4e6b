"""How busy the queue is, as the gateway last saw it: for waiting-time estimates."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from shared.errors import ArrieroError
from shared.queue.stats import QueueStats

OLD_AFTER_S = 2.0


def expected_wait_s(position: int, free_slots: int | None, drain_per_s: float | None) -> float | None:
    """Seconds until a job at `position` (1 = next) starts; None when nothing can be said.

    `free_slots`: idle slots of all workers, None without workers. `drain_per_s`: jobs ended a second while some waited.
    """
    if free_slots is None:
        return None
    ends_needed = position - free_slots
    if ends_needed <= 0:
        return 0.0
    return round(ends_needed / drain_per_s, 1) if drain_per_s else None


def free_slots(stats: QueueStats) -> int | None:
    """Idle slots by the workers' last heartbeats; None without workers."""
    if not stats.workers:
        return None
    return sum(max(0, worker.slots - worker.running) for worker in stats.workers)


class LoadView:
    """Reads the queue's statistics at most every 2 s, and only when someone asks."""

    def __init__(self, read: Callable[[], Awaitable[QueueStats]]) -> None:
        self._read = read
        self._lock = asyncio.Lock()
        self._seen_at = float("-inf")
        self._seen: QueueStats | None = None
        self._free_slots: int | None = None

    async def refresh(self) -> None:
        """Bring the view up to date if it is old. Keeps what it has when Redis does not answer."""
        async with self._lock:
            now = time.monotonic()
            if now - self._seen_at < OLD_AFTER_S:
                return
            try:
                self._seen = await self._read()
            except ArrieroError:
                return
            self._seen_at = now
            self._free_slots = free_slots(self._seen)

    async def expected_wait_s(self, position: int | None) -> float | None:
        """Seconds until a job at `position` starts; None for one that does not wait, and when nothing can be said."""
        if position is None:
            return None
        if time.monotonic() - self._seen_at >= OLD_AFTER_S:
            await self.refresh()
        if self._seen is None:
            return None
        return expected_wait_s(position, self._free_slots, self._seen.drain_per_s)
