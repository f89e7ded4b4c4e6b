"""The time limits of one call to a model server, on one timer."""

from __future__ import annotations

import asyncio
from typing import Literal

import aiohttp

from shared.backends.base import CallTimeouts
from shared.errors import BackendTimeout

Limit = Literal["first_byte", "gap", "total"]

_REMEDY: dict[Limit, str] = {
    "first_byte": (
        "sent nothing within the first-byte limit of {0:g} s, which covers its queue, model load and prompt "
        "evaluation. Preload the model, shorten the prompt or raise that limit."
    ),
    "gap": (
        "fell silent in the middle of its answer for longer than the gap limit of {0:g} s. Raise that limit if the "
        "model is this slow."
    ),
    "total": (
        "did not finish within the total limit of {0:g} s for one call. Ask for fewer tokens or raise that limit."
    ),
}


def timed_out(limit: Limit, seconds: float) -> BackendTimeout:
    """The error for a passed `limit` of `seconds`."""
    error = BackendTimeout("The model server " + _REMEDY[limit].format(seconds))
    error.limit = limit
    return error


class Watch:
    """The limits of one call on one timer.

    A chunk only stores a number. The timer looks at that number when it fires and, if the chunks moved it on, sleeps
    again; so a token costs no timer of its own. It never sleeps longer than the gap, hence no wait that began while
    it slept can end before it wakes. Time in which the caller, not the server, keeps us waiting does not count
    against the gap.
    """

    __slots__ = ("_content", "_first_due", "_handle", "_limit", "_loop", "_total_due", "waiting_until")

    def __init__(self, content: aiohttp.StreamReader, limits: CallTimeouts, started: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._content = content
        self._limit = limits
        self._total_due = started + limits.total_s
        self._first_due = started + limits.first_byte_s
        self.waiting_until: float | None = None
        """The loop time until which the next chunk may take; None while nobody waits for one."""
        self._sleep(self._first_due)

    def _sleep(self, due: float) -> None:
        due = min(due, self._total_due, self._loop.time() + self._limit.gap_s)
        self._handle = self._loop.call_at(due, self._look)

    def _look(self) -> None:
        now = self._loop.time()
        if now >= self._total_due:
            self._content.set_exception(timed_out("total", self._limit.total_s))
        elif self.waiting_until is None:
            self._sleep(self._total_due)
        elif now < self.waiting_until:
            self._sleep(self.waiting_until)
        elif self.waiting_until == self._first_due:
            self._content.set_exception(timed_out("first_byte", self._limit.first_byte_s))
        else:
            self._content.set_exception(timed_out("gap", self._limit.gap_s))

    def first(self) -> float:
        """The loop time at which the first chunk is due."""
        return self._first_due

    def sooner(self, seconds: float) -> None:
        """End everything within `seconds`."""
        self._handle.cancel()
        self._total_due = min(self._total_due, self._loop.time() + seconds)
        self._handle = self._loop.call_at(self._total_due, self._look)

    def stop(self) -> None:
        self._handle.cancel()
