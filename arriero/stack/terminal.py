"""One terminal for several processes: each line after its service's name, and `up`'s own words between them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TextIO

COLOURS = {"redis": 31, "simulator": 35, "gateway": 36, "manager": 33, "monitor": 34}
OTHER_COLOUR = 32
NAME_WIDTH = 10


class Terminal:
    """Writes to `out`, in colour where that is a terminal. A closed terminal is no error: there is a stack to stop."""

    def __init__(self, out: TextIO | None = None, *, quiet: bool = False) -> None:
        self._out = out or sys.stdout
        self._in_colour = self._out.isatty()
        self._quiet = quiet
        self._held: list[str] | None = None

    @property
    def is_terminal(self) -> bool:
        return self._in_colour

    def log(self, name: str, line: str) -> None:
        """A line of a child's output."""
        if self._quiet:
            return
        label = f"{name:<{NAME_WIDTH}}|"
        if self._in_colour:
            label = f"\x1b[{COLOURS.get(name, OTHER_COLOUR)}m{label}\x1b[0m"
        if self._held is not None:
            self._held.append(f"{label} {line}\n")
        else:
            self.write(f"{label} {line}\n")

    def say(self, line: str = "") -> None:
        """A line of `up` itself."""
        self.write(f"\x1b[1m{line}\x1b[0m\n" if self._in_colour and line else f"{line}\n")

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._out.write(text)
            self._out.flush()

    @contextlib.contextmanager
    def without_logs(self) -> Iterator[None]:
        """Keeps the children's lines back, so that they do not fall between the words of a streamed answer."""
        self._held = []
        try:
            yield
        finally:
            held, self._held = self._held, None
            self.write("".join(held))
