"""The breaker's moves: a table, its windows, and what holds whatever happens."""

from __future__ import annotations

from itertools import cycle

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from shared.resilience.breaker import BreakerPolicy, BreakerState, open_time_s
from tests.shared.resilience.driven import CLOSED, HALF_OPEN, OPEN, POLICY, PROBE, Driven


@pytest.mark.req("S1-13", "S3-09", "S3-19", "S3-21")
@pytest.mark.parametrize(
    ("state", "event", "after"),
    [
        (CLOSED, "success", CLOSED),
        (CLOSED, "failure", CLOSED),
        (CLOSED, "fifth failure", OPEN),
        (CLOSED, "time", CLOSED),
        (CLOSED, "gave up", CLOSED),
        (CLOSED, "reset", CLOSED),
        (CLOSED, "forced", OPEN),
        (OPEN, "success", OPEN),
        (OPEN, "failure", OPEN),
        (OPEN, "time", HALF_OPEN),
        (OPEN, "gave up", OPEN),
        (OPEN, "reset", CLOSED),
        (OPEN, "forced", OPEN),
        (HALF_OPEN, "success", CLOSED),
        (HALF_OPEN, "failure", OPEN),
        (HALF_OPEN, "failure without permit", HALF_OPEN),
        (HALF_OPEN, "time", HALF_OPEN),
        (HALF_OPEN, "gave up", HALF_OPEN),
        (HALF_OPEN, "reset", CLOSED),
        (HALF_OPEN, "forced", OPEN),
    ],
)
def test_every_state_and_every_event(state: BreakerState, event: str, after: BreakerState) -> None:
    driven = Driven()
    driven.reach(state)
    match event:
        case "success" if state is OPEN:  # of a call that began before
            driven.breaker.succeeded(0, driven.now)
        case "success":
            driven.succeed()
        case "failure" if state is OPEN:
            driven.breaker.failed(0, driven.now, unit=0.0)
        case "failure":
            driven.fail(token=PROBE if state is HALF_OPEN else "")
        case "failure without permit":
            driven.fail(token="another")
        case "fifth failure":
            driven.fail(5)
        case "time":
            driven.wait(POLICY.open_cap_s)
        case "gave up":
            driven.breaker.gave_up(PROBE)
        case "reset":
            driven.breaker.adopt(CLOSED, driven.now)
        case "forced":
            driven.breaker.adopt(OPEN, driven.now, wait_s=600)
    assert driven.state is after


def test_a_success_breaks_the_row() -> None:
    driven = Driven(BreakerPolicy(min_calls=1000))
    for _ in range(20):
        driven.fail(4)
        driven.succeed()
    assert driven.state is CLOSED


@pytest.mark.parametrize(
    ("successes", "failures", "opens"), [(5, 5, True), (6, 5, False), (5, 4, False), (50, 49, False), (49, 50, True)]
)
def test_half_of_at_least_ten_calls_opens(successes: int, failures: int, opens: bool) -> None:
    driven = Driven(BreakerPolicy(failures=1000))
    driven.succeed(successes)
    driven.fail(failures)
    assert (driven.state is OPEN) is opens


def test_results_leave_the_window() -> None:
    driven = Driven(BreakerPolicy(failures=1000))
    driven.fail(9)
    driven.wait(31)
    driven.fail()
    assert driven.state is CLOSED
    assert driven.breaker.window.totals() == (1, 1)
    for _ in range(6):  # ten results spread over the window still count together
        driven.wait(4)
        driven.fail()
    assert driven.breaker.window.totals() == (7, 7)


@pytest.mark.req("S3-20")
def test_open_times_double_up_to_the_cap_and_start_over_once_it_is_quiet() -> None:
    driven = Driven()
    driven.fail(5)
    lasted = []
    for _ in range(6):
        lasted.append(driven.breaker.wait_s(driven.now))
        driven.wait(lasted[-1])
        assert driven.breaker.take_permit(PROBE, driven.now)
        driven.fail(token=PROBE)
    assert lasted == [5, 10, 20, 40, 60, 60]
    driven.wait(60)
    assert driven.breaker.take_permit(PROBE, driven.now)
    driven.succeed()
    driven.wait(59)
    driven.fail(5)
    assert driven.breaker.wait_s(driven.now) == 60
    driven.wait(60)
    assert driven.breaker.take_permit(PROBE, driven.now)
    driven.succeed()
    driven.wait(60)
    driven.fail(5)
    assert driven.breaker.wait_s(driven.now) == 5


def test_late_results_are_ignored() -> None:
    driven = Driven()
    began = driven.generations.current
    driven.fail(5)
    driven.wait(5)
    assert driven.breaker.take_permit(PROBE, driven.now)
    driven.succeed()
    for _ in range(5):
        driven.breaker.failed(began, driven.now, unit=0.0)
    assert driven.state is CLOSED
    assert driven.breaker.window.streak == 0


def test_one_permit_at_a_time_and_a_dead_probers_comes_free() -> None:
    driven = Driven()
    driven.reach(HALF_OPEN)
    assert not driven.breaker.take_permit("second", driven.now)
    driven.wait(POLICY.probe_lease_s)
    driven.fail(token=PROBE)
    assert driven.state is HALF_OPEN
    assert driven.breaker.take_permit("second", driven.now)
    driven.fail(token=PROBE)  # the first one was given up for dead: too late
    assert driven.state is HALF_OPEN
    driven.fail(token="second")
    assert driven.state is OPEN


