"""The scheduling policy, row by row, and what holds for every state of queue and hosts."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.jobs import Priority
from shared.queue.lines import unit_in
from shared.queue.plans import CALL, WaitingLine
from worker.scheduling.facts import HostFacts
from worker.scheduling.policy import Decision, Knobs, decide, demands, turns

NOW = 1_000_000
KNOBS = Knobs(host_calls=4, unit_calls=2, reserved=1, residency_s=10.0)


def line(
    unit: str, *, waits_s: float = 0.0, priority: Priority = Priority.NORMAL, jobs: int = 1, kind: str = "t"
) -> WaitingLine:
    return WaitingLine(priority, f"{kind}:{unit}", jobs, NOW - int(waits_s * 1000))


def host(
    name: str = "h1", *resident: str, calls: Mapping[str, int] | None = None, room: int = 0, here_s: float = 60.0,
    shunned: tuple[str, ...] = (), has_all: bool = False,
) -> HostFacts:  # fmt: skip
    return HostFacts(
        name=name, resident=dict.fromkeys(resident, NOW - int(here_s * 1000)), room=room, shunned=shunned,
        calls={unit: count * CALL for unit, count in (calls or {}).items()}, has_all=has_all,
    )  # fmt: skip


def where(decision: Decision) -> dict[str, list[str]]:
    """Hosts by line, those of the best tier first."""
    return {row.line: [p.host for p in sorted(row.places, key=lambda p: p.tier)] for row in decision.rows}


def plan(*lines: WaitingLine, on: tuple[HostFacts, ...], knobs: Knobs = KNOBS) -> Decision:
    return decide(lines, [], on, NOW, knobs)


def test_what_is_in_memory_is_served_there() -> None:
    decision = plan(line("a"), on=(host("h1", "b"), host("h2", "a"), host("h3", "a")))
    assert where(decision) == {"t:a": ["h2", "h3"]}
    assert not any(place.is_cold for row in decision.rows for place in row.places)


def test_what_no_host_has_is_loaded_where_there_is_room() -> None:
    decision = plan(line("a"), on=(host("full", "b", calls={"b": 1}, room=1), host("free", "c", room=2)))
    assert where(decision) == {"t:a": ["free"]}
    assert decision.rows[0].places[0].is_cold


def test_a_model_that_nobody_asks_for_makes_room_at_once() -> None:
    assert where(plan(line("a"), on=(host("h1", "b", room=1, here_s=0),))) == {"t:a": ["h1"]}


@pytest.mark.parametrize(
    ("priority", "waits_s", "loads"),
    [(Priority.HIGH, 1.9, False), (Priority.HIGH, 2.0, True), (Priority.NORMAL, 19.9, False),
     (Priority.NORMAL, 20.0, True), (Priority.LOW, 19.9, False), (Priority.LOW, 20.0, True)],
)  # fmt: skip
def test_a_busy_model_stays_until_patience_ends(priority: Priority, waits_s: float, loads: bool) -> None:
    busy = host("h1", "b", calls={"b": 1}, room=1)
    decision = plan(line("a", waits_s=waits_s, priority=priority), line("b", jobs=9), on=(busy,))
    # From then on nothing else starts there, so that the host gets free for it.
    assert where(decision) == ({"t:a": ["h1"]} if loads else {"t:b": ["h1"]})
    if not loads:
        assert decision.changes_ms == pytest.approx(NOW + 100)


def test_a_model_that_has_just_been_loaded_stays_for_its_residency() -> None:
    new = host("h1", "b", calls={"b": 1}, room=1, here_s=4)
    decision = plan(line("a", waits_s=99), line("b"), on=(new,))
    assert where(decision) == {"t:b": ["h1"]}
    assert decision.changes_ms == NOW + 6000


def test_of_several_that_wait_too_long_the_one_due_first_is_loaded() -> None:
    busy = host("h1", "b", calls={"b": 1}, room=1)
    lines = (line("c", waits_s=90), line("a", waits_s=63, priority=Priority.HIGH), line("d", waits_s=120))
    assert where(plan(*lines, line("b"), on=(busy,))) == {"t:d": ["h1"]}


@pytest.mark.parametrize(
    ("others", "hosts", "patience_s"), [("", 1, 20), ("c", 1, 40), ("cd", 1, 60), ("cd", 2, 40), ("bcd", 3, 20)]
)
def test_models_that_wait_for_the_same_host_take_turns_and_each_waits_so_many_times_as_long(
    others: str, hosts: int, patience_s: int
) -> None:
    """So that a limit is one that a host can keep, however many models it is asked for."""
    busy = tuple(host(f"h{n}", "b", calls={"b": 1}, room=1) for n in range(hosts))
    fresh = [line(unit) for unit in others]
    for waits_s, starts in ((patience_s - 0.1, False), (patience_s, True)):
        assert ("t:a" in where(plan(line("a", waits_s=waits_s), *fresh, line("b"), on=busy))) is starts


def test_while_a_model_is_loaded_where_it_pushes_others_out_they_wait() -> None:
    loading = host("h1", "b", calls={"a": 1}, room=1)
    assert where(plan(line("a"), line("b"), on=(loading,))) == {"t:a": ["h1"]}
    roomy = host("h1", "b", calls={"a": 1, "b": 1}, room=2)
    assert where(plan(line("a"), line("b"), on=(roomy,))) == {"t:a": ["h1"], "t:b": ["h1"]}


def test_calls_for_more_models_than_a_memory_holds_end_before_others_start() -> None:
    both = host("h1", "b", calls={"a": 1, "b": 1}, room=1)
    assert where(plan(line("a", waits_s=99), line("b", waits_s=99), on=(both,))) == {}


def test_a_host_that_cannot_serve_a_model_is_no_reason_to_leave_the_others() -> None:
    """Its jobs would be sent on from there to the host that can, and push out what is used there."""
    shunned = host("h2", shunned=("a", "b"))
    busy = host("h1", "b", calls={"b": 1}, room=1)
    assert where(plan(line("a"), line("b"), on=(busy, shunned))) == {"t:b": ["h1"]}
    assert where(plan(line("a", waits_s=20), line("b"), on=(busy, shunned))) == {"t:a": ["h1"]}
    assert where(plan(line("a"), on=(shunned,))) == {"t:a": ["h2"]}, (
        "where there is no other, its run says what is wrong"
    )


@pytest.mark.parametrize(("beside", "calls"), [({"b": 1}, 1), ({}, 2)])
def test_one_call_loads_a_model_where_others_can_use_the_slots(beside: dict[str, int], calls: int) -> None:
    [row] = [row for row in plan(line("a"), on=(host("h1", "b", calls=beside),)).rows if row.line == "t:a"]
    assert (row.places[0].calls, row.places[0].is_cold) == (calls, True)


def test_a_second_host_is_used_once_a_job_has_waited_as_long_as_a_load_takes() -> None:
    full = host("h1", "a", calls={"a": 2})
    idle = host("h2")
    at_first = plan(line("a", waits_s=4), on=(full, idle))
    assert where(at_first) == {"t:a": ["h1"]} and at_first.changes_ms == NOW + 1000
    assert where(plan(line("a", waits_s=5), on=(full, idle))) == {"t:a": ["h1", "h2"]}


def test_a_host_that_lacks_the_model_or_is_broken_is_asked_only_where_no_other_has_it() -> None:
    broken = host("h1", "a", shunned=("a",))
    assert where(plan(line("a"), on=(broken, host("h2", "a")))) == {"t:a": ["h2"]}
    assert where(plan(line("a"), on=(broken,))) == {"t:a": ["h1"]}
    assert where(plan(line("a", waits_s=9), on=(broken, host("h3")))) == {"t:a": ["h3"]}


def test_hosts_do_not_take_each_others_models_away() -> None:
    """Two models, each on a host of its own, both with more work than that."""
    hosts = (host("h1", "a", calls={"a": 2}, room=1), host("h2", "b", calls={"b": 2}, room=1))
    even = plan(line("a", waits_s=30, jobs=50), line("b", waits_s=30, jobs=50), on=hosts)
    assert where(even) == {"t:a": ["h1"], "t:b": ["h2"]}
    uneven = plan(line("a", waits_s=30, jobs=500), line("b", waits_s=30, jobs=5), on=hosts)
    assert where(uneven)["t:a"] == ["h1", "h2"] and "t:b" not in where(uneven)


def test_another_context_is_another_unit() -> None:
    decision = plan(line("a#8192"), on=(host("h1", "a", calls={"a": 1}, room=1),))
    assert where(decision) == {}


def test_a_host_that_loads_nothing_has_everything() -> None:
    decision = plan(line("x"), line("y"), on=(host("cloud", has_all=True),))
    assert where(decision) == {"t:x": ["cloud"], "t:y": ["cloud"]}


def test_a_unit_of_a_service_is_for_its_hosts() -> None:
    hosts = (host("h1", "a"), HostFacts(name="api", service="cloud", has_all=True))
    assert where(plan(line("cloud~a"), line("a"), on=hosts)) == {"t:cloud~a": ["api"], "t:a": ["h1"]}
    assert where(plan(line("gone~a"), on=hosts)) == {"t:gone~a": []}, "its run says that there is no such service"


@pytest.mark.req("S1-93")
def test_without_affinity_everything_may_start_everywhere() -> None:
    knobs = Knobs(by_affinity=False)
    decision = plan(line("a"), line("b"), on=(host("h1", "b", room=1), host("h2")), knobs=knobs)
    assert {name: set(hosts) for name, hosts in where(decision).items()} == {"t:a": {"h1", "h2"}, "t:b": {"h1", "h2"}}


def test_embeddings_have_their_own_limit_and_batches() -> None:
    knobs = Knobs(batch=7, embedding_calls=2, unit_calls=4, host_calls=9, fill_s=3.0)
    decision = plan(line("a", kind="e"), line("a"), on=(host("h1", "a"),), knobs=knobs)
    by_line = {row.line: row for row in decision.rows}
    assert (by_line["e:a"].batch, by_line["e:a"].fill_ms, by_line["e:a"].places[0].calls) == (7, 3000, 2)
    assert (by_line["t:a"].batch, by_line["t:a"].places[0].calls, by_line["t:a"].places[0].shared_calls) == (1, 4, 3)
    assert decision.changes_ms == NOW + 3000


def test_known_lines_may_start_where_their_model_is() -> None:
    decision = decide([], ["t:a", "t:cold"], [host("h1", "a")], NOW, KNOBS)
    assert where(decision) == {"t:a": ["h1"]}


def test_a_demand_is_as_urgent_as_its_most_urgent_line() -> None:
    found = demands([line("a", waits_s=1, priority=Priority.HIGH), line("a", waits_s=5, kind="e")], KNOBS)
    assert (found["a"].waiting, found["a"].since_ms, found["a"].due_ms) == (2, NOW - 5000, NOW + 1000)


# -- whatever the state ------------------------------------------------------------------------------------------------

UNITS = st.sampled_from(["a", "b", "c", "d"])
LINES = st.builds(
    line, UNITS, waits_s=st.floats(0, 60), priority=st.sampled_from(Priority), jobs=st.integers(1, 9),
    kind=st.sampled_from("te"),
)  # fmt: skip


@st.composite
def host_lists(draw: st.DrawFn) -> tuple[HostFacts, ...]:
    hosts = []
    for n in range(draw(st.integers(1, 3))):
        resident = draw(st.lists(UNITS, unique=True, max_size=3))
        calls = draw(st.dictionaries(UNITS, st.integers(1, 2), max_size=3))
        room = draw(st.sampled_from([0, 1, 2, 3]))
        hosts.append(host(f"h{n}", *resident, calls=calls, room=room, here_s=draw(st.floats(0, 30))))
    return tuple(hosts)


@settings(max_examples=300)
@given(st.lists(LINES, max_size=8), host_lists())
def test_no_host_is_to_load_more_than_one_model_that_pushes_others_out(
    lines: list[WaitingLine], hosts: tuple[HostFacts, ...]
) -> None:
    decision = plan(*lines, on=hosts)
    by_name = {each.name: each for each in hosts}
    for name, facts in by_name.items():
        cold = {row.line[2:] for row in decision.rows for p in row.places if p.host == name and p.is_cold}
        if facts.room:
            assert len(cold) <= max(1, facts.room - len(facts.units)), "bounded swaps"
        if cold and 0 < facts.room < len(facts.units | cold):
            fed = {row.line[2:] for row in decision.rows for p in row.places if p.host == name}
            assert fed <= cold | (set(facts.calls) - set(facts.resident)), "what is pushed out gets no more calls"


@settings(max_examples=300)
@given(st.lists(LINES, min_size=1, max_size=8), host_lists())
def test_hosts_with_nothing_to_do_do_not_stand_idle(lines: list[WaitingLine], hosts: tuple[HostFacts, ...]) -> None:
    """Work conservation: with all hosts idle, or with room, something that waits may start."""
    idle = tuple(host(each.name, *each.resident, room=each.room) for each in hosts)
    assert plan(*lines, on=idle).rows


@settings(max_examples=300)
@given(st.lists(LINES, min_size=1, max_size=8), host_lists())
def test_nobody_waits_for_ever(lines: list[WaitingLine], hosts: tuple[HostFacts, ...]) -> None:
    """Starvation: once patience and residency are over, the first due of those that no host has is loaded, unless
    something is being loaded. Who makes room for it is among them then."""
    later = NOW + 100_000
    decision = decide(lines, [], hosts, later, KNOBS)
    wanted = demands(lines, KNOBS, turns({unit_in(each.name) for each in lines}, hosts)).values()
    cold = [d for d in wanted if not any(each.has(d.unit) for each in hosts)]
    is_loading = any(set(each.calls) - set(each.resident) for each in hosts)
    if cold and not is_loading:
        first = min(cold, key=lambda d: (d.due_ms, d.unit)).unit
        before = [d.unit for d in wanted if any(each.has(d.unit) for each in hosts)]
        taken = {row.line[2:] for row in decision.rows if any(place.is_cold for place in row.places)}
        assert first in taken or taken & set(before), "or one that has too few hosts goes first"


@settings(max_examples=300)
@given(st.lists(LINES, max_size=8), host_lists(), st.randoms())
def test_all_workers_make_the_same_plan(lines: list[WaitingLine], hosts: tuple[HostFacts, ...], chance: object) -> None:
    shuffled = sorted(lines, key=lambda each: (each.name, each.priority, each.since_ms, each.waiting), reverse=True)
    one, other = plan(*lines, on=hosts), plan(*shuffled, on=hosts)
    assert {row.line: row for row in one.rows} == {row.line: row for row in other.rows}


@settings(max_examples=200)
@given(st.lists(LINES, min_size=1, max_size=8), host_lists())
def test_a_plan_that_will_change_says_when(lines: list[WaitingLine], hosts: tuple[HostFacts, ...]) -> None:
    before = decide(lines, [], hosts, NOW, KNOBS)
    assert before.changes_ms > NOW
    if before.changes_ms == float("inf"):
        after = decide(lines, [], hosts, NOW + 10**9, KNOBS)
    else:
        after = decide(lines, [], hosts, before.changes_ms - 1, KNOBS)
    assert where(before) == where(after)
