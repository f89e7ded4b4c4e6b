"""The signals of the last day: an hour at full rate, a day by the minute. Pure, and bounded in memory."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from monitor.signals import Signal

FULL_RATE_S = 3600.0
THINNED_S = 24 * 3600.0
STEP_S = 60.0
MOST_POINTS = 3600
"""Points at full rate; readings more often than once a second reach less far back."""
MOST_SERIES = 400
"""Signals kept; a new one beyond that is not. With readings every 5 s all of them take about 25 MB."""


class Ring:
    """Rows of numbers, the newest `capacity` of them, oldest first."""

    __slots__ = ("_capacity", "_data", "_next", "_width")

    def __init__(self, capacity: int, width: int) -> None:
        self._capacity, self._width, self._next = capacity, width, 0
        self._data = array("d")

    def append(self, row: Sequence[float]) -> None:
        if len(self._data) < self._capacity * self._width:
            self._data.extend(row)
            return
        at = self._next * self._width
        self._data[at : at + self._width] = array("d", row)
        self._next = (self._next + 1) % self._capacity

    def __len__(self) -> int:
        return len(self._data) // self._width

    def __iter__(self) -> Iterator[array[float]]:
        for index in range(len(self)):
            at = (self._next + index) % len(self) * self._width
            yield self._data[at : at + self._width]

    @property
    def last(self) -> array[float] | None:
        """The newest row."""
        if not self._data:
            return None
        at = (self._next - 1) % len(self) * self._width
        return self._data[at : at + self._width]


@dataclass(frozen=True, slots=True)
class Point:
    """One value, or the values of a minute. `at`: when, or when the minute began; Unix seconds."""

    at: float
    min: float
    mean: float
    max: float


@dataclass(slots=True)
class _Minute:
    """The minute that is being gathered."""

    at: float
    min: float
    total: float
    max: float
    count: int = 1

    def add(self, value: float) -> None:
        self.min, self.max = min(self.min, value), max(self.max, value)
        self.total += value
        self.count += 1

    def row(self) -> tuple[float, float, float, float]:
        return self.at, self.min, self.total / self.count, self.max


@dataclass(slots=True)
class _Series:
    full: Ring
    thinned: Ring = field(default_factory=lambda: Ring(int(THINNED_S / STEP_S), 4))
    minute: _Minute | None = None

    def add(self, at: float, value: float) -> None:
        self.full.append((at, value))
        began = at - at % STEP_S
        if self.minute is not None and self.minute.at == began:
            self.minute.add(value)
            return
        if self.minute is not None:
            self.thinned.append(self.minute.row())
        self.minute = _Minute(began, value, value, value)

    @property
    def heard_at(self) -> float:
        last = self.full.last
        return last[0] if last is not None else 0.0


class History:
    """Give it each reading's signals; ask it for one metric's."""

    def __init__(self, interval_s: float) -> None:
        self._points = min(MOST_POINTS, max(1, int(FULL_RATE_S / interval_s)))
        self._series: dict[Signal, _Series] = {}

    def record(self, at: float, signals: Mapping[Signal, float]) -> None:
        """`at`: Unix seconds, later than before."""
        for signal, value in signals.items():
            series = self._series.get(signal)
            if series is None:
                if len(self._series) >= MOST_SERIES and not self._forget(at):
                    continue
                series = self._series[signal] = _Series(Ring(self._points, 2))
            series.add(at, value)

    def _forget(self, now: float) -> bool:
        """Make room: drop the signal that was heard of least lately, if all its figures at full rate are past."""
        oldest = min(self._series, key=lambda signal: self._series[signal].heard_at)
        if self._series[oldest].heard_at > now - FULL_RATE_S:
            return False
        del self._series[oldest]
        return True

    def points(self, metric: str, since: float, now: float) -> dict[str, list[Point]]:
        """The metric's points from `since` on, by what they are about; by the minute if that is over an hour ago."""
        read = self._full if is_full_rate(since, now) else self._thinned
        found = {about: read(series, since) for (name, about), series in self._series.items() if name == metric}
        return {about: points for about, points in sorted(found.items()) if points}

    def mean(self, metric: str, since: float, about: str = "") -> float | None:
        """Mean of one signal from `since` on, at most an hour ago; None without any value."""
        series = self._series.get((metric, about))
        values = [value for at, value in series.full if at >= since] if series is not None else []
        return sum(values) / len(values) if values else None

    @staticmethod
    def _full(series: _Series, since: float) -> list[Point]:
        return [Point(at, value, value, value) for at, value in series.full if at >= since]

    @staticmethod
    def _thinned(series: _Series, since: float) -> list[Point]:
        rows = [Point(*row) for row in series.thinned]
        if series.minute is not None:
            rows.append(Point(*series.minute.row()))
        return [point for point in rows if point.at + STEP_S > since]


def is_full_rate(since: float, now: float) -> bool:
    """Whether every single reading from `since` on is still kept."""
    return since >= now - FULL_RATE_S
