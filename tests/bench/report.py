"""The figures as a table: on the terminal, and as a page of `docs/results`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench.bars import Figure, judge, limit_text
from tests.bench.facts import Facts
from tests.bench.figures import spread
from tests.bench.queue_programs import QUEUES
from tests.bench.rows import FIGURES, NOTES, Page
from tests.bench.runner import Results
from tests.bench.titles import TITLES
from tests.house.requirements import ROOT

WIDTH = 120
_READING = (
    "Absolute figures depend on the machine and on what else it does. In brackets: Arriero's figure divided by the "
    "other's. Percentiles, memory and the like are of one run; a figure is the median of the runs."
)
_COLOURS = {"holds": "green", "missed": "red", "no figure": "yellow"}


@dataclass(slots=True, frozen=True, kw_only=True)
class Line:
    """One figure, judged, as text."""

    figure: Figure
    own: str
    peers: list[str]
    must: str
    must_verdict: str
    aim: str
    aim_verdict: str


def number(value: float) -> str:
    """Three significant figures, or whole from a thousand on."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def lines(results: Results, rows: Sequence[str]) -> list[Line]:
    """The measured figures of these rows."""
    return [_line(figure, results) for figure in FIGURES if figure.row in rows]


def _line(figure: Figure, results: Results) -> Line:
    medians, compared = results.medians(figure), results.compared(figure)
    own = medians.get(figure.subject)
    peers = []
    for peer, value in medians.items():
        if peer != figure.subject:
            ratio = f" ({number(compared[figure.subject] / compared[peer])} x)" if own is not None and value else ""
            peers.append(f"{TITLES[peer]} {number(value)}{ratio}")
    return Line(
        figure=figure,
        own="-" if own is None else number(own),
        peers=peers,
        must=limit_text(figure, figure.must),
        must_verdict=judge(figure, figure.must, compared) if figure.must else "",
        aim=limit_text(figure, figure.aim),
        aim_verdict=judge(figure, figure.aim, compared) if figure.aim else "",
    )


def print_table(console: Console, judged: Sequence[Line]) -> None:
    table = Table(title="Arriero beside its peers (medians; in brackets Arriero / peer)", show_lines=True)
    for heading in ("Row", "Figure", "Arriero", "Peers", "Must", "Aim"):
        table.add_column(heading, justify="right" if heading == "Arriero" else "left")
    for line in judged:
        table.add_row(
            line.figure.row,
            f"{line.figure.label} [dim]{line.figure.unit}[/]",
            f"[bold]{line.own}[/]",
            "\n".join(line.peers),
            _coloured(line.must, line.must_verdict),
            _coloured(line.aim, line.aim_verdict),
        )
    console.print(table)


def _coloured(bar: str, verdict: str) -> str:
    return f"{bar}\n[{_COLOURS[verdict]}]{verdict}[/]" if verdict else ""


def markdown(page: Page, results: Results, facts: Facts, plots: Sequence[str]) -> str:
    """The whole page. `plots` are files beside it."""
    judged = lines(results, page.rows)
    parts = [
        f"# {page.title}",
        "",
        textwrap.fill(f"Written by `{page.command}`; do not edit. {page.intro} {_READING}", WIDTH),
        "",
        *(f"- {name}: {text}" for name, text in facts.lines),
        "",
        *_table(("Row", "Figure", "Unit", "Arriero", "Beside it", "Must", "", "Aim", ""), map(_cells, judged), right=3),
        *(text for name in plots for text in ("", f"![{name.removesuffix('.svg')}]({name})")),
        "",
        "## Every run",
        "",
        *_table(("Row", "Figure", "Who", "Median", "Least", "Most", "Runs"), _runs(results, judged), right=3),
        *_settings(judged, results),
        *(text for row in _measured(judged, results) for text in _note(row)),
    ]
    problems = results.problems_of(line.figure.scenario for line in judged)
    if problems:
        parts += ["", "## Not measured", "", *(f"- {what}: {_placeless(why)}" for what, why in problems.items())]
    return "\n".join(parts) + "\n"


def _cells(line: Line) -> list[str]:
    own, peers = f"**{line.own}**", "<br>".join(line.peers)
    figure = line.figure
    return [figure.row, figure.label, figure.unit, own, peers, line.must, line.must_verdict, line.aim, line.aim_verdict]


def _runs(results: Results, judged: Sequence[Line]) -> list[list[str]]:
    rows = []
    for line in judged:
        for peer, values in results.of(line.figure).items():
            seen = spread(values)
            row = [line.figure.row, f"{line.figure.label}, {line.figure.unit}", TITLES[peer]]
            rows.append([*row, *map(number, (seen.median, seen.low, seen.high)), ", ".join(map(number, values))])
    return rows


def _settings(judged: Sequence[Line], results: Results) -> list[str]:
    """With what the queues ran; nothing on a page without queues."""
    seen = {peer for line in judged for peer in results.values.get(line.figure.scenario, {})}
    if len(seen & set(QUEUES)) < 2:
        return []
    rows = [[TITLES[name], queue.settings, f"{queue.share:.0%}"] for name, queue in QUEUES.items() if name in seen]
    head = ("Queue", "Settings: the fastest that its documentation offers, unless it says stock", "Jobs of a run")
    return ["", "## How the queues were set", "", *_table(head, rows, right=2)]


def _measured(judged: Sequence[Line], results: Results) -> list[str]:
    return list(dict.fromkeys(line.figure.row for line in judged if results.of(line.figure)))


def _note(row: str) -> list[str]:
    return ["", f"## How row {row} was set", "", textwrap.fill(NOTES[row], WIDTH)] if row in NOTES else []


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], *, right: int) -> list[str]:
    """Markdown; the column `right` is aligned to the right."""
    rule = "|".join("---:" if index == right else "---" for index in range(len(head)))
    return [f"| {' | '.join(head)} |", f"|{rule}|", *(f"| {' | '.join(row)} |" for row in rows)]


def _placeless(text: str) -> str:
    """Without this machine's directories, which mean nothing to a reader of the page."""
    return text.replace(str(ROOT), ".").replace(str(Path.home()), "~")
