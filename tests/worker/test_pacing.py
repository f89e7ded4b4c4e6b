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
