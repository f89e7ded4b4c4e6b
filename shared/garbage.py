"""How often Python looks for garbage in a process that serves thousands of requests a second."""

from __future__ import annotations

import gc

THRESHOLD = 5000
"""Objects made and not yet freed after which Python looks for garbage. Its own 700 are a few jobs' worth: to look so
often takes a tenth of a worker's CPU time, and nearly everything goes without it."""


def collect_seldom() -> None:
    """Call it once start-up has built what stays: that is not looked through again, and the rest less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(THRESHOLD)
