"""How long a job is expected to wait, gate by gate, and what it is said to wait for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.waits import Outlook, Reason, Waits, by_drain_s
from shared.jobs import Priority
from shared.queue.fleet import Capacity, Fleet, Standing
from shared.queue.plans import WaitingLine
from shared.queue.sightings import Resident, Sighting
from shared.usage.estimates import Estimates, Tally

NOW_MS = 1_000_000
ONE, OTHER = "one:1", "other:1"
CALL_S = 2.0
ESTIMATES = Estimates(
    {
        ("t:a", ONE): Tally(calls=10, answers=10, seconds=10 * CALL_S, loads=2, load_s=6.0),
        ("t:b", OTHER): Tally(calls=10, answers=10, seconds=10 * CALL_S),
        ("e:embed", ONE): Tally(calls=10, answers=10, seconds=10 * CALL_S),
    }
)
PATIENCE_S = {"high": 2.0, "normal": 10.0, "low": 20.0}


def capacity(*hosts: str, **fields: Any) -> Capacity:
    limits = {"host_calls": 10, "unit_calls": 4, "embedding_calls": 1, "batch": 10, "patience_s": PATIENCE_S}
    return Capacity(hosts=list(hosts), **{**limits, **fields})


def sighting(*models: str, room: int = 0) -> Sighting:
    return Sighting(at=NOW_MS / 1000, residents=[Resident(model) for model in models], room=room)


def line(name: str, waiting: int, *, priority: Priority = Priority.NORMAL, waits_s: float = 0.0) -> WaitingLine:
    return WaitingLine(priority, name, waiting, NOW_MS - int(waits_s * 1000))


def fleet(*lines: WaitingLine, calls: Mapping[str, float] | None = None, **fields: Any) -> Fleet:
    """100 worker slots, model a on the one host and b on the other, unless `fields` say otherwise."""
    calls = dict(calls or {})
    for slot, under_way in list(calls.items()):
        host = slot.partition("|")[0]
        calls[host] = calls.get(host, 0) + under_way
    waiting = {priority: sum(line.waiting for line in lines if line.priority is priority) for priority in Priority}
    usual: dict[str, Any] = {
        "workers": 1, "slots": 100, "capacities": [capacity(ONE, OTHER)],
        "hosts": {ONE: sighting("a", "embed"), OTHER: sighting("b")},
    }  # fmt: skip
    return Fleet(now_ms=NOW_MS, lines=lines, waiting=waiting, calls=calls, **{**usual, **fields})


def behind(name: str, in_line: int, in_class: int | None = None, priority: Priority = Priority.NORMAL) -> Standing:
    in_class = in_line if in_class is None else in_class
    return Standing(priority=priority, line=name, position=in_class + 1, in_line=in_line, in_class=in_class)


def wait_s(at: Standing, seen: Fleet, estimates: Estimates = ESTIMATES) -> float | None:
    return Waits(seen, estimates).wait_s(at)


@pytest.mark.req("S1-58")
def test_forty_jobs_of_one_model_wait_for_its_slots() -> None:
    seen = fleet(line("t:a", 40), calls={f"{ONE}|a": 4})
    assert wait_s(behind("t:a", 39), seen) == 40 * CALL_S / 4


def test_whoever_finds_a_free_slot_does_not_wait() -> None:
    assert wait_s(behind("t:a", 2), fleet(line("t:a", 3), calls={f"{ONE}|a": 1})) == 0.0
    assert wait_s(behind("t:a", 3), fleet(line("t:a", 3), calls={f"{ONE}|a": 1})) == CALL_S / 4


@pytest.mark.req("S2-42")
def test_a_hundred_jobs_of_another_model_on_another_host_do_not_count() -> None:
    seen = fleet(line("t:b", 100), line("t:a", 1), calls={f"{OTHER}|b": 4})
    assert wait_s(behind("t:a", 0, in_class=100), seen) == 0.0
    beside = fleet(
        line("t:b", 100), line("t:a", 1), calls={f"{ONE}|b": 4}, hosts={ONE: sighting("a", "b")},
        capacities=[capacity(ONE, host_calls=4)],
    )  # fmt: skip
    waited = wait_s(behind("t:a", 0, in_class=100), beside)
    assert waited == pytest.approx(101 * CALL_S / 4, rel=0.05), "on the same host they do"


def test_two_hosts_with_the_model_serve_it_twice_as_fast() -> None:
    hosts = {ONE: sighting("a"), OTHER: sighting("a")}
    seen = fleet(line("t:a", 40), calls={f"{ONE}|a": 4, f"{OTHER}|a": 4}, hosts=hosts)
    assert wait_s(behind("t:a", 39), seen) == 40 * CALL_S / 8


def test_few_workers_are_the_narrowest_gate() -> None:
    seen = fleet(line("t:a", 40), calls={f"{ONE}|a": 2}, slots=2)
    assert wait_s(behind("t:a", 39), seen) == 40 * CALL_S / 2


def test_one_slot_is_kept_for_class_high() -> None:
    seen = fleet(calls={f"{ONE}|a": 3}, capacities=[capacity(ONE, reserved=1)])
    assert wait_s(behind("t:a", 0, priority=Priority.HIGH), seen) == 0.0
    assert wait_s(behind("t:a", 0), seen) == pytest.approx(CALL_S / 3, abs=0.05)


def test_embedding_jobs_share_their_calls() -> None:
    seen = fleet(line("e:embed", 100), calls={f"{ONE}|embed": 1})
    assert wait_s(behind("e:embed", 100), seen) == 11 * CALL_S


@pytest.mark.req("S1-06")
def test_the_classes_share_the_starts() -> None:
    """A low job gets its turn after eight of a thousand high ones; a high one does not wait for low ones."""
    high = [line("t:a", 1000, priority=Priority.HIGH)]
    seen = fleet(*high, calls={f"{ONE}|a": 4})
    assert wait_s(behind("t:a", 0, priority=Priority.LOW), seen) == 9 * CALL_S / 4
    low = fleet(line("t:a", 1000, priority=Priority.LOW), calls={f"{ONE}|a": 4})
    assert wait_s(behind("t:a", 0, priority=Priority.HIGH), low) == pytest.approx(CALL_S / 4, rel=0.3)


def test_a_model_that_no_host_has_in_memory_adds_its_load() -> None:
    seen = fleet(line("t:a", 1), hosts={ONE: sighting("b"), OTHER: sighting("b")})
    assert wait_s(behind("t:a", 0), seen) == 3.0
    assert Waits(seen, ESTIMATES).outlook(behind("t:a", 0)) == Outlook(1, 3.0, Reason.MODEL, "a")


@pytest.mark.parametrize("slots", [100, 4])
@pytest.mark.parametrize(
    ("waiting", "waited_s", "expected"),
    [
        (4, 0.0, 3.0 + (4 + 4) * CALL_S / 4),
        (1000, 0.0, 3.0 + PATIENCE_S["normal"] + CALL_S),
        (1000, 8.0, 3.0 + 2.0 + CALL_S),
    ],
    ids=["those there are done soon", "its patience ends first", "it has waited already"],
)
def test_where_memory_is_full_a_model_waits_for_the_others_or_its_patience(
    waiting: int, waited_s: float, expected: float, slots: int
) -> None:
    """However few the workers: those who wait for the model that goes do not stand before it."""
    seen = fleet(
        line("t:b", waiting), line("t:a", 1, waits_s=waited_s), calls={f"{ONE}|b": 4},
        hosts={ONE: sighting("b", room=1)}, capacities=[capacity(ONE)], slots=slots,
    )  # fmt: skip
    assert wait_s(behind("t:a", 0, in_class=waiting), seen) == pytest.approx(expected)
    told = replace(seen, hosts={ONE: sighting("b")}, capacities=[capacity(ONE, max_loaded=1)])
    assert wait_s(behind("t:a", 0, in_class=waiting), told) == pytest.approx(expected), "the operator said so"


def test_models_that_wait_for_one_host_take_turns() -> None:
    """So patience ends later the more of them there are."""
    cold = [line(f"t:cold-{n}", 1) for n in range(3)]
    seen = fleet(
        line("t:b", 1000), *cold, calls={f"{ONE}|b": 4}, hosts={ONE: sighting("b", room=1)}, capacities=[capacity(ONE)]
    )
    expected = 3.0 + 3 * PATIENCE_S["normal"] + CALL_S
    assert wait_s(behind("t:cold-0", 0, in_class=1000), seen) == pytest.approx(expected)


@pytest.mark.req("S1-30")
def test_a_loading_model_is_said_to_load_and_where() -> None:
    seen = fleet(line("t:new", 1), calls={f"{ONE}|new": 1})
    waits = Waits(seen, ESTIMATES)
    told = waits.outlook(behind("t:new", 1))
    assert told is not None and (told.reason, told.model, told.host) == (Reason.LOADING, "new", ONE)
    assert told.text == f"queued position=2 expected_wait_seconds=3 reason=loading_model model=new host={ONE}"
    runs = Standing(priority=Priority.NORMAL, line="t:new", host=ONE, unit="new")
    started = waits.outlook(runs)
    assert started is not None and started.text == f"running reason=loading_model model=new host={ONE}"
    loaded = fleet(calls={f"{ONE}|new": 1}, hosts={ONE: sighting("new")})
    assert Waits(loaded, ESTIMATES).outlook(runs) is None


def test_another_context_length_is_loaded_anew() -> None:
    hosts = {ONE: Sighting(at=1.0, residents=[Resident("a", context=4096)])}
    waits = Waits(fleet(hosts=hosts, capacities=[capacity(ONE)]), ESTIMATES)
    reasons = [told.reason for name in ("t:a", "t:a#4096", "t:a#8192") if (told := waits.outlook(behind(name, 0)))]
    assert reasons == [Reason.SLOT, Reason.SLOT, Reason.MODEL]


def test_a_model_of_a_service_is_never_loaded() -> None:
    told = Waits(fleet(), ESTIMATES).outlook(behind("t:openai~gpt", 0))
    assert told is not None and (told.reason, told.wait_s) == (Reason.SLOT, 0.0)


def test_without_workers_nothing_is_promised() -> None:
    told = Waits(fleet(workers=0, slots=0, capacities=[]), ESTIMATES).outlook(behind("t:a", 0))
    assert told == Outlook(1, None, Reason.WORKER, "a")


def test_before_anything_is_learned_the_drain_rate_counts() -> None:
    assert wait_s(behind("t:a", 4), fleet(slots=4, running=0, drain_per_s=0.5), Estimates()) == 2.0


@pytest.mark.parametrize(
    ("position", "free", "drain_per_s", "expected"),
    [(1, 4, None, 0.0), (4, 4, 0.1, 0.0), (5, 4, 0.5, 2.0), (3, 0, 2.0, 1.5), (3, -2, 2.0, 1.5), (5, 4, None, None)],
)
def test_the_wait_by_free_slots_and_the_drain_rate(
    position: int, free: int, drain_per_s: float | None, expected: float | None
) -> None:
    assert by_drain_s(position, free, drain_per_s) == expected


@given(
    ahead=st.integers(0, 500), more=st.integers(1, 100), others=st.integers(0, 500), running=st.integers(0, 4),
    priority=st.sampled_from(Priority),
)  # fmt: skip
def test_who_stands_further_back_never_waits_less(
    ahead: int, more: int, others: int, running: int, priority: Priority
) -> None:
    lines = [line("t:a", ahead + more + 1, priority=priority), line("t:b", others + 1, priority=priority)]
    seen = fleet(*lines, calls={f"{ONE}|a": running})
    near = wait_s(behind("t:a", ahead, ahead + others, priority), seen)
    far = wait_s(behind("t:a", ahead + more, ahead + more + others, priority), seen)
    assert near is not None and far is not None and 0.0 <= near <= far


@given(st.integers(0, 1_000_000), st.integers(0, 1_000_000))
def test_what_is_told_of_a_place_is_kept_for_places_near_it(in_line: int, others: int) -> None:
    """So that ten thousand jobs behind each other are told their waits for the price of some hundred."""
    seen = fleet(line("t:a", in_line), line("t:b", others), calls={f"{ONE}|a": 4})
    at = behind("t:a", in_line, in_line + others)
    told = Waits(seen, ESTIMATES).outlook(at)
    exact = wait_s(at, seen)
    assert told is not None and told.wait_s is not None and exact is not None
    assert told.position == at.position
    assert exact * 30 / 31 - 0.1 <= told.wait_s <= exact + 0.1
    if at.position < 64:
        assert told.wait_s == exact


def test_thousands_of_places_cost_some_hundred_waits() -> None:
    class Counting(Waits):
        reckoned = 0

        def wait_s(self, at: Standing) -> float | None:
            self.reckoned += 1
            return super().wait_s(at)

    waits = Counting(fleet(line("t:a", 10_000)), ESTIMATES)
    for place in range(10_000):
        waits.outlook(behind("t:a", place))
    assert waits.reckoned < 600
