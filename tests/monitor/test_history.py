"""The history: what is kept, at which rate, and that it stays bounded."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.history import MOST_POINTS, MOST_SERIES, History, Point, Ring

START = 1_700_000_000.0 - 1_700_000_000.0 % 60


@given(capacity=st.integers(1, 20), rows=st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), max_size=70))
def test_a_ring_keeps_the_newest(capacity: int, rows: list[tuple[float, float]]) -> None:
    ring = Ring(capacity, 2)
    for row in rows:
        ring.append(row)
    assert [tuple(row) for row in ring] == rows[-capacity:]
    assert ring.last is None if not rows else tuple(ring.last or ()) == rows[-1]


@pytest.mark.req("S1-66")
def test_an_hour_at_full_rate_and_a_day_by_the_minute() -> None:
    history = History(interval_s=5.0)
    steps = 25 * 3600 // 5
    for index in range(steps):
        history.record(START + index * 5, {("cpu_ratio", ""): float(index % 12)})
    now = START + steps * 5

    (full,) = history.points("cpu_ratio", now - 3600, now).values()
    assert len(full) == 720 and full[0] == Point(now - 3600, 0, 0, 0) and full[-1].at == now - 5

    (thinned,) = history.points("cpu_ratio", now - 48 * 3600, now).values()
    assert len(thinned) == 24 * 60 + 1  # the minute under way besides
    assert thinned[0] == Point(now - 24 * 3600 - 60, 0, 5.5, 11)
    assert [later.at - earlier.at for earlier, later in pairwise(thinned)] == [60.0] * 1440


def test_what_they_are_about_is_kept_apart() -> None:
    history = History(5.0)
    history.record(START, {("disk_ratio", "/"): 0.1, ("disk_ratio", "/data"): 0.2, ("cpu_ratio", ""): 0.3})
    points = history.points("disk_ratio", START - 60, START)
    assert {about: [point.mean for point in found] for about, found in points.items()} == {"/": [0.1], "/data": [0.2]}
    assert history.points("gpu_ratio", START - 60, START) == {}


def test_the_mean_of_the_last_while() -> None:
    history = History(1.0)
    for index in range(10):
        history.record(START + index, {("cpu_ratio", ""): index})
    assert history.mean("cpu_ratio", START + 6) == 7.5
    assert history.mean("cpu_ratio", START + 60) is None
    assert history.mean("cpu_ratio", START, "other") is None


def test_readings_far_too_often_do_not_grow_it() -> None:
    history = History(interval_s=0.2)
    for index in range(MOST_POINTS + 50):
        history.record(START + index * 0.2, {("cpu_ratio", ""): 1.0})
    (points,) = history.points("cpu_ratio", START, START + 3600).values()
    assert len(points) == MOST_POINTS


def test_more_signals_than_fit() -> None:
    history = History(5.0)
    history.record(START, {("model_p95_s", f"m{index}"): 1.0 for index in range(MOST_SERIES)})
    history.record(START + 5, {("model_p95_s", "late"): 1.0})
    assert "late" not in history.points("model_p95_s", START, START + 5)

    # An hour on, what nobody has heard of makes room.
    history.record(START + 3700, {("model_p95_s", "late"): 1.0})
    assert list(history.points("model_p95_s", START + 3600, START + 3700)) == ["late"]
