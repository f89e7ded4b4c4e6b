"""Which backend a job goes to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.worker.scripted_backend import ScriptedBackend
from worker.hosts import Hosts, preference


@pytest.mark.req("S1-33")
@pytest.mark.parametrize(
    ("in_flight", "attempt", "order"),
    [
        ([0], 1, [0]),
        ([2, 0, 1], 1, [1, 2, 0]),
        ([0, 0, 0], 1, [0, 1, 2]),
        ([0, 0, 0], 2, [1, 2, 0]),
        ([0, 0, 0], 4, [0, 1, 2]),
        ([1, 0, 0], 2, [1, 2, 0]),
        ([], 1, []),
    ],
)
def test_the_least_busy_host_comes_first_and_a_retry_goes_elsewhere(
    in_flight: list[int], attempt: int, order: list[int]
) -> None:
    assert preference(in_flight, attempt) == order


@given(in_flight=st.lists(st.integers(0, 50), max_size=8), attempt=st.integers(1, 100))
def test_every_host_is_tried_once_and_none_before_a_less_busy_one(in_flight: list[int], attempt: int) -> None:
    order = preference(in_flight, attempt)
    assert sorted(order) == list(range(len(in_flight)))
    loads = [in_flight[index] for index in order]
    assert loads == sorted(loads)


def test_a_call_counts_as_long_as_it_lasts() -> None:
    hosts = Hosts([ScriptedBackend(name="a"), ScriptedBackend(name="b")], probe_timeout_s=1)
    with hosts.lease("a"):
        assert hosts.preferred("m", 1) == ["b", "a"]
        with pytest.raises(ZeroDivisionError), hosts.lease("b"), hosts.lease("b"):
            assert hosts.preferred("m", 1) == ["a", "b"]
            raise ZeroDivisionError
        assert hosts.preferred("m", 1) == ["b", "a"]
    assert hosts.preferred("m", 1) == ["a", "b"]


async def test_one_host_that_answers_is_enough() -> None:
    up, down = ScriptedBackend(), ScriptedBackend()
    down.up = False
    assert await Hosts([down, up], probe_timeout_s=1).is_up()
    assert len(await Hosts([down, up], probe_timeout_s=1).loaded()) == 1
    assert not await Hosts([down], probe_timeout_s=1).is_up()
    assert await Hosts([down], probe_timeout_s=1).loaded() == []
