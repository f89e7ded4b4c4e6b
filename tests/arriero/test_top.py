"""Frames of `arriero top`: what is on them, at any width, and with parts missing."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from arriero.cli.frames import Frame, per_second
from arriero.cli.top import draw
from shared.resilience.breaker import BreakerState
from shared.resilience.circuits import CircuitView
from tests.arriero.test_doctor import stats, worker

MODEL: dict[str, Any] = {
    "name": "llama3.2:latest",
    "size_bytes": 2 << 30,
    "installed_on": ["a:1"],
    "loaded_on": ["a:1"],
    "pinned": True,
    "calls": 3,
    "failures": 1,
    "p50_seconds": 0.5,
    "p95_seconds": 2.0,
    "last_used_at": None,
    "score": None,
}
READINGS: dict[str, Any] = {
    "host": {
        "name": "box",
        "cpu": {"used_ratio": 0.25, "cores": 8},
        "memory": {"used_ratio": 0.5, "total_bytes": 8 << 30},
    },
    "gpu": [{"index": 0, "name": "H200", "used_ratio": 0.9, "memory_ratio": None}],
    "ollama": [
        {"host": "a:1", "up": True, "latency_s": 0.002, "error": ""},
        {"host": "b:1", "up": False, "latency_s": None, "error": "away"},
    ],
}
OPEN = CircuitView(
    name="host:b:1",
    state=BreakerState.OPEN,
    openings=1,
    reason="failures",
    retry_in_s=3.0,
    changed_by="",
    changed_at=0.0,
)
WHOLE = Frame(
    at=10.0,
    queue=stats(workers=[worker(2)], queued_by_class={"high": 1, "normal": 2, "low": 0}, counters={"succeeded": 30}),
    circuits=[OPEN],
    models={"models": [MODEL] * 20, "hosts": []},
    readings=READINGS,
)


def drawn(frame: Frame, width: int, earlier: Frame | None = None) -> str:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False, emoji=False).print(draw(frame, earlier, width))
    return out.getvalue()


def test_everything_is_on_it() -> None:
    text = drawn(WHOLE, 120)
    for words in (
        "high 1, normal 2",
        "2/4",
        "#####.....",
        "llama3.2:latest *",
        "and 8 more",
        "host:b:1",
        "H200",
        "25%",
        "away",
    ):
        assert words in text


@pytest.mark.parametrize("width", [40, 60, 90, 200])
def test_it_fits_the_screen(width: int) -> None:
    lines = drawn(WHOLE, width).splitlines()
    assert max(map(len, lines)) <= width
    assert any("llama3.2" in line for line in lines)


def test_rates_are_differences() -> None:
    assert WHOLE.queue is not None
    later = replace(WHOLE, at=12.0, queue=replace(WHOLE.queue, counters={"succeeded": 40, "expired": 1}))
    assert per_second(later, WHOLE) == {"succeeded": 5.0, "dead_lettered": 0.0, "expired": 0.5, "cancelled": 0.0}
    assert "5.0/s succeeded" in drawn(later, 120, WHOLE)
    emptied = replace(WHOLE, at=12.0, queue=replace(WHOLE.queue, counters={}))
    assert set((per_second(emptied, WHOLE) or {}).values()) == {0.0}, "a Redis that came back empty"
    assert per_second(WHOLE, None) is None


def test_what_is_missing_is_named_and_the_rest_shown() -> None:
    text = drawn(Frame(at=1.0, readings=READINGS, problems=["Redis does not answer"]), 120)
    assert "Redis does not answer" in text
    assert "H200" in text
    alone = drawn(Frame(at=1.0, queue=stats(workers=[])), 120)
    assert "no worker is alive" in alone
