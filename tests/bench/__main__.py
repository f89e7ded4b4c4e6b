"""`python -m tests.bench`: measure Arriero beside its peers, print the table, write `docs/results/bench.md`.

Exit status: 0 when every measured "must" holds, 1 when one is missed, 2 when something could not be measured.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tests.bench.bars import FULL_RUNS, ROWS, SLOW_ROWS
from tests.bench.processes import BenchError
from tests.bench.report import lines, markdown, print_table, write_page
from tests.bench.runner import measure
from tests.bench.scenarios import FULL, QUICK
from tests.house.requirements import ROOT

PAGE = ROOT / "docs" / "results" / "bench.md"
PLAIN_WIDTH = 160
"""Columns when the output goes to a file or a pipe."""
DEFAULT_ROWS = tuple(row for row in ROWS if row not in SLOW_ROWS)
DEFAULT_ROWS_TEXT = ", ".join(DEFAULT_ROWS)


def chosen_rows(text: str) -> tuple[str, ...]:
    """Rows from `Q1,G2`, `all`, or nothing for those that do not take long. Raises typer.BadParameter."""
    if not text:
        return DEFAULT_ROWS
    if text.lower() == "all":
        return ROWS
    wanted = {row.strip().upper() for row in text.split(",")}
    if unknown := wanted - set(ROWS):
        raise typer.BadParameter(f"no such row: {', '.join(sorted(unknown))}. There are {', '.join(ROWS)}, or all.")
    return tuple(row for row in ROWS if row in wanted)


def main(
    rows: Annotated[str, typer.Option(help=f"Rows to measure, e.g. Q1,G2, or all. Default: {DEFAULT_ROWS_TEXT}.")] = "",
    runs: Annotated[int, typer.Option(min=1, help="Turns for each peer.")] = FULL_RUNS,
    quick: Annotated[
        bool, typer.Option(help="One run of small sizes: shows that it works, no figures to keep.")
    ] = False,
    aof: Annotated[bool, typer.Option(help="Run Redis with an append-only file, synced every second.")] = False,
    output: Annotated[Path | None, typer.Option(help="Default: docs/results/bench.md, after a full run only.")] = None,
) -> None:
    """Measure Arriero beside its peers on this machine."""
    # Turned into an exception, so that the processes we started end with us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    wanted = chosen_rows(rows)
    runs = 1 if quick else runs
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="arriero-bench-") as scratch:
        try:
            sizes = QUICK if quick else FULL
            results = measure(wanted, runs=runs, sizes=sizes, append_only=aof, scratch=Path(scratch), say=console.print)
        except BenchError as exc:
            console.print(f"[red]The benchmark could not run:[/] {exc}")
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            console.print("Stopped; every process it started has ended.")
            raise typer.Exit(130) from None
    judged = lines(results, wanted)
    print_table(console, judged)
    complete = not quick and runs >= FULL_RUNS and set(DEFAULT_ROWS) <= set(wanted) and not aof
    target = output or (PAGE if complete else None)
    if target is None:
        page = PAGE.relative_to(ROOT)
        console.print(f"Not written to {page}: that takes all of {DEFAULT_ROWS_TEXT} and at least {FULL_RUNS} runs.")
    else:
        write_page(target, markdown(results, judged, runs=runs, append_only=aof, load=load))
        console.print(f"Written to {target}")
    verdicts = {line.must_verdict for line in judged}
    raise typer.Exit(1 if "missed" in verdicts else 2 if results.problems or "no figure" in verdicts else 0)


if __name__ == "__main__":
    typer.run(main)
