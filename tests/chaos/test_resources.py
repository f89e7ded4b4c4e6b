"""The line through memory readings, and a wrong clock: what the campaign's own verdicts rest on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.resources import slope
from tests.chaos.shifted_clock import ShiftedClock, lying


@pytest.mark.parametrize(
    ("points", "per_second"),
    [
        ([], 0.0),
        ([(5.0, 80.0)], 0.0),
        ([(0.0, 80.0), (10.0, 80.0), (20.0, 80.0)], 0.0),
        ([(0.0, 10.0), (10.0, 15.0), (20.0, 20.0)], 0.5),
        ([(0.0, 11.0), (10.0, 9.0), (20.0, 11.0), (30.0, 9.0)], -0.04),
    ],
)
def test_the_slope_of_a_line(points: list[tuple[float, float]], per_second: float) -> None:
    assert slope(points) == pytest.approx(per_second)


def test_a_clock_is_off_by_what_was_said_last(tmp_path: Path) -> None:
    clock = ShiftedClock(tmp_path / "clock")
    clock.shift(3600)
    read = lying(lambda: 1000.0, clock.file)
    assert read() == 4600
    clock.shift(-600)
    assert read() == 400
