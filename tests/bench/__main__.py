"""`python -m tests.bench`: measure Arriero beside its peers, print the table, write `docs/results/bench*.md`.

Exit status: 0 when every measured "must" holds, 1 when one is missed, 2 when something could not be measured.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tests.bench import facts, plots
from tests.bench.catalogue import PeerUnavailable, package_of
from tests.bench.processes import BenchError
from tests.bench.report import lines, markdown, print_table
from tests.bench.rows import PAGES, ROWS, Page
from tests.bench.runner import Results, measure
from tests.bench.workbench import FULL, QUICK
from tests.house.requirements import ROOT

FOLDER = ROOT / "docs" / "results"
FULL_RUNS = 5
PLAIN_WIDTH = 160
"""Columns when the output goes to a file or a pipe."""


def chosen_rows(text: str) -> tuple[str, ...]:
    """Rows from `Q1,G2`, `depth` (those of a page) or `all`. Raises typer.BadParameter."""
    wanted: set[str] = set()
    rows = {row.casefold(): (row,) for row in ROWS} | {name: page.rows for name, page in PAGES.items()} | {"all": ROWS}
    for word in text.split(","):
        if (key := word.strip().casefold()) not in rows:
            raise typer.BadParameter(f"no such row: {word.strip()}. There are {', '.join((*ROWS, *PAGES))} and all.")
        wanted |= set(rows[key])
    return tuple(row for row in ROWS if row in wanted)


def whole_pages(rows: Sequence[str], runs: int) -> list[Page]:
    """The pages that such a run fills."""
    return [page for page in PAGES.values() if set(page.rows) <= set(rows) and runs >= page.runs]


def main(
    rows: Annotated[
        str, typer.Option(help=f"Rows to measure, as Q1,G2, or those of a page: {', '.join(PAGES)}; or all.")
    ] = "speed",
    runs: Annotated[int, typer.Option(min=1, help="Turns for each peer.")] = FULL_RUNS,
    quick: Annotated[
        bool, typer.Option(help="One run of small sizes: shows that it works, no figures to keep.")
    ] = False,
    aof: Annotated[bool, typer.Option(help="Run Redis with an append-only file, synced every second.")] = False,
    speed: Annotated[float, typer.Option(min=1.0, help="How many times as fast the affinity row runs.")] = 7.0,
    output: Annotated[
        Path | None, typer.Option(help="Write pages and plots there, however few runs. Default: docs/results.")
    ] = None,
) -> None:
    """Measure Arriero beside its peers on this machine."""
    # Turned into an exception, so that the processes we started end with us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    wanted = chosen_rows(rows)
    runs = 1 if quick else runs
    sizes = replace(QUICK if quick else FULL, affinity_speed=speed)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="arriero-bench-") as name:
        scratch = Path(name)
        try:
            results = measure(wanted, runs=runs, sizes=sizes, append_only=aof, scratch=scratch, say=console.print)
        except BenchError as exc:
            console.print(f"[red]The benchmark could not run:[/] {exc}")
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            console.print("Stopped; every process it started has ended.")
            raise typer.Exit(130) from None
        judged = lines(results, wanted)
        print_table(console, judged)
        pages = whole_pages(wanted, FULL_RUNS if output else 0 if quick or aof else runs)
        if not pages:
            console.print(f"Nothing written: that takes all rows of a page and {FULL_RUNS} runs, or --output.")
        used = {package_of(peer) for peers in results.values.values() for peer in peers}
        known = facts.gather(results, runs=runs, quick=quick, append_only=aof, load=load, peers=used)
        for page in pages:
            _write(page, results, known, output or FOLDER, scratch, console)
    verdicts = {line.must_verdict for line in judged}
    raise typer.Exit(1 if "missed" in verdicts else 2 if results.problems or "no figure" in verdicts else 0)


def _write(page: Page, results: Results, known: facts.Facts, folder: Path, scratch: Path, console: Console) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    drawn: list[str] = []
    if page.has_plots:
        try:
            drawn = plots.draw(results, known.stamp, folder, scratch, console.print)
        except (PeerUnavailable, BenchError) as exc:
            console.print(f"[yellow]without plots:[/] {exc}")
    (folder / page.file).write_text(markdown(page, results, known, drawn))
    console.print(f"Written to {folder / page.file}")


if __name__ == "__main__":
    typer.run(main)
