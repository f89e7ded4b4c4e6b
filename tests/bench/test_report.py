"""What a page says of the runs besides their figures."""

from __future__ import annotations

from tests.bench.facts import Facts, gather
from tests.bench.report import lines, markdown
from tests.bench.rows import PAGES
from tests.bench.runner import Results


def _results(scenario: str) -> Results:
    results = Results(redis_version="redis 7.0.15")
    results.add(scenario, "arriero", {"drain_per_s": 100.0})
    results.add(scenario, "arriero-aof", {"drain_per_s": 90.0})
    return results


def _redis(results: Results) -> str:
    facts = gather(results, runs=5, quick=False, append_only=False, load=0.0, peers=())
    return dict(facts.lines)["Redis"]


def test_a_row_with_servers_of_its_own_says_how_they_were_set() -> None:
    measured, other = _results("append-only"), _results("throughput")
    pages = [markdown(PAGES["speed"], results, Facts(lines=(), stamp=""), ()) for results in (measured, other)]
    assert ["## How row G6 was set" in page for page in pages] == [True, False]
    assert "| G6 | with AOF everysec: jobs drained | jobs/s | **90** | Arriero 100 (0.9 x) |" in pages[0]


def test_sides_that_were_measured_together_are_compared_run_by_run() -> None:
    results = Results()
    # The machine slowed down, for both sides alike: 0.9, 0.8 and 0.9 of the other; the medians say 0.8.
    for plain, with_file in ((100.0, 90.0), (60.0, 48.0), (50.0, 45.0)):
        results.add("append-only", "arriero", {"drain_per_s": plain})
        results.add("append-only", "arriero-aof", {"drain_per_s": with_file})
    drained = next(line for line in lines(results, ("G6",)) if line.figure.key == "drain_per_s")
    assert (drained.own, drained.peers) == ("48", ["Arriero 60 (0.9 x)"])
    assert (drained.must_verdict, drained.aim_verdict) == ("holds", "missed")


def test_the_server_is_named_as_it_was_for_each_row() -> None:
    apart = "; row G6 on two servers of its own, one with an append-only file, everysec"
    assert _redis(_results("throughput")) == "redis 7.0.15, without persistence, loopback"
    assert _redis(_results("append-only")) == f"redis 7.0.15, without persistence, loopback{apart}"
