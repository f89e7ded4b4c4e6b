"""Totals that grow, compared over the last while. Pure: the time is a parameter."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")
MOST = 60
"""Readings kept, however often they are taken: the window moves in steps of its 60th part."""


class Window(Generic[T]):
    """Readings of the last `length_s` seconds, oldest first; one older than that is kept to compare with."""

    def __init__(self, length_s: float) -> None:
        self._length_s = length_s
        self._readings: deque[tuple[float, T]] = deque()

    def compare(self, now: float, reading: T) -> tuple[float, T] | None:
        """Add a reading; how long before it the one to compare with was taken, and that one. None for the first."""
        while len(self._readings) > 1 and self._readings[1][0] <= now - self._length_s:
            self._readings.popleft()
        before = self._readings[0] if self._readings else None
        if len(self._readings) > 1 and self._readings[-1][0] - self._readings[-2][0] < self._length_s / MOST:
            self._readings.pop()
        self._readings.append((now, reading))
        return None if before is None or now <= before[0] else (now - before[0], before[1])

    def __len__(self) -> int:
        return len(self._readings)
