"""Go durations and RFC 3339 times, as Ollama reads and writes them."""

from __future__ import annotations

import math
import re
import time
from datetime import UTC, datetime, timedelta

from infra.simulator.failures import ApiError

_PART = re.compile(r"(\d+\.?\d*|\.\d+)([a-zµμ]*)")
_SECONDS_PER = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
FOREVER = timedelta(days=292 * 365)
"""How far ahead Ollama shows the expiry of a model that never expires."""


def parse_go_duration_s(text: str) -> float:
    """Seconds of `5m`, `1h30m`, `-1m` or `0`. Raises ValueError with Go's own words: a bare number has no unit."""
    rest = text.lstrip("+-") if text[:1] in "+-" else text
    sign = -1.0 if text.startswith("-") else 1.0
    if rest == "0":
        return 0.0
    total, position = 0.0, 0
    while position < len(rest):
        match = _PART.match(rest, position)
        if match is None:
            raise ValueError(f'time: invalid duration "{text}"')
        number, unit = match.groups()
        if not unit:
            raise ValueError(f'time: missing unit in duration "{text}"')
        if unit not in _SECONDS_PER:
            raise ValueError(f'time: unknown unit "{unit}" in duration "{text}"')
        total += float(number) * _SECONDS_PER[unit]
        position = match.end()
    if not position:
        raise ValueError(f'time: invalid duration "{text}"')
    return sign * total


def parse_keep_alive_s(value: object) -> float | None:
    """Seconds; infinite for any negative value; None when unset. Raises ApiError 400."""
    if value is None:
        return None
    if isinstance(value, bool):
        raise ApiError(400, "Unsupported type: 'bool'")
    if isinstance(value, int | float):
        seconds = float(value)
    elif isinstance(value, str):
        try:
            seconds = parse_go_duration_s(value)
        except ValueError as exc:
            raise ApiError(400, str(exc)) from None
    else:
        raise ApiError(400, f"Unsupported type: '{type(value).__name__}'")
    return math.inf if seconds < 0 else seconds


_second_and_text = (0, "1970-01-01T00:00:00")


def utc_now() -> str:
    """Now, in UTC, with as many fraction digits as Go prints: up to nine, without trailing zeros."""
    global _second_and_text
    second, nanos = divmod(time.time_ns(), 1_000_000_000)
    # One stamp per token is written; formatting the date anew each time would be half of the work.
    if _second_and_text[0] != second:
        _second_and_text = (second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)))
    fraction = f"{nanos:09d}".rstrip("0")
    return f"{_second_and_text[1]}.{fraction}Z" if fraction else f"{_second_and_text[1]}Z"


def local_time(unix_s: float) -> str:
    """A moment with the server's own offset, as in `modified_at` and `expires_at`. Infinite means far ahead."""
    moment = datetime.now(UTC) + FOREVER if math.isinf(unix_s) else datetime.fromtimestamp(unix_s, UTC)
    return moment.astimezone().isoformat().replace("+00:00", "Z")
