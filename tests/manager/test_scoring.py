"""How well a model serves, from what is known of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manager.scoring import ENOUGH_RECENT, ENOUGH_USUAL, WEIGHTS, Evidence, HealthScore, health_score
from shared.usage.figures import BUCKETS, Histogram, ModelUsage, OperationUsage, bucket_of

DAY = 86_400.0


def calls(number: int, seconds: float, **failures: int) -> OperationUsage:
    counts = [0] * BUCKETS
    counts[bucket_of(seconds)] = number
    return OperationUsage(calls=number, failures=failures, latency=Histogram(tuple(counts), number * seconds))


def usage(*, loads: int = 0, load_seconds: float = 0.0, **operations: OperationUsage) -> ModelUsage:
    return ModelUsage(model="m", host="", operations=operations, loads=loads, load_seconds=load_seconds)


def part(score: HealthScore, name: str) -> float | None:
    return next(part.value for part in score.parts if part.name == name)


WELL = Evidence(
    hosts=2,
    serving=2,
    recent=usage(chat=calls(50, 0.4), loads=1, load_seconds=2.0),
    usual=usage(chat=calls(500, 0.4)),
    unused_s=60.0,
)


@pytest.mark.req("S1-37", "S1-43")
def test_a_model_that_serves_well_has_full_marks_in_every_part() -> None:
    score = health_score(WELL)
    assert score.score == 100.0
    assert {part.name: (part.weight, part.value, part.points) for part in score.parts} == {
        name: (weight, 1.0, weight) for name, weight in WEIGHTS.items()
    }
    assert sum(WEIGHTS.values()) == 100.0
    assert [part.detail for part in score.parts] == [
        "2 of 2 hosts can serve it", "0 of 50 recent calls failed", "p95 is 1.0 times its usual", "a load takes 2.0 s",
        "last used 0.0 days ago",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("evidence", "name", "value"),
    [
        (replace(WELL, serving=1), "availability", 0.5),
        (replace(WELL, hosts=0, serving=0), "availability", 0.0),
        (replace(WELL, recent=usage(chat=calls(40, 0.4, backend_fault=10))), "errors", 0.5),
        (replace(WELL, recent=usage(chat=calls(40, 0.4, backend_fault=20))), "errors", 0.0),
        (replace(WELL, recent=usage(chat=calls(40, 0.4, backend_rejected=20, backend_busy=20))), "errors", 1.0),
        (replace(WELL, recent=usage(chat=calls(1, 0.4, model_fault=1))), "errors", 0.6),
        (replace(WELL, recent=usage(chat=calls(40, 0.4), embedding=calls(60, 0.4, model_fault=25))), "errors", 0.5),
        (replace(WELL, recent=None), "errors", None),
        (replace(WELL, recent=usage(chat=calls(50, 4.0))), "latency", 0.0),  # ten times as long
        (replace(WELL, recent=usage(chat=calls(50, 0.9))), "latency", 0.7925),  # twice, near enough
        (replace(WELL, recent=usage(chat=calls(50, 0.04))), "latency", 1.0),
        (replace(WELL, recent=usage(chat=calls(ENOUGH_RECENT - 1, 9.0))), "latency", None),
        (replace(WELL, usual=usage(chat=calls(ENOUGH_USUAL - 1, 0.4))), "latency", None),
        (replace(WELL, recent=usage(embedding=calls(50, 9.0))), "latency", None),  # it has no past to compare with
        (replace(WELL, recent=usage(loads=2, load_seconds=120.0)), "load", 0.0),
        (replace(WELL, recent=usage(), usual=usage(loads=1, load_seconds=1.0)), "load", 1.0),
        (replace(WELL, recent=usage()), "load", None),
        (replace(WELL, unused_s=30 * DAY), "recency", 0.0),
        (replace(WELL, unused_s=DAY), "recency", 1.0),
        (replace(WELL, unused_s=None), "recency", None),
    ],
)
@pytest.mark.req("S1-37")
def test_parts(evidence: Evidence, name: str, value: float | None) -> None:
    assert part(health_score(evidence), name) == pytest.approx(value, abs=0.001)


def test_the_slower_of_two_operations_pulls_the_score_by_its_share_of_the_calls() -> None:
    usual = usage(chat=calls(500, 0.4), embedding=calls(500, 0.02))
    few = replace(WELL, usual=usual, recent=usage(chat=calls(90, 0.4), embedding=calls(10, 0.9)))
    many = replace(WELL, usual=usual, recent=usage(chat=calls(10, 0.4), embedding=calls(90, 0.9)))
    assert part(health_score(few), "latency") == 1.0
    assert part(health_score(many), "latency") == 0.0


def test_a_part_that_nothing_is_known_about_is_left_out() -> None:
    fresh = Evidence(hosts=2, serving=1)
    score = health_score(fresh)
    assert score.score == 50.0
    assert [(part.name, part.points) for part in score.parts if part.value is not None] == [("availability", 50.0)]
    assert sum(part.points for part in score.parts) == score.score


def test_the_part_of_errors_says_what_it_does_not_count() -> None:
    failures = {"backend_timeout": 1, "backend_rejected": 2}
    recent = usage(chat=OperationUsage(calls=21, failures=failures))
    (errors,) = [one for one in health_score(Evidence(hosts=1, serving=1, recent=recent)).parts if one.name == "errors"]
    assert errors.detail == "1 of 21 recent calls failed, 2 more for reasons that are not its own"


OPERATIONS = st.dictionaries(
    st.sampled_from(("chat", "embedding")), st.builds(calls, st.integers(0, 100), st.floats(0, 700)), max_size=2
)
USAGES = st.none() | st.builds(
    lambda operations, loads, seconds: usage(loads=loads, load_seconds=seconds, **operations),
    OPERATIONS, st.integers(0, 5), st.floats(0, 900),
)  # fmt: skip


@given(st.integers(0, 4), st.integers(0, 4), USAGES, USAGES, st.none() | st.floats(0, 400 * DAY))
def test_a_score_is_always_between_0_and_100(
    hosts: int, serving: int, recent: ModelUsage | None, usual: ModelUsage | None, unused_s: float | None
) -> None:
    evidence = Evidence(hosts=hosts, serving=min(hosts, serving), recent=recent, usual=usual, unused_s=unused_s)
    score = health_score(evidence)
    assert 0.0 <= score.score <= 100.0
    assert all(0.0 <= part.value <= 1.0 for part in score.parts if part.value is not None)
    assert sum(part.points for part in score.parts) == pytest.approx(score.score, abs=0.3)
