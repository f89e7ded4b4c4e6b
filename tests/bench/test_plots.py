"""The data of the plots."""

from __future__ import annotations

from tests.bench.plots import PLOTS, Bar, chart
from tests.bench.runner import Results

DRAIN, ROUNDTRIP = PLOTS[0], PLOTS[1]


def test_the_best_peer_comes_last_and_is_drawn_on_top() -> None:
    results = Results()
    for drained in (10.0, 30.0, 20.0):
        results.add("throughput", "arriero", {"drain_per_s": drained, "enqueue_per_s": 1.0})
    results.add("throughput", "celery", {"drain_per_s": 5.0})
    made = chart(DRAIN, results, "a stamp")
    assert made is not None
    assert made.series[0][1] == [Bar("Celery", False, 5.0, 5.0, 5.0), Bar("Arriero", True, 20.0, 10.0, 30.0)]
    # A peer without a figure has no bar in that series.
    assert [bar.who for bar in made.series[1][1]] == ["Arriero"]
    assert "more is better" in made.axis


def test_where_less_is_better_the_least_comes_last() -> None:
    results = Results()
    results.add("roundtrip", "arriero", {"one_p50_ms": 0.5, "one_p99_ms": 1.0})
    results.add("roundtrip", "bullmq", {"one_p50_ms": 0.7, "one_p99_ms": 4.0})
    made = chart(ROUNDTRIP, results, "a stamp")
    assert made is not None
    assert [bar.who for bar in made.series[0][1]] == ["BullMQ", "Arriero"]


def test_nothing_measured_is_no_plot() -> None:
    assert chart(DRAIN, Results(), "a stamp") is None
