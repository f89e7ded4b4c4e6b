"""How busy the fleet is, as the gateway last saw it: for what clients are told of waiting times."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from gateway.waits import Outlook, Waits
from shared.errors import ArrieroError, Overloaded
from shared.queue.admission import retry_after_s
from shared.queue.fleet import Fleet, Standing
from shared.usage.estimates import Estimates

OLD_AFTER_S = 2.0


class LoadView:
    """Reads the fleet at most every 2 s, and only when someone asks."""

    def __init__(self, read: Callable[[], Awaitable[Fleet]], estimates: Callable[[], Estimates]) -> None:
        self._read = read
        self._estimates = estimates
        self._lock = asyncio.Lock()
        self._seen_at = float("-inf")
        self._waits = Waits(Fleet(), Estimates())

    @property
    def is_old(self) -> bool:
        """Whether to `refresh` before an outlook that someone asked for; those sent unasked do without."""
        return time.monotonic() - self._seen_at >= OLD_AFTER_S

    async def refresh(self) -> None:
        """Bring the view up to date if it is old. Keeps what it has when Redis does not answer."""
        async with self._lock:
            if not self.is_old:
                return
            now = time.monotonic()
            try:
                fleet = await self._read()
            except ArrieroError:
                return
            self._waits = Waits(fleet, self._estimates())
            self._seen_at = now

    def outlook(self, at: Standing | None) -> Outlook | None:
        """What to tell of a job that stands there, by the view as it is; None once it runs, or when it is not known."""
        return self._waits.outlook(at) if at is not None else None

    async def put_right(self, refused: Overloaded) -> None:
        """Tell a refused caller when to come back by what jobs are expected to take, where the queue could not."""
        if not refused.ends_needed:
            return
        await self.refresh()
        if rate := self._waits.drain_per_s:
            refused.retry_after_s = retry_after_s(refused.ends_needed, rate)
