"""The call log: what reached the simulator, when, and how it ended. Tests check the rest of the system against it."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Literal

Event = Literal["call", "load", "unload"]


@dataclass(slots=True, eq=False)
class Call:
    """One line of the log. `seconds` and `status` stay None while it runs; loads and unloads have no path or status."""

    event: Event
    at: float
    """Unix seconds of its start."""
    path: str | None
    model: str
    request_id: str | None
    status: int | None = None
    seconds: float | None = None
    cancelled: bool = False
    _started: float = field(default_factory=time.perf_counter)

    def end(self, status: int | None = None, *, cancelled: bool = False) -> None:
        """Note how it ended; only the first end counts."""
        if self.seconds is None:
            self.status, self.cancelled = status, cancelled
            self.seconds = round(time.perf_counter() - self._started, 6)

    def as_json(self) -> dict[str, object]:
        return {
            "at": self.at,
            "event": self.event,
            "path": self.path,
            "model": self.model,
            "request_id": self.request_id,
            "status": self.status,
            "seconds": self.seconds,
            "cancelled": self.cancelled,
        }


class CallLog:
    """The last `size` entries, oldest first."""

    def __init__(self, size: int) -> None:
        self._entries: deque[Call] = deque(maxlen=size)

    def begin(self, event: Event, *, path: str | None = None, model: str = "", request_id: str | None = None) -> Call:
        call = Call(event, time.time(), path, model, request_id)
        self._entries.append(call)
        return call

    def entries(self, event: Event | None = None) -> list[Call]:
        return [call for call in self._entries if event is None or call.event == event]

    def clear(self) -> None:
        self._entries.clear()
