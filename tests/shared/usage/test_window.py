"""What a window of readings compares with."""

from __future__ import annotations

import pytest

from shared.usage.window import MOST, Window


def test_a_window_compares_with_the_oldest_reading_within_it() -> None:
    window: Window[int] = Window(60.0)
    assert window.compare(0, 0) is None
    compared = [window.compare(at, at) for at in (10, 30, 60, 70, 90, 1000)]
    assert compared == [(10, 0), (30, 0), (60, 0), (60, 10), (60, 30), (910, 90)]


def test_a_window_stays_small_and_true_however_often_it_is_asked() -> None:
    window: Window[float] = Window(60.0)
    for step in range(10_000):
        compared = window.compare(step / 10, step / 10)
    assert compared is not None
    length, before = compared
    assert 60 <= length < 62 and before == pytest.approx(999.9 - length)
    assert len(window) <= 2 * MOST
