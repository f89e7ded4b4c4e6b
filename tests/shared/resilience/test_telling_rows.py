"""Which failures open a closed circuit, and which are only chance, or the quick part of a crowd."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.resilience.breaker import CHANCE, BreakerPolicy, telling_row
from tests.shared.resilience.driven import CLOSED, OPEN, POLICY, Driven


@pytest.mark.req("S3-19")
@pytest.mark.parametrize(
    ("calls", "failures", "row"),
    [(0, 0, 5), (9, 8, 5), (10, 0, 5), (100_000, 0, 5), (10, 1, 5), (100, 10, 6), (1000, 100, 7), (100_000, 10_000, 9),
     (1000, 10, 5), (100, 30, 12), (1000, 499, 24)],
)  # fmt: skip
def test_where_some_calls_fail_anyway_a_longer_row_tells(calls: int, failures: int, row: int) -> None:
    assert telling_row(calls, failures, POLICY) == row


@given(st.integers(0, 10**6), st.data())
def test_a_telling_row_is_hardly_ever_chance(calls: int, data: st.DataObject) -> None:
    failures = data.draw(st.integers(0, max(0, calls - 1)))
    row = telling_row(calls, failures, POLICY)
    assert row >= POLICY.failures
    if calls >= POLICY.min_calls:
        assert calls * (failures / calls) ** row <= CHANCE * 1.001 or row == POLICY.failures
        assert row >= telling_row(calls, failures // 2, POLICY)


def test_a_row_opens_a_busy_circuit_once_it_tells() -> None:
    driven = Driven()
    for _ in range(10):
        driven.succeed(9)
        driven.fail()
    driven.succeed()
    driven.fail(5)
    assert driven.state is CLOSED
    assert driven.breaker.telling_row() == 6
    driven.fail()
    assert driven.state is OPEN


def test_so_does_a_rate() -> None:
    driven = Driven(BreakerPolicy(failures=1000))
    for under_way in range(40, 20, -1):
        driven.breaker.failed(driven.generations.current, driven.now, unit=0.0, under_way=under_way)
    assert driven.state is CLOSED
    driven.breaker.failed(driven.generations.current, driven.now, unit=0.0, under_way=20)
    assert driven.state is OPEN


def test_a_row_waits_for_a_crowd_that_is_still_under_way() -> None:
    driven = Driven()
    for under_way in (40, 39, 38, 37, 36, 7):
        driven.breaker.failed(driven.generations.current, driven.now, unit=0.0, under_way=under_way)
        assert driven.state is CLOSED
    driven.breaker.failed(driven.generations.current, driven.now, unit=0.0, under_way=7)
    assert driven.state is OPEN
