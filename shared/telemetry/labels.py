"""Metric labels from closed sets: what a caller writes must not become an unbounded number of time series."""

from __future__ import annotations

OTHER = "other"


class BoundedLabel:
    """The first `capacity` values seen keep their name, all later ones become `other`.

    Known names (configured models, for instance) can be given first, so that no caller can use up their places.
    """

    def __init__(self, capacity: int, known: tuple[str, ...] = ()) -> None:
        self._capacity = capacity
        self._seen: dict[str, str] = {name: name for name in known}

    def __call__(self, value: str) -> str:
        seen = self._seen.get(value)
        if seen is not None:
            return seen
        if len(self._seen) >= self._capacity or not value or len(value) > 128 or not value.isprintable():
            return OTHER
        self._seen[value] = value
        return value
