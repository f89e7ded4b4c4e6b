"""The cheap counters write the page that prometheus-client's own would."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from shared.telemetry.tallies import Tally, Timings

BUCKETS_S = (0.005, 0.1, 1.0, 30.0)


def page(registry: CollectorRegistry) -> list[str]:
    """The lines of a page, without the times of creation that prometheus-client adds to its own."""
    return [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]


def test_a_tally_counts_like_a_counter() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    tally = Tally("jobs", "Jobs.", ("kind", "status"), known=[("chat", 500)], registry=ours)
    counter = Counter("jobs", "Jobs.", ["kind", "status"], registry=theirs)
    counter.labels("chat", "500")
    for kind, status in [("chat", 200), ('a "quoted"\n kind', 404), ("chat", 200)]:
        tally.counts[kind, status] += 1
        counter.labels(kind, str(status)).inc()
    assert page(ours) == page(theirs)


@given(st.lists(st.tuples(st.sampled_from(["/a", "/b"]), st.sampled_from([*BUCKETS_S, 0.0, 0.02, 7.5, 31.0, 1e9]))))
def test_timings_observe_like_a_histogram(observed: list[tuple[str, float]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    timings = Timings("wait_seconds", "Waits.", "route", buckets_s=BUCKETS_S, registry=ours)
    histogram = Histogram("wait_seconds", "Waits.", ["route"], buckets=BUCKETS_S, registry=theirs)
    for route, seconds in observed:
        timings.observe(route, seconds)
        histogram.labels(route).observe(seconds)
    assert page(ours) == page(theirs)
