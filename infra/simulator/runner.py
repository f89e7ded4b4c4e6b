"""One model in memory: its slots, who holds it, and when it goes."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from infra.simulator.catalogue import Model
from infra.simulator.options import LoadOptions


class Runner:
    """A loaded model. Holders include those who still wait for a slot."""

    def __init__(
        self,
        *,
        model: Model,
        options: LoadOptions,
        parallel: int,
        keep_alive_s: float,
        on_expiry: Callable[[Runner], None],
    ) -> None:
        self.model = model
        self.options = options
        self.keep_alive_s = keep_alive_s
        self.busy_slots = 0
        self._slots = asyncio.Semaphore(parallel)
        self._on_expiry = on_expiry
        self._holders = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._timer: asyncio.TimerHandle | None = None
        self._expires_at: float | None = None

    @property
    def is_idle(self) -> bool:
        return self._holders == 0

    async def wait_idle(self) -> None:
        await self._idle.wait()

    def eviction_order(self) -> tuple[bool, float, str]:
        """Least goes first: idle, then shortest keep_alive, then by name."""
        return (not self.is_idle, self.keep_alive_s, self.model.name)

    def take(self, keep_alive_s: float | None) -> None:
        """One more holder; an unset keep_alive leaves the former value."""
        self.stop_timer()
        self._holders += 1
        self._idle.clear()
        if keep_alive_s is not None:
            self.keep_alive_s = keep_alive_s

    def give_back(self) -> bool:
        """One holder less; True when it was the last."""
        self._holders -= 1
        self._expires_at = time.time() + self.keep_alive_s
        if self._holders == 0:
            self._idle.set()
        return self._holders == 0

    def start_timer(self) -> None:
        """Count keep_alive from now."""
        self.stop_timer()
        self._expires_at = time.time() + self.keep_alive_s
        if self.keep_alive_s <= 0:
            self._on_expiry(self)
        elif not math.isinf(self.keep_alive_s):
            self._timer = asyncio.get_running_loop().call_later(self.keep_alive_s, self._on_expiry, self)

    def stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def expires_at(self) -> float:
        """Unix seconds, as /api/ps shows it: set when a request ends, so it may lie in the past during the next one."""
        return time.time() + self.keep_alive_s if self._expires_at is None else self._expires_at

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """One of the model's slots, first come first served. Leaving the line is free."""
        async with self._slots:
            self.busy_slots += 1
            try:
                yield
            finally:
                self.busy_slots -= 1
