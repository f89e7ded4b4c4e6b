"""`python -m tests.chaos`: the whole fault campaign, a table at the end, exit code 1 if a bound was missed."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.chaos.campaign import Campaign
from tests.chaos.document import render, write
from tests.chaos.outcome import Outcome
from tests.chaos.scenarios import SCENARIOS
from tests.house.requirements import ROOT

DEFAULT_PAGE = ROOT / "docs" / "results" / "chaos.md"
COLOURS = {"held": "green", "missed": "red", "-": "dim"}
console = Console()


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Kill, stop and starve real processes.")
    parser.add_argument("--only", default="", metavar="F1,F3", help=f"scenarios to run, of {', '.join(SCENARIOS)}")
    parser.add_argument("--quick", action="store_true", help="few faults each, as in `make test`")
    parser.add_argument("--deep", action="store_true", help="F23 with a million waiting jobs; takes minutes")
    parser.add_argument("--redis-kills", type=int, default=0, metavar="N", help="F6 with N kills, 1 s down or less")
    parser.add_argument("--seed", type=int, default=1, help="of the instants and the load (default 1)")
    parser.add_argument("--out", type=Path, help="page to write (a full run's default: docs/results/chaos.md)")
    parser.add_argument("--logs", type=Path, help="folder that keeps every process's log")
    options = parser.parse_args(argv)
    options.names = [name.strip().upper() for name in options.only.split(",") if name.strip()] or list(SCENARIOS)
    unknown = [name for name in options.names if name not in SCENARIOS]
    if unknown:
        parser.error(f"--only: {', '.join(unknown)} is none of {', '.join(SCENARIOS)}")
    if options.out is None and not options.quick and not options.only:
        options.out = DEFAULT_PAGE
    return options


async def perform(name: str, options: argparse.Namespace, progress: Progress) -> Outcome:
    task = progress.add_task(f"{name}: starting", total=None)

    def say(text: str) -> None:
        progress.update(task, description=f"{name}: {text}")

    began = time.monotonic()
    try:
        campaign = Campaign(
            seed=options.seed, short=options.quick, deep=options.deep, redis_kills=options.redis_kills,
            logs=options.logs, say=say,
        )  # fmt: skip
        outcome = await SCENARIOS[name](campaign)
    except Exception as error:  # one scenario that could not be carried out must not hide the others' results
        outcome = Outcome(name, "could not be carried out")
        outcome.breaches.append(f"{type(error).__name__}: {error}")
        console.print_exception()
    progress.remove_task(task)
    verdict = "[green]held[/]" if outcome.held else "[red]missed[/]"
    progress.console.print(f"{name} {outcome.title}: {verdict}, {time.monotonic() - began:.0f} s")
    return outcome


async def campaign(options: argparse.Namespace) -> list[Outcome]:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        return [await perform(name, options, progress) for name in options.names]


def show(outcomes: list[Outcome]) -> None:
    table = Table("scenario", "what", "n", "figure", "bound", "verdict")
    for outcome in outcomes:
        for line in outcome.lines:
            verdict = f"[{COLOURS[line.verdict]}]{line.verdict}[/]"
            table.add_row(outcome.scenario, line.what, str(line.n), line.figure, line.bound, verdict)
        table.add_section()
    console.print(table)
    for outcome in outcomes:
        for breach in outcome.breaches:
            console.print(f"{outcome.scenario}: {breach}", style="red", markup=False)


def main() -> int:
    options = parse(sys.argv[1:])
    began = time.monotonic()
    try:
        outcomes = asyncio.run(campaign(options))
    except KeyboardInterrupt:
        console.print("Interrupted; every process this run started has been ended.")
        return 130
    seconds = time.monotonic() - began
    show(outcomes)
    if options.out is not None:
        write(options.out, render(outcomes, seed=options.seed, seconds=seconds, short=options.quick))
        console.print(f"Written: {options.out}")
    return 0 if all(outcome.held for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
