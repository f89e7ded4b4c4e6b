"""What can be read from the figures: percentiles, differences, sums."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.telemetry.metrics import LATENCY_BUCKETS_S
from shared.usage.fields import Call, add, parse
from shared.usage.figures import (
    Histogram,
    ModelUsage,
    OperationUsage,
    by_model,
    difference,
)

CALLS = st.builds(
    Call,
    kind=st.sampled_from(("chat", "completion", "embedding")),
    seconds=st.floats(0, 700),
    error=st.sampled_from(("", "", "backend_fault", "backend_timeout")),
    first_token_s=st.none() | st.floats(0, 700),
    tokens_in=st.integers(0, 5000),
    tokens_out=st.integers(0, 5000),
    load_s=st.sampled_from((0.0, 0.0, 3.5)),
)


def usage_of(calls: Sequence[Call], *, model: str = "m", host: str = "h:1", used_at: float = 1.0) -> ModelUsage:
    """The figures as they would come back from Redis."""
    row: dict[str, int] = {}
    for call in calls:
        add(row, call)
    stored = {name.encode(): b"%d" % count for name, count in row.items()}
    return parse(f"{model}@{host}", stored, used_at)


def histogram(*seconds: float) -> Histogram:
    return usage_of([Call(kind="chat", seconds=s) for s in seconds]).total.latency


@pytest.mark.parametrize(
    ("seconds", "share", "expected"),
    [
        ((), 0.5, None),
        ((0.2,), 0.5, 0.175),  # half way from 0.1 to 0.25
        ((0.2,), 1.0, 0.25),
        ((0.2, 0.2, 0.2, 8.0), 0.5, 0.2),
        ((0.2, 0.2, 0.2, 8.0), 1.0, 10.0),
        ((0.001, 10_000.0), 1.0, LATENCY_BUCKETS_S[-1]),
        ((0.25,), 1.0, 0.25),  # a bound belongs to the bucket below it
    ],
)
@pytest.mark.req("S1-56")
def test_percentiles(seconds: tuple[float, ...], share: float, expected: float | None) -> None:
    found = histogram(*seconds).percentile_s(share)
    assert found == (None if expected is None else pytest.approx(expected))


@given(st.lists(st.floats(0.0001, 599), min_size=1, max_size=60), st.floats(0.01, 1))
def test_a_percentile_lies_in_the_bucket_of_the_true_one(seconds: list[float], share: float) -> None:
    found = histogram(*seconds).percentile_s(share)
    ordered = sorted(seconds)
    true = ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]
    index = bisect_left(LATENCY_BUCKETS_S, true)
    low = LATENCY_BUCKETS_S[index - 1] if index else 0.0
    assert found is not None
    assert low <= found <= LATENCY_BUCKETS_S[index]


@given(st.lists(st.floats(0, 700), min_size=1, max_size=40), st.floats(0, 1), st.floats(0, 1))
def test_percentiles_rise(seconds: list[float], one: float, other: float) -> None:
    low, high = (histogram(*seconds).percentile_s(share) for share in sorted((one, other)))
    assert low is not None
    assert high is not None
    assert low <= high


@given(st.lists(CALLS, max_size=20), st.lists(CALLS, max_size=20))
@pytest.mark.req("S1-34", "S1-35", "S1-60")
def test_the_difference_of_two_readings_is_what_happened_between_them(before: list[Call], later: list[Call]) -> None:
    [between] = difference([usage_of(before + later)], [usage_of(before)])
    alone = usage_of(later)
    assert between.calls == alone.calls == len(later)
    assert between.failures == alone.failures == sum(call.error != "" for call in later)
    assert between.loads == alone.loads
    assert between.load_seconds == pytest.approx(alone.load_seconds)
    for kind, expected in alone.operations.items():
        got = between.operations[kind]
        assert got.latency.counts == expected.latency.counts
        assert got.seconds_total == pytest.approx(expected.seconds_total, abs=1e-5)
        assert got.first_token.counts == expected.first_token.counts
        assert (got.failures, got.tokens_in, got.tokens_out) == (
            expected.failures,
            expected.tokens_in,
            expected.tokens_out,
        )


@given(st.lists(CALLS, max_size=20), st.lists(CALLS, max_size=20))
def test_two_hosts_together_are_what_one_would_have_counted(here: list[Call], there: list[Call]) -> None:
    both = by_model([usage_of(here, host="a:1", used_at=5.0), usage_of(there, host="b:1", used_at=3.0)])["m"]
    one = usage_of(here + there)
    assert (both.host, both.last_used_at) == ("", 5.0)
    assert (both.calls, both.failures, both.loads) == (one.calls, one.failures, one.loads)
    assert both.total.latency.counts == one.total.latency.counts
    assert both.total.failures == one.total.failures


def test_totals_that_began_anew_are_all_new() -> None:
    before = usage_of([Call(kind="chat", seconds=1.0)] * 9)
    now = usage_of([Call(kind="chat", seconds=2.0)] * 2)
    [between] = difference([now], [before])
    assert between == now


def test_a_model_that_was_not_there_before_counts_whole() -> None:
    now = usage_of([Call(kind="chat", seconds=2.0)], model="new")
    assert difference([now], [usage_of([])]) == [now]


def test_figures_of_other_releases_are_read() -> None:
    row = {b"chat|n": b"2", b"chat|l|0.07": b"2", b"chat|zz": b"5", b"loads": b"1", b"future": b"3"}
    usage = parse("m:7b@[::1]:11434", row, 4.0)
    assert (usage.model, usage.host, usage.loads, usage.calls) == ("m:7b", "[::1]:11434", 1, 2)
    chat = usage.operations["chat"]
    assert chat.latency.percentile_s(1.0) == 0.1  # 0.07 is no bound of ours
    assert usage.total == chat == OperationUsage(calls=2, latency=chat.latency)
    assert chat.first_token.mean_s is None
