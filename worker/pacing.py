"""How hard one host is driven: less when it says that it is busy, slowly more again. Pure.

Additive increase, multiplicative decrease (Chiu and Jain, 1989), so that workers that know nothing of each other
share a busy host fairly. A busy host is not a sick one: no breaker hears of it.
"""

from __future__ import annotations

CUT_EVERY_S = 1.0
"""The limit is halved at most this often: answers of one crowded moment are one sign, not many."""
LEAST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 30.0


class Pace:
    """One host as this worker drives it. `now` is any monotonic clock, in seconds."""

    def __init__(self, ceiling: int) -> None:
        self._ceiling = float(ceiling)
        self._limit = float(ceiling)
        self._paused_until = 0.0
        self._cut_at = float("-inf")

    @property
    def limit(self) -> int:
        """Calls it may have in flight."""
        return int(self._limit)

    def pause_s(self, now: float) -> float:
        """Seconds until it may be called again; 0 when it may now."""
        return max(0.0, self._paused_until - now)

    def has_room(self, now: float, in_flight: int) -> bool:
        return now >= self._paused_until and in_flight < self.limit

    def busy(self, now: float, in_flight: int, retry_after_s: float | None) -> None:
        """It refused a call for being at its limit; `in_flight` counts that call."""
        pause_s = min(LONGEST_PAUSE_S, max(LEAST_PAUSE_S, retry_after_s or 0.0))
        self._paused_until = max(self._paused_until, now + pause_s)
        if now - self._cut_at >= CUT_EVERY_S:
            self._cut_at = now
            self._limit = max(1.0, min(self._limit, in_flight) / 2)

    def served(self) -> None:
        """It answered a call."""
        self._limit = min(self._ceiling, self._limit + 1.0 / self._limit)
