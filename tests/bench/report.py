"""The figures as a table: on the terminal, and as `docs/results/bench.md`."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench.bars import FIGURES, Figure, judge, limit_text
from tests.bench.catalogue import PEERS
from tests.bench.figures import spread
from tests.bench.runner import Results
from tests.house.requirements import ROOT

TITLES = {
    "arriero": "Arriero", "arriero-aof": "Arriero, AOF", "arq": "arq tuned", "bullmq": "BullMQ", "litellm": "LiteLLM",
    "portkey": "Portkey", "bare-proxy": "bare aiohttp proxy", "bare-parse": "aiohttp, parsing only",
    "bare-arq": "aiohttp and stock arq", "direct": "no gateway",
}  # fmt: skip
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
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def lines(results: Results, rows: tuple[str, ...]) -> list[Line]:
    """The measured figures of these rows."""
    return [_line(figure, results) for figure in FIGURES if figure.row in rows]


def _line(figure: Figure, results: Results) -> Line:
    medians = results.medians(figure)
    own = medians.get(figure.subject)
    peers = []
    for peer, value in medians.items():
        if peer != figure.subject:
            ratio = f" ({number(own / value)} x)" if own is not None and value else ""
            peers.append(f"{TITLES[peer]} {number(value)}{ratio}")
    return Line(
        figure=figure,
        own="-" if own is None else number(own),
        peers=peers,
        must=limit_text(figure, figure.must),
        must_verdict=judge(figure, figure.must, medians) if figure.must else "",
        aim=limit_text(figure, figure.aim),
        aim_verdict=judge(figure, figure.aim, medians) if figure.aim else "",
    )


def print_table(console: Console, judged: list[Line]) -> None:
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


def markdown(results: Results, judged: list[Line], *, runs: int, append_only: bool, load: float) -> str:
    """The whole page."""
    parts = [
        "# Speed, side by side",
        "",
        "Written by `make bench`; do not edit. Absolute figures depend on the machine and on what else it does; the",
        "peers took turns in one run, so the ratios are what counts. A stub upstream answers in hundredths of a",
        "millisecond: what is left is the road itself. In brackets: Arriero's figure divided by the peer's.",
        "",
        *_facts(results, runs=runs, append_only=append_only, load=load),
        "",
        "| Row | Figure | Unit | Arriero | Peers | Must | | Aim | |",
        "|---|---|---|---:|---|---|---|---|---|",
    ]
    for line in judged:
        cells = [line.figure.row, line.figure.label, line.figure.unit, f"**{line.own}**", "<br>".join(line.peers)]
        cells += [line.must, line.must_verdict, line.aim, line.aim_verdict]
        parts.append(f"| {' | '.join(cells)} |")
    parts += ["", "## Every run", "", "| Row | Figure | Who | Median | Least | Most | Runs |"]
    parts.append("|---|---|---|---:|---:|---:|---|")
    for line in judged:
        for peer, values in results.of(line.figure).items():
            seen = spread(values)
            cells = [line.figure.row, f"{line.figure.label}, {line.figure.unit}", TITLES[peer]]
            cells += [number(seen.median), number(seen.low), number(seen.high), ", ".join(map(number, values))]
            parts.append(f"| {' | '.join(cells)} |")
    if results.problems:
        parts += [
            "",
            "## Not measured",
            "",
            *(f"- {what}: {_placeless(why)}" for what, why in results.problems.items()),
        ]
    return "\n".join(parts) + "\n"


def _placeless(text: str) -> str:
    """Without this machine's directories, which mean nothing to a reader of the page."""
    return text.replace(str(ROOT), ".").replace(str(Path.home()), "~")


def _facts(results: Results, *, runs: int, append_only: bool, load: float) -> list[str]:
    packages = [package for peer in PEERS.values() for package in peer.packages[:1]]
    persistence = "append-only file, everysec" if append_only else "without persistence"
    facts = {
        "Date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "Commit": _commit(),
        "Machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs, load {load:.1f} at the start",
        "Python": f"{platform.python_implementation()} {platform.python_version()} (uvloop on both sides)",
        "Node": _output(["node", "--version"]) or "none",
        "Redis": f"{results.redis_version}, {persistence}, loopback",
        "Peers": ", ".join(packages),
        "Runs": f"{runs}, medians",
    }
    return [f"- {name}: {value}" for name, value in facts.items()]


def _commit() -> str:
    commit = _output(["git", "rev-parse", "--short=12", "HEAD"])
    # The page itself and other results may differ; changed sources may not pass silently.
    changed = _output(["git", "status", "--porcelain", "--", ":!docs/results"])
    return (commit or "unknown") + (" with uncommitted changes" if changed else "")


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def write_page(path: Path, page: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page)
