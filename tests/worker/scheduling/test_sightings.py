"""From sightings to facts: under which names models are in a host's memory."""

from __future__ import annotations

import pytest

from shared.queue.sightings import Resident, Sighting, next_sighting, read_sighting
from worker.scheduling.planner import residents

NOW_S = 1_000.0
NOW_MS = 1_000_000


def resident(model: str, context: int = 4096, *, since: float = 900.0, until: float = 2_000.0) -> Resident:
    return Resident(model, context, since=since, until=until)


@pytest.mark.parametrize(
    ("known", "called", "units"),
    [
        (["a"], [], ["a"]),
        (["a", "a#4096", "a#8192"], [], ["a", "a#4096"]),
        (["a#8192"], [], ["a"]),
        (["a#200000"], ["a#200000"], ["a#200000"]),
        (["box~a"], [], ["box~a"]),
    ],
)
def test_a_model_is_there_as_each_unit_that_it_can_be_used_as(
    known: list[str], called: list[str], units: list[str]
) -> None:
    assert residents(Sighting(NOW_S, [resident("a")]), known, called, NOW_MS) == dict.fromkeys(units, 900_000)


def test_what_nobody_used_in_time_has_left() -> None:
    seen = Sighting(NOW_S - 5, [resident("a", until=999.0), resident("b", until=0.0), resident("c", until=990.0)])
    assert residents(seen, [], [], NOW_MS) == {"b": 900_000, "c": 900_000}, "c was there after its time: another clock"


def test_a_model_pushed_out_by_another_shows_how_much_a_memory_holds() -> None:
    first = next_sighting(None, NOW_S, [resident("a"), resident("b")])
    assert first.room == 0
    swapped = next_sighting(first, NOW_S + 2, [resident("b"), resident("c")])
    assert (swapped.room, [r.since for r in swapped.residents]) == (2, [NOW_S, NOW_S + 2])
    more = next_sighting(swapped, NOW_S + 4, [resident("a"), resident("b"), resident("c")])
    assert more.room == 3, "it holds more than was thought"


def test_a_model_loaded_anew_for_another_context_pushed_nothing_out() -> None:
    first = next_sighting(None, NOW_S, [resident("a")])
    assert next_sighting(first, NOW_S + 2, [resident("a", 8192)]).room == 0


def test_a_model_that_left_in_its_own_time_or_alone_says_nothing() -> None:
    first = next_sighting(None, NOW_S, [resident("a", until=NOW_S + 1)])
    assert next_sighting(first, NOW_S + 2, [resident("b")]).room == 0
    unloaded = next_sighting(next_sighting(None, NOW_S, [resident("a"), resident("b")]), NOW_S + 2, [resident("b")])
    assert unloaded.room == 0


def test_a_sighting_of_another_release_is_none() -> None:
    assert read_sighting(b"\xc1") is None
    seen = Sighting(NOW_S, [resident("a")], room=2)
    assert read_sighting(seen.packed()) == seen
