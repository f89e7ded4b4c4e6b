"""The real scripts on a clock of the test's: Redis' TIME is read from a key instead."""

from __future__ import annotations

from shared.queue.keys import Keys
from shared.queue.scripts import names, source

START_US = 1_700_000_000_000_000
_REAL = "local clock = redis.call('TIME')"
_TEST = (
    "local ticks = tonumber(redis.call('GET', KEYS[1] .. 'test-clock'))\n"
    "local clock = {math.floor(ticks / 1000000), ticks % 1000000}"
)


def clock_key(keys: Keys) -> str:
    """String, the time in us."""
    return f"{keys.root}test-clock"


def clocked_sources() -> dict[str, str]:
    """Every script with its one reading of the clock replaced."""
    sources = {}
    for name in names():
        text = source(name)
        assert text.count(_REAL) == text.count("'TIME'") == 1, f"{name} reads the clock elsewhere"
        sources[name] = text.replace(_REAL, _TEST)
    return sources
