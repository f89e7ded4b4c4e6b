"""`python -m tests.bench.simulation`: simulate the scheduling, measure what it costs, write `docs/results/scheduling*`.

Simulated time needs no quiet machine; the measured costs do. Exit status 2 when something could not be measured.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from shared.jobs import Priority
from tests.bench import facts
from tests.bench.catalogue import PeerUnavailable
from tests.bench.processes import BenchError
from tests.bench.runner import Results
from tests.bench.simulation import acceptance, charts, fleet, plan_cost, redis_cost
from tests.bench.simulation.policies import POLICIES
from tests.bench.simulation.report import Findings, markdown
from tests.house.requirements import ROOT

FOLDER = ROOT / "docs" / "results"
SEEDS = 20
_KEPT_FACTS = ("Date", "Commit", "Machine", "Python", "Redis")
HIGH_FIRST = acceptance.DEFAULTS | {Priority.HIGH: acceptance.SHORT[Priority.HIGH]}
"""Only high has a limit that is shorter than a cycle."""


def acceptance_cases(seeds: range) -> list[tuple[str, str, acceptance.Case]]:
    """(what, settings, figures)."""
    plain = [
        (POLICIES[name].title, "-", acceptance.run(name, seeds, acceptance.DEFAULTS, acceptance.RESIDENCY_S))
        for name in ("fifo", "classes", "warm-first")
    ]
    chosen = [
        (acceptance.DEFAULTS, acceptance.RESIDENCY_S),
        (acceptance.SHORT, acceptance.RESIDENCY_S),
        *((HIGH_FIRST, residency_s) for residency_s in (acceptance.RESIDENCY_S, acceptance.LOAD_S, 0.0)),
    ]
    return plain + [
        (
            POLICIES["affinity"].title,
            acceptance.settings(limits_s, residency_s),
            acceptance.run("affinity", seeds, limits_s, residency_s),
        )
        for limits_s, residency_s in chosen
    ]


def main(
    seeds: Annotated[int, typer.Option(min=1, help="Runs of the case with one host.")] = SEEDS,
    shards: Annotated[int, typer.Option(min=0, help="Simulate only so many shards of the fleet; 0: all.")] = 0,
    output: Annotated[Path, typer.Option(help="Write page and plots there.")] = FOLDER,
) -> None:
    """Simulate the scheduling and measure what it costs."""
    console, load = Console(highlight=False), os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="arriero-simulation-") as name:
        scratch = Path(name)
        try:
            costs = redis_cost.measure(scratch, console.print)
            gathered = facts.gather(
                Results(redis_version=costs.redis), runs=seeds, append_only=False, load=load, peers=(), quick=False
            )
            found = Findings(
                facts=[(what, text) for what, text in gathered.lines if what in _KEPT_FACTS],
                seeds=seeds,
                plans=plan_cost.plan_costs(),
                costs=costs,
                cases=acceptance_cases(range(seeds)),
                sweep=acceptance.sweep(range(seeds)),
                fleets={case: fleet.run(case, console.print, only=shards) for case in fleet.CASES},
            )
            stamp = gathered.stamp.rpartition(",")[0]
            drawn = [
                *charts.limits(found.sweep, stamp), *charts.fleets(found.fleets, stamp), charts.redis_load(costs, stamp)
            ]  # fmt: skip
            output.mkdir(parents=True, exist_ok=True)
            try:
                plots = charts.draw(drawn, output, scratch, console.print)
            except (PeerUnavailable, BenchError) as exc:
                plots = []
                console.print(f"[yellow]without plots:[/] {exc}")
        except BenchError as exc:
            console.print(f"[red]could not be measured:[/] {exc}")
            raise typer.Exit(2) from None
        (output / "scheduling.md").write_text(markdown(found, plots))
        console.print(f"Written to {output / 'scheduling.md'}")


if __name__ == "__main__":
    typer.run(main)
