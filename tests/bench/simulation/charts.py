"""The plots' data; `draw.py` draws them in an environment that has matplotlib."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from shared.jobs import Priority
from tests.bench.catalogue import PLOTTER, cache_directory, ensure_installed, peer_python
from tests.bench.processes import Children
from tests.bench.simulation import acceptance, fleet
from tests.bench.simulation.policies import POLICIES
from tests.bench.simulation.redis_cost import Costs

DRAW_TIMEOUT_S = 120.0
RATES_PER_S = (100, 300, 1_000, 3_000, 10_000, 30_000)


class Series(msgspec.Struct, frozen=True):
    """Points of a line, or a bar's length (`y`) at each name (`x`)."""

    label: str
    x: list[float] | list[str]
    y: list[float]


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """`marks` are (label, x) of vertical lines."""

    name: str
    kind: Literal["lines", "bars"]
    title: str
    x: str
    y: str
    stamp: str
    series: list[Series]
    is_log: bool = False
    marks: list[tuple[str, float]] = []


def limits(sweep: Mapping[tuple[float, float], acceptance.Case], stamp: str) -> list[Chart]:
    """What becomes of the acceptance case when no job is to wait for longer than a limit."""
    cycle = [("shortest cycle of all models", acceptance.shortest_cycle_s())]
    x, found = "limit on the wait for a model that is not in memory, all classes, s", []
    for name, title, y, of in (
        ("scheduling-total", "One host, four models: time for 500 jobs", "s", _total_s),
        ("scheduling-longest", "The same: longest wait for the start", "s",
         _longest_s),
    ):  # fmt: skip
        series = [
            Series(
                f"least residency {residency_s:g} s", list(acceptance.LIMITS_S),
                [of(sweep[residency_s, limit_s]) for limit_s in acceptance.LIMITS_S],
            )
            for residency_s in acceptance.RESIDENCIES_S
        ]  # fmt: skip
        found.append(
            Chart(name=name, kind="lines", title=title, x=x, y=y, stamp=stamp, series=series, is_log=True, marks=cycle)
        )
    return found


def _total_s(case: acceptance.Case) -> float:
    return case.total_s.median


def _longest_s(case: acceptance.Case) -> float:
    return max(each.median for each in case.longest_s.values())


def fleets(results: Mapping[fleet.Case, fleet.Result], stamp: str) -> list[Chart]:
    names = [label(case) for case in results]
    waits = [
        Series(f"{priority}, p{share * 100:.0f}", names, [each.wait_s(priority, share) for each in results.values()])
        for priority in (Priority.HIGH, Priority.NORMAL)
        for share in (0.5, 0.99)
    ]
    head = f"{fleet.HOSTS:,} hosts, {fleet.JOBS_PER_S:,.0f} jobs/s offered"
    swaps = [each.swaps_per_1000 for each in results.values()]
    used = [100 * each.utilisation for each in results.values()]
    return [
        Chart(name="scheduling-waits", kind="bars", title=f"{head}: wait until served", x="s", y="", stamp=stamp,
              series=waits),
        Chart(name="scheduling-swaps", kind="bars", title=f"{head}: model loads", x="loads per 1,000 jobs done", y="",
              stamp=stamp, series=[Series("loads", names, swaps)]),
        Chart(name="scheduling-utilisation", kind="bars", title=f"{head}: what the hosts do", y="", stamp=stamp,
              x=f"% of their call slots at work ({fleet.UTILISATION:.0%} is all that is offered)",
              series=[Series("at work", names, used)]),
    ]  # fmt: skip


def label(case: fleet.Case) -> str:
    return f"{POLICIES[case.policy].title}\n{case.shards} shards by {case.by}"


def redis_load(costs: Costs, stamp: str) -> Chart:
    """How many of Redis' single threads a rate of jobs takes, so how many shards."""
    series = [
        Series(what, [float(rate) for rate in RATES_PER_S], [rate * us / 1e6 for rate in RATES_PER_S])
        for what, us in cpu_us_by_kind(costs).items()
    ]
    return Chart(
        name="scheduling-redis", kind="lines", title="Redis threads that a rate of jobs takes (arithmetic)",
        x="jobs/s", y="threads, each wholly busy", stamp=stamp, series=series, is_log=True,
    )  # fmt: skip


def cpu_us_by_kind(costs: Costs) -> dict[str, float]:
    """Redis' time for one job in the cases that the arithmetic is about, microseconds."""
    by_what = {cost.what: cost.cpu_us for cost in costs.jobs}
    queue_only = by_what["enqueue, 50 callers"] + by_what["claim, run and settle, 500 at once"]
    chat = by_what["chat, 32 clients"]
    worst = max(costs.claims, key=lambda cost: (cost.lines, cost.classes, -abs(cost.hosts - 20)))
    alone = by_what["chat, 1 client"]
    return {
        "queue only, calls shared by many jobs": queue_only,
        "chats, 32 clients": chat,
        "chats, one at a time": alone,
        f"chats, each claimed alone from {worst.lines} lines of {worst.classes} classes, with a view": chat
        + worst.claim_us
        + worst.view_us,
    }


def draw(charts: Sequence[Chart], folder: Path, scratch: Path, say: Callable[[str], None]) -> list[str]:
    """Write an SVG for each; their file names. Raises PeerUnavailable and BenchError."""
    python = peer_python(ensure_installed(PLOTTER, cache_directory(), say))
    data = scratch / "charts.json"
    data.write_bytes(msgspec.json.encode(charts))
    command = [str(python), "-m", "tests.bench.simulation.draw", str(data), str(folder)]
    with Children(scratch) as children:
        children.answer("draw", command, timeout_s=DRAW_TIMEOUT_S)
    return [f"{chart.name}.svg" for chart in charts]