def test_a_late_success_of_a_slow_prober_still_closes() -> None:
    # A model that takes longer to load than the lease is well once it answers.
    driven = Driven()
    driven.reach(HALF_OPEN)
    driven.wait(POLICY.probe_lease_s)
    assert driven.breaker.take_permit("second", driven.now)
    driven.succeed()
    assert driven.state is CLOSED


def test_several_successes_if_so_configured() -> None:
    driven = Driven(BreakerPolicy(successes_to_close=3))
    driven.fail(5)
    driven.wait(5)
    for left in (2, 1, 0):
        assert driven.breaker.take_permit(PROBE, driven.now)
        driven.succeed()
        assert driven.state is (HALF_OPEN if left else CLOSED)


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_open_times_stay_within_their_bounds(openings: int, unit: float) -> None:
    assert 4.5 <= open_time_s(openings, POLICY, unit) <= 60
    assert open_time_s(openings, POLICY, unit) <= open_time_s(openings + 1, POLICY, unit)


class OneCircuit(RuleBasedStateMachine):
    """A circuit under calls that end as they like, whenever they like; the book of who may do what is kept here."""

    def __init__(self) -> None:
        super().__init__()
        self.driven = Driven()
        self.calls: list[tuple[int, str, float]] = []
        """(began, token, its lease ends at)"""
        self.seen = CLOSED
        self.opened_at = float("-inf")
        self.drawn = 0

    @initialize(unit=st.floats(0, 1, exclude_max=True))
    def setup(self, unit: float) -> None:
        self.unit = unit

    def look(self) -> BreakerState:
        state = self.driven.state
        if state is OPEN and self.seen is not OPEN:
            self.opened_at = self.driven.now
        self.seen = state
        return state

    @rule()
    def begin(self) -> None:
        self.call()

    def call(self) -> bool:
        driven, state, token = self.driven, self.look(), ""
        if driven.breaker.wait_s(driven.now) > 0:
            return False
        assert driven.now >= self.opened_at + 4.5, "a call while open"
        if state is HALF_OPEN:
            self.drawn += 1
            token = f"probe-{self.drawn}"
            assert driven.breaker.take_permit(token, driven.now)
            now, since = driven.now, driven.breaker.generation
            assert not [c for c in self.calls if c[1] and c[0] >= since and now < c[2]], "two probes in flight"
        self.calls.append((driven.generations.current, token, driven.now + POLICY.probe_lease_s))
        return True

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), end=st.sampled_from(["success", "failure", "failure", "failure", "nothing", "lost"]))
    def end(self, data: st.DataObject, end: str) -> None:
        self.finish(self.calls.pop(data.draw(st.integers(0, len(self.calls) - 1))), end)

    def finish(self, call: tuple[int, str, float], end: str) -> None:
        (began, token, until), breaker, now = call, self.driven.breaker, self.driven.now
        before, streak, late = self.look(), breaker.window.streak, began < breaker.generation
        if end == "success":
            breaker.succeeded(began, now)
        elif end == "failure":
            breaker.failed(began, now, unit=self.unit, token=token)
        elif end == "nothing":
            breaker.gave_up(token)
        after = self.look()
        if late:
            assert (after, breaker.window.streak) == (before, streak), "a late result counted"
        if before is HALF_OPEN and after is OPEN:
            assert now < until, "the failure of a prober that had lost its permit counted"

    @rule(times=st.integers(5, 12))
    def fail_in_a_row(self, times: int) -> None:
        for _ in range(times):
            if self.call():
                self.finish(self.calls.pop(), "failure")

    @rule(seconds=st.sampled_from([0.001, 0.5, 3.0, 4.5, 5.0, 9.0, 18.0, 30.0, 36.0, 60.0]))
    def wait(self, seconds: float) -> None:
        self.driven.wait(seconds)
        self.look()

    def teardown(self) -> None:
        """It heals: calls succeed from now on, whatever hangs goes on hanging. Closed within 65 s."""
        for _ in range(65 * 4):
            if self.look() is CLOSED:
                return
            if self.call():
                self.finish(self.calls.pop(), "success")
            self.driven.wait(0.25)
        assert self.look() is CLOSED


TestOneCircuit = OneCircuit.TestCase
TestOneCircuit.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


@settings(max_examples=40, deadline=None)
@given(
    runs=st.lists(st.tuples(st.integers(1, 12), st.integers(1, 3)), min_size=1, max_size=8),
    unit=st.floats(0, 1, exclude_max=True),
)
@example(runs=[(5, 1)], unit=0.99)
def test_a_flapping_backend_causes_at_most_twelve_changes_a_minute(runs: list[tuple[int, int]], unit: float) -> None:
    """So many failures, so many successes, and so on; called four times a second, for five minutes."""
    driven, changes, seen = Driven(), [], CLOSED
    ends = cycle([end for failures, successes in runs for end in [False] * failures + [True] * successes])
    for _ in range(5 * 60 * 4):
        state = driven.state
        token = PROBE if state is HALF_OPEN and driven.breaker.take_permit(PROBE, driven.now) else ""
        if state is CLOSED or token:
            if next(ends):
                driven.succeed()
            else:
                driven.fail(token=token, unit=unit)
        changes += [driven.now] * (state is not seen) + [driven.now] * (driven.breaker.state is not state)
        seen = driven.breaker.state
        driven.wait(0.25)
    for index, at in enumerate(changes[12:]):
        assert at - changes[index] >= 60
