"""An answer on its way to standard output, which cannot take anything back. Pure.

When the job starts over, the new run is compared with what was printed: silent while it repeats that, going on after
it. Only where it differs does the answer begin anew, on a line of its own.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Piece:
    """What to print now. `anew`: it is the answer from its start, and what was printed before is void."""

    text: str = ""
    anew: bool = False


@dataclass(slots=True)
class PrintedAnswer:
    """What was printed of one job's answer, and how far a new run has repeated it."""

    _printed: str = ""
    _run: str | None = None
    """The new run's text, as long as it says nothing but what was printed."""

    def restarted(self) -> None:
        self._run = "" if self._printed else None

    def add(self, text: str) -> Piece:
        """The next piece of the run that counts now."""
        if self._run is None:
            self._printed += text
            return Piece(text)
        self._run += text
        if self._printed.startswith(self._run):
            return Piece()
        if self._run.startswith(self._printed):
            new = self._run[len(self._printed) :]
            self._printed, self._run = self._run, None
            return Piece(new)
        return self._begin_anew()

    def finish(self) -> Piece:
        """The run has ended well: one that stopped short of what was printed has said something else, too."""
        return Piece() if self._run is None or self._run == self._printed else self._begin_anew()

    def _begin_anew(self) -> Piece:
        self._printed, self._run = self._run or "", None
        return Piece(self._printed, anew=True)
