"""Runs a service whose wall clock is wrong, by an offset that a file holds and that may change while it runs.

With libfaketime on the machine the C library's clock lies, but for the monotonic ones. Without it Python's `time.time`
lies, which is what the services read.
"""

from __future__ import annotations

import os
import runpy
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MODULE = "tests.chaos.shifted_clock"
_FILE, _SERVICE = "FAKETIME_TIMESTAMP_FILE", "SHIFTED_SERVICE"


def library() -> str:
    """libfaketime's path; empty if it is not installed."""
    return next((str(path) for path in Path("/usr/lib").glob("**/faketime/libfaketime.so.1")), "")


@dataclass(slots=True)
class ShiftedClock:
    """A clock that is off. `env(service)` is for the process that `python -m tests.chaos.shifted_clock` becomes."""

    file: Path

    def shift(self, seconds: float) -> None:
        """From now on the clock is that much ahead."""
        # Replaced in one step: nobody reads half a number.
        draft = self.file.with_suffix(".new")
        draft.write_text(f"{seconds:+.0f}\n")
        draft.replace(self.file)

    def env(self, service: str) -> dict[str, str]:
        preload = {"LD_PRELOAD": library()} if library() else {}
        no_more = {"FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        return {_FILE: str(self.file), _SERVICE: service, **preload, **no_more}


def lying(right: Callable[[], float], file: Path) -> Callable[[], float]:
    """`right`, off by what the file says at each reading."""
    return lambda: right() + float(file.read_text())


if __name__ == "__main__":
    if "LD_PRELOAD" not in os.environ:
        time.time = lying(time.time, Path(os.environ[_FILE]))
    runpy.run_module(os.environ[_SERVICE], run_name="__main__", alter_sys=True)
