"""How hard one host is driven: less when it says that it is busy, slowly more again. Pure.

Additive increase, multiplicative decrease (Chiu and Jain, 1989), so that workers that know nothing of each other
share a busy host fairly. A busy host is not a sick one: no breaker hears of it.

A host that could not be reached is tried by one call at a time until one that began since then is answered: if it is
gone, each worker spends one call at a time on finding out, however many slots it has. Answers of calls from before
prove nothing, as the host may go on with them and take no new ones.
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
        self._calls = 0
        self._doubted_after: int | None = None
        self._trial: int | None = None

    @property
    def limit(self) -> int:
        """Calls it may have in flight."""
        return int(self._limit)

    @property
    def is_doubted(self) -> bool:
        """Whether it was lost, and has not answered a call that began since."""
        return self._doubted_after is not None

    def pause_s(self, now: float) -> float:
        """Seconds until it may be called again; 0 when it may now."""
        return max(0.0, self._paused_until - now)

    def has_room(self, now: float, in_flight: int) -> bool:
        return now >= self._paused_until and in_flight < self.limit and self._trial is None

    def begins(self) -> int:
        """A call begins. Its number, for the methods below."""
        self._calls += 1
        if self._doubted_after is not None:
            self._trial = self._calls
        return self._calls

    def ends(self, call: int) -> None:
        """That call is over, however it ended."""
        if self._trial == call:
            self._trial = None

    def unreachable(self) -> None:
        """The host could not be reached, or broke off in an answer."""
        if self._doubted_after is None:
            self._doubted_after = self._calls

    def answers(self, call: int) -> bool:
        """The host has begun to answer that call. Whether that ends the doubt about it."""
        if self._doubted_after is None or call <= self._doubted_after:
            return False
        self._doubted_after = self._trial = None
        return True

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
