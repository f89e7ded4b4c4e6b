"""Which backend a job goes to."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ArrieroError, BackendFault, BackendProtocolError, BackendTimeout, BackendUnreachable
from tests.worker.scripted_backend import ScriptedBackend
from worker.fallback import Route
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
    a, b = Route("a", "m"), Route("b", "m")
    with hosts.lease(a):
        assert hosts.preferred("m", 1) == ["b", "a"]
        with pytest.raises(ZeroDivisionError), hosts.lease(b), hosts.lease(b):
            assert (hosts.under_way(a), hosts.under_way(b), hosts.under_way(Route("a", "other"))) == (1, 2, 0)
            assert hosts.preferred("m", 1) == ["a", "b"]
            raise ZeroDivisionError
        assert hosts.preferred("m", 1) == ["b", "a"]
    assert hosts.preferred("m", 1) == ["a", "b"]
    assert hosts.under_way(a) == 0


def end(hosts: Hosts, route: Route, error: ArrieroError | None) -> None:
    with suppress(ArrieroError), hosts.lease(route):
        if error is not None:
            raise error


def test_after_a_lost_connection_one_call_at_a_time_goes_out_until_one_is_answered() -> None:
    hosts = Hosts([ScriptedBackend(name="a")], probe_timeout_s=1, slots=8)
    route = Route("a", "m")
    broken = BackendProtocolError()
    broken.broke_off = True
    for lost in (BackendUnreachable(), broken):
        end(hosts, route, lost)
        end(hosts, route, BackendTimeout())  # says nothing
        with hosts.lease(route) as trial:
            assert hosts.pause_s("a") == 0.0
            trial.answers()  # its first token
            assert hosts.pause_s("a") is None
    end(hosts, route, BackendUnreachable())
    end(hosts, route, BackendFault())  # an answer, if no good one
    with hosts.lease(route):
        assert hosts.pause_s("a") is None


async def test_one_host_that_answers_is_enough() -> None:
    up, down = ScriptedBackend(), ScriptedBackend()
    down.up = False
    assert await Hosts([down, up], probe_timeout_s=1).is_up()
    assert len(await Hosts([down, up], probe_timeout_s=1).loaded()) == 1
    assert not await Hosts([down], probe_timeout_s=1).is_up()
    assert await Hosts([down], probe_timeout_s=1).loaded() == []
