"""Alerts: when they fire, when they are over, and that noise does not multiply them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.alerts import Alert, AlertState, Book, Rule, evaluate
from tests.monitor.snapshots import rule

STEP_S = 5.0
GONE = None
UNREAD = "unread"
Value = float | str | None

P, F, R, N = "pending", "firing", "resolved", ""


def play(values: Sequence[Value], one: Rule) -> list[tuple[str, list[str]]]:
    """For each value, 5 s apart: the state after it, and what was announced."""
    book: Book = {}
    seen = []
    for index, value in enumerate(values):
        signals = {} if value is GONE or isinstance(value, str) else {("m", "x"): value}
        unread = {"host"} if value == UNREAD else set[str]()
        book, changed = evaluate(book, [one], signals, unread, index * STEP_S)
        state = str(book["load", "x"].state) if book else N
        seen.append((state, [str(alert.state) for alert in changed]))
    return seen


@pytest.mark.req("S1-61", "S1-62", "S1-64", "D-07")
@pytest.mark.parametrize(
    ("values", "states"),
    [
        pytest.param([79.9] * 4, [N, N, N, N], id="below the threshold nothing happens"),
        pytest.param([80, 80, 80], [P, P, F], id="at the threshold, for long enough"),
        pytest.param([90, 79, 90, 90, 90], [P, N, P, P, F], id="a break starts the time anew"),
        pytest.param([90, 75, 90], [P, N, P], id="the lower threshold is not for what is only pending"),
        pytest.param([90] * 3 + [75] * 4, [P, P, F, F, F, F, F], id="between the thresholds it goes on"),
        pytest.param([90] * 3 + [71.9] * 3, [P, P, F, F, F, N], id="below the lower one, for long enough, it ends"),
        pytest.param([90] * 3 + [10, 10, 75, 10, 10, 10], [P, P, F, F, F, F, F, F, N], id="wellness too starts anew"),
        pytest.param([90] * 3 + [GONE] * 3, [P, P, F, F, F, N], id="what is gone is well"),
        pytest.param([90, GONE, 90], [P, N, P], id="gone while pending"),
        pytest.param([90] * 3 + [UNREAD] * 9 + [90], [P, P, F] + [F] * 10, id="unread while firing: as it was"),
        pytest.param([90, UNREAD, 90], [P, N, P], id="unread while pending: starts anew"),
        pytest.param([90] * 3 + [10, 10, UNREAD, 10], [P, P, F, F, F, F, N], id="unread while getting well"),
    ],
)
def test_states(values: list[Value], states: list[str]) -> None:
    assert [state for state, _ in play(values, rule())] == states


def test_without_durations_it_fires_and_ends_at_once() -> None:
    assert play([90, 10, 90], rule(for_s=0, clear_for_s=0)) == [(F, [F]), (N, [R]), (F, [F])]


def test_each_thing_has_an_alert_of_its_own() -> None:
    book, changed = evaluate({}, [rule(for_s=0)], {("m", "a"): 90, ("m", "b"): 10, ("n", "c"): 99}, (), 7.0)
    assert [alert.about for alert in changed] == ["a"]
    assert set(book) == {("load", "a")}


def test_times_and_text() -> None:
    book: Book = {}
    for at, value in ((100.0, 85), (110.0, 95), (120.0, 10)):
        book, _ = evaluate(book, [rule(unit="s")], {("m", "x"): value}, (), at)
    book, changed = evaluate(book, [rule(unit="s")], {("m", "x"): 11}, (), 131.0)
    alert = changed[0]
    assert (alert.since, alert.fired_at, alert.well_since, alert.resolved_at) == (100, 110, 120, 131)
    assert alert.summary == "x is at 11 s, threshold 80 s"
    assert not book


@pytest.mark.req("S1-61", "S1-64")
@given(
    noise=st.lists(st.floats(-3.9, 3.9), min_size=121, max_size=121),
    for_s=st.sampled_from([0.0, 10.0, 40.0]),
    clear_for_s=st.sampled_from([0.0, 10.0, 40.0]),
)
def test_one_alert_for_one_noisy_crossing(noise: list[float], for_s: float, clear_for_s: float) -> None:
    """The value climbs from 40 to 120 and falls back, trembling by less than half the gap between the thresholds."""
    values = [40 + 80 * math.sin(math.pi * index / 120) + noise[index] for index in range(121)]
    announced = [
        state
        for _, states in play([*values, *[40.0] * 9], rule(for_s=for_s, clear_for_s=clear_for_s))
        for state in states
    ]
    assert announced == [F, R]


@given(
    values=st.lists(st.one_of(st.floats(0, 100), st.just(GONE), st.just(UNREAD)), max_size=80),
    for_s=st.sampled_from([0.0, 5.0, 20.0]),
    clear_for_s=st.sampled_from([0.0, 5.0, 20.0]),
)
def test_firing_and_resolved_take_turns(values: list[Value], for_s: float, clear_for_s: float) -> None:
    one = rule(for_s=for_s, clear_for_s=clear_for_s)
    announced = [state for _, states in play(values, one) for state in states]
    assert announced == [F if index % 2 == 0 else R for index in range(len(announced))]


@given(values=st.lists(st.floats(0, 100), max_size=60))
def test_it_fires_only_after_the_whole_duration_above(values: list[float]) -> None:
    book: Book = {}
    for index, value in enumerate(values):
        book, changed = evaluate(book, [rule()], {("m", "x"): value}, (), index * STEP_S)
        for alert in changed:
            _check_evidence(alert, values[: index + 1])


def _check_evidence(alert: Alert, values: list[float]) -> None:
    last = values[-3:]  # 10 s at 5 s a step
    if alert.state is AlertState.FIRING:
        assert len(last) == 3 and min(last) >= 80
    else:
        assert len(last) == 3 and max(last) < 72
