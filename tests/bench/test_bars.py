"""The verdicts: a bar without its peer never holds, and each side of a limit is judged rightly."""

from __future__ import annotations

import pytest

from tests.bench.bars import Figure, Limit, judge, limit_text
from tests.bench.figures import percentile, spread


def _figure(better: str = "higher", *, either: bool = False) -> Figure:
    assert better in ("higher", "lower")
    return Figure(
        row="Q1",
        label="a",
        scenario="throughput",
        key="k",
        unit="1/s",
        better="higher" if better == "higher" else "lower",
        either=either,
    )


FIVE_TIMES = (Limit(factor=5, of="arq"),)
BOTH = (Limit(factor=15, of="litellm"), Limit(factor=1.5, of="portkey"))


@pytest.mark.parametrize(
    ("figure", "limits", "medians", "verdict"),
    [
        (_figure(), FIVE_TIMES, {"arriero": 50.0, "arq": 10.0}, "holds"),
        (_figure(), FIVE_TIMES, {"arriero": 49.9, "arq": 10.0}, "missed"),
        (_figure(), FIVE_TIMES, {"arriero": 50.0}, "no figure"),
        (_figure(), FIVE_TIMES, {"arq": 10.0}, "no figure"),
        (_figure("lower"), (Limit(factor=8),), {"arriero": 8.0}, "holds"),
        (_figure("lower"), (Limit(factor=8),), {"arriero": 8.1}, "missed"),
        (_figure(), BOTH, {"arriero": 1500.0, "litellm": 100.0, "portkey": 1000.0}, "holds"),
        (_figure(), BOTH, {"arriero": 1499.0, "litellm": 100.0, "portkey": 900.0}, "missed"),
        (_figure(), BOTH, {"arriero": 1500.0, "litellm": 100.0}, "no figure"),
        (_figure(either=True), BOTH, {"arriero": 1500.0, "litellm": 100.0}, "holds"),
        (_figure(either=True), BOTH, {"arriero": 10.0, "litellm": 100.0}, "no figure"),
        (_figure(either=True), BOTH, {"arriero": 10.0, "litellm": 100.0, "portkey": 900.0}, "missed"),
    ],
)
def test_verdict(figure: Figure, limits: tuple[Limit, ...], medians: dict[str, float], verdict: str) -> None:
    assert judge(figure, limits, medians) == verdict


def test_a_bar_reads_as_it_is_judged() -> None:
    assert limit_text(_figure(), BOTH) == ">= 15 x LiteLLM and >= 1.5 x Portkey"
    assert limit_text(_figure("lower"), (Limit(factor=8),)) == "<= 8"


def test_percentile_is_a_value_that_was_measured() -> None:
    values = [float(n) for n in range(1, 101)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile([7.0], 0.99)) == (50.0, 99.0, 7.0)
    seen = spread([3.0, 1.0, 2.0])
    assert (seen.median, seen.low, seen.high, seen.count) == (2.0, 1.0, 3.0, 3)
