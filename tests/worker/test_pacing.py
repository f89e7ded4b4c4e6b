"""Less to a busy host, slowly more again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from worker.pacing import CUT_EVERY_S, LONGEST_PAUSE_S, Pace


def test_a_busy_host_is_halved_once_a_moment_and_left_alone_for_as_long_as_it_asked() -> None:
    pace = Pace(16)
    pace.busy(100.0, 16, 3.0)
    pace.busy(100.1, 15, 1.0)
    assert pace.limit == 8
    assert pace.pause_s(100.0) == 3.0, "the longest wish counts"
    assert not pace.has_room(102.9, 0)
    assert pace.has_room(103.0, 7)
    assert not pace.has_room(103.0, 8)
    pace.busy(100.0 + CUT_EVERY_S, 8, None)
    assert pace.limit == 4


def test_it_recovers_by_one_a_round_up_to_its_ceiling() -> None:
    pace = Pace(4)
    pace.busy(0.0, 4, 0.0)
    assert pace.limit == 2
    for _ in range(3):
        pace.served()
    assert pace.limit == 3
    for _ in range(100):
        pace.served()
    assert pace.limit == 4


@given(events=st.lists(st.tuples(st.floats(0, 5), st.integers(1, 50), st.none() | st.floats(0, 1e6)) | st.none()))
def test_some_call_always_gets_through_in_the_end(events: list[tuple[float, int, float | None] | None]) -> None:
    pace, now = Pace(10), 0.0
    for event in events:
        if event is None:
            pace.served()
        else:
            now += event[0]
            pace.busy(now, event[1], event[2])
        assert 1 <= pace.limit <= 10
        assert pace.pause_s(now) <= LONGEST_PAUSE_S + 1e-6
        assert pace.has_room(now + LONGEST_PAUSE_S + 1e-6, 0)


def test_a_host_that_could_not_be_reached_is_tried_by_one_call_at_a_time() -> None:
    pace = Pace(8)
    early = pace.begins()
    pace.unreachable()
    assert pace.has_room(0.0, 1)
    trial = pace.begins()
    assert not pace.has_room(0.0, 2)
    assert not pace.answers(early), "it began before the doubt"
    pace.ends(early)
    assert not pace.has_room(0.0, 1)
    pace.unreachable()
    pace.ends(trial)
    assert pace.has_room(0.0, 0), "the next one may try"
    trial = pace.begins()
    assert pace.answers(trial)
    assert pace.has_room(0.0, 7)
    assert not pace.answers(trial)


@given(ends=st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["answered", "unreachable", "other"])), max_size=40))
def test_while_in_doubt_never_two_trials_and_never_locked_out(ends: list[tuple[int, str]]) -> None:
    pace, calls = Pace(8), list[int]()
    doubted_at: int | None = None
    number = 0
    for which, end in ends:
        while pace.has_room(0.0, len(calls)) and len(calls) < 6:
            number = pace.begins()
            calls.append(number)
        trials = [call for call in calls if doubted_at is not None and call > doubted_at]
        assert len(trials) <= 1
        call = calls.pop(which % len(calls))
        if end == "answered" and (pace.answers(call) or doubted_at is None):
            doubted_at = None
        elif end == "unreachable":
            pace.unreachable()
            doubted_at = number if doubted_at is None else doubted_at
        pace.ends(call)
    for call in calls:
        pace.ends(call)
    assert pace.has_room(0.0, 0)
