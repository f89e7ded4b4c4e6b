"""Repeats the scenarios, the peers taking turns, and keeps every figure of every run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from tests.bench.bars import Figure
from tests.bench.catalogue import PEERS, PeerUnavailable, cache_directory, ensure_installed, package_of
from tests.bench.processes import BenchError, Children
from tests.bench.redis_server import start_redis
from tests.bench.roads import Surroundings, start_stub
from tests.bench.rows import FIGURES
from tests.bench.scenarios import SCENARIOS
from tests.bench.workbench import Bench, Sizes

Say = Callable[[str], None]


@dataclass(slots=True)
class Results:
    """`values[scenario][peer][figure key]` is one value a run; `problems` says what could not be measured and why, by
    peer for one that is not there at all, else by `scenario: peer`.
    """

    values: dict[str, dict[str, dict[str, list[float]]]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    redis_version: str = ""

    def add(self, scenario: str, peer: str, figures: dict[str, float]) -> None:
        kept = self.values.setdefault(scenario, {}).setdefault(peer, {})
        for key, value in figures.items():
            kept.setdefault(key, []).append(value)

    def of(self, figure: Figure) -> dict[str, list[float]]:
        """Each peer's values of one figure, in the peers' turn order."""
        by_peer = self.values.get(figure.scenario, {})
        return {peer: figures[figure.key] for peer, figures in by_peer.items() if figure.key in figures}

    def medians(self, figure: Figure) -> dict[str, float]:
        return {peer: median(values) for peer, values in self.of(figure).items()}

    def compared(self, figure: Figure) -> dict[str, float]:
        """What the subject and its peers are compared by: the medians. Of a paired figure the one peer counts as 1 and
        the subject as the median of the runs' quotients.
        """
        values = self.of(figure)
        if not figure.paired or len(values) < 2:
            return self.medians(figure)
        own = values.pop(figure.subject)
        ((peer, theirs),) = values.items()
        return {figure.subject: median(mine / other for mine, other in zip(own, theirs, strict=True)), peer: 1.0}

    def problems_of(self, scenarios: Iterable[str]) -> dict[str, str]:
        """What concerns these scenarios."""
        wanted = set(scenarios)
        return {what: why for what, why in self.problems.items() if ":" not in what or what.partition(":")[0] in wanted}


def scenarios_for(rows: Sequence[str]) -> list[str]:
    """The scenarios that give the figures of these rows, in the order they are run."""
    wanted = {figure.scenario for figure in FIGURES if figure.row in rows}
    return [name for name in SCENARIOS if name in wanted]


def _install(peers: set[str], say: Say, results: Results) -> dict[str, Path]:
    installed: dict[str, Path] = {}
    needed = {package_of(peer) for peer in peers}
    for name in (name for name in PEERS if name in needed):
        try:
            installed[name] = ensure_installed(PEERS[name], cache_directory(), say)
        except PeerUnavailable as exc:
            results.problems[name] = str(exc)
            say(f"[yellow]without {name}:[/] {exc}")
    return installed


def measure(rows: Sequence[str], *, runs: int, sizes: Sizes, append_only: bool, scratch: Path, say: Say) -> Results:
    """Measure the rows. A peer that fails is reported and left out of its remaining turns; the others go on."""
    results = Results()
    names = scenarios_for(rows)
    installed = _install({peer for name in names for peer in SCENARIOS[name].peers}, say, results)
    with Children(scratch) as children:
        redis = start_redis(children, scratch, append_only=append_only)
        results.redis_version = redis.version()
        around = Surroundings(
            children=children, redis_url=redis.url, stub_url=start_stub(children), peers=installed, scratch=scratch
        )
        bench = Bench(around, redis, sizes)
        for name in names:
            _take_turns(bench, name, runs, say, results)
    return results


def _take_turns(bench: Bench, name: str, runs: int, say: Say, results: Results) -> None:
    scenario = SCENARIOS[name]
    able = [peer for peer in scenario.peers if not package_of(peer) or package_of(peer) in bench.around.peers]
    turns = 1 if scenario.once else runs
    for turn in range(1, turns + 1):
        for peers in scenario.turns(able):
            began = time.monotonic()
            try:
                seen = scenario.take(bench, peers)
            except BenchError as exc:
                for peer in peers:
                    able.remove(peer)
                    results.problems[f"{name}: {peer}"] = str(exc)
                say(f"[red]{name} {turn}/{turns} {', '.join(peers)} failed:[/] {exc}")
                continue
            took_s = time.monotonic() - began
            for peer, figures in seen.items():
                results.add(name, peer, figures)
                shown = ", ".join(f"{key} {value:,.2f}" for key, value in figures.items())
                say(f"[dim]{name} {turn}/{turns}[/] {peer:<11} {shown} [dim]({took_s:.1f} s)[/]")
