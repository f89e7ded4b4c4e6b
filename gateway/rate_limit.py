"""How many calls a minute an address may make without an API key.

Kept in this process: a gateway that asks for no keys can only be reached from its own machine, so there is no fleet of
them to agree on a count.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from shared.errors import ArrieroError

MOST_ADDRESSES = 1024
"""Addresses remembered; then the one that was first seen goes. Loopback alone has millions."""


class RateLimited(ArrieroError):
    """Too many calls without an API key. Wait, or use a key: `arriero keys create`."""

    code, kind, http_status, retryable = "rate_limited", "rate_limit_error", 429, True


def take(due_at: float, now: float, *, interval_s: float, burst: int) -> tuple[float, float]:
    """(when the next call is due, seconds to wait) for a call at `now`; 0: it goes through.

    A call is due every `interval_s`; up to `burst` may come ahead of their time.

    Source: the generic cell rate algorithm (GCRA), ITU-T I.371.
    """
    next_due_at = max(due_at, now) + interval_s
    wait_s = next_due_at - now - burst * interval_s
    # Sums of fractions come out a hair off.
    return (next_due_at, 0.0) if wait_s <= interval_s * 1e-6 else (due_at, wait_s)


class AddressLimit:
    """`per_minute` calls of each address, all of them at once if it likes; 0: no limit."""

    def __init__(self, per_minute: int, *, now: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._now = now
        self._due_at: dict[str, float] = {}

    def admit(self, address: str) -> None:
        """Count one call. Raises RateLimited, which says when to come back."""
        if not self._per_minute:
            return
        now = self._now()
        interval_s = 60 / self._per_minute
        due_at, wait_s = take(self._due_at.get(address, now), now, interval_s=interval_s, burst=self._per_minute)
        if wait_s:
            raise RateLimited(
                f"Calls without an API key are limited to {self._per_minute} a minute. Wait {wait_s:.1f} s, or use a "
                "key: `arriero keys create`.",
                retry_after_s=wait_s,
            )
        if address not in self._due_at and len(self._due_at) >= MOST_ADDRESSES:
            self._due_at.pop(next(iter(self._due_at)))
        self._due_at[address] = due_at
