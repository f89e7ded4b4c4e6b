"""What is measured, whom it is compared with, and where it is written fit together."""

from __future__ import annotations

import pytest
import typer

from tests.bench.__main__ import chosen_rows, whole_pages
from tests.bench.catalogue import HOSTED_BY, PEERS, package_of
from tests.bench.plots import PLOTS
from tests.bench.queue_programs import QUEUES
from tests.bench.rows import FIGURES, PAGES, ROWS
from tests.bench.scenarios import SCENARIOS, SideBySide
from tests.bench.titles import TITLES


def test_every_bar_names_a_peer_that_takes_its_turn() -> None:
    for figure in FIGURES:
        peers = SCENARIOS[figure.scenario].peers
        assert figure.subject in peers
        assert {limit.of for limit in (*figure.must, *figure.aim) if limit.of} <= set(peers)


def test_every_peer_has_a_title_and_what_it_runs_in() -> None:
    peers = {peer for scenario in SCENARIOS.values() for peer in scenario.peers}
    assert peers == set(TITLES)
    assert {package_of(peer) for peer in peers} - {""} == set(PEERS)
    assert set(HOSTED_BY) <= peers
    assert {package_of(queue) or queue for queue in QUEUES} <= {*PEERS, "arriero"}


def test_every_package_is_pinned_to_one_version() -> None:
    for peer in PEERS.values():
        pin = "==" if peer.ecosystem == "python" else "@"
        assert all(pin in package[1:] for package in peer.packages)


def test_every_row_is_written_to_a_page_and_every_plot_has_a_figure() -> None:
    assert {row for page in PAGES.values() for row in page.rows} == set(ROWS)
    figures = {(figure.scenario, figure.key) for figure in FIGURES}
    assert {(plot.scenario, key) for plot in PLOTS for _, key in plot.series} <= figures


def test_peers_take_turns_one_by_one_or_all_together() -> None:
    alone, together = SCENARIOS["intake"], SCENARIOS["append-only"]
    assert alone.turns(["bare-parse", "arriero"]) == [("bare-parse",), ("arriero",)]
    assert together.turns(["arriero", "arriero-aof"]) == [("arriero", "arriero-aof")]
    # What failed is left out of the turns to come, and so is what it would be compared with.
    assert together.turns([]) == []


def test_a_paired_figure_has_one_peer_that_is_measured_beside_it() -> None:
    paired = [figure for figure in FIGURES if figure.paired]
    assert paired
    for figure in paired:
        scenario = SCENARIOS[figure.scenario]
        assert isinstance(scenario, SideBySide)
        assert len(scenario.peers) == 2
        assert all(limit.of for limit in (*figure.must, *figure.aim))


def test_rows_are_chosen_by_name_by_page_or_all() -> None:
    assert chosen_rows("g2, q1") == ("Q1", "G2")
    assert chosen_rows("depth,M1") == ("M1", "D1")
    assert chosen_rows("clients") == ("clients",)
    assert chosen_rows("all") == ROWS
    with pytest.raises(typer.BadParameter, match="no such row: Q9"):
        chosen_rows("Q1,Q9")


def test_a_page_is_written_when_all_its_rows_had_their_runs() -> None:
    assert whole_pages(PAGES["speed"].rows, 5) == [PAGES["speed"]]
    assert not whole_pages(PAGES["speed"].rows, 4)
    assert not whole_pages(PAGES["speed"].rows[:-1], 5)
    assert whole_pages(PAGES["memory"].rows, 1) == [PAGES["memory"]]
