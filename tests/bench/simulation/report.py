"""The page of results, `docs/results/scheduling.md`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from shared.jobs import Priority
from tests.bench.figures import Spread
from tests.bench.simulation import acceptance, charts, fleet
from tests.bench.simulation.plan_cost import PlanCost
from tests.bench.simulation.policies import POLICIES
from tests.bench.simulation.redis_cost import Costs
from worker.scheduling.watch import PERIOD_S


@dataclass(slots=True, frozen=True, kw_only=True)
class Findings:
    """All that was simulated and measured. `cases` are (what, settings, figures)."""

    facts: Sequence[tuple[str, str]]
    seeds: int
    cases: Sequence[tuple[str, str, acceptance.Case]]
    sweep: Mapping[tuple[float, float], acceptance.Case]
    fleets: Mapping[fleet.Case, fleet.Result]
    plans: Sequence[PlanCost]
    costs: Costs


def markdown(found: Findings, plots: Sequence[str]) -> str:
    """`plots` are files beside the page."""
    return "\n".join([
        "# Scheduling, simulated",
        "",
        "Written by `make simulate`; do not edit. The policy is the worker's own (`worker/scheduling/policy.py`), the",
        "claim mirrors `shared/queue/lua/claim.lua`, the hosts load models as the simulator does. Time is simulated,",
        "except under \"What planning and Redis cost\".",
        "",
        *(f"- {name}: {text}" for name, text in found.facts),
        "",
        *_acceptance(found),
        *_limits(found),
        *_fleets(found),
        *_costs(found),
        *(text for name in plots for text in ("", f"![{name.removesuffix('.svg')}]({name})")),
    ]) + "\n"  # fmt: skip


def _acceptance(found: Findings) -> list[str]:
    head = ("Policy", "Limits on waits, residency", "Loads", "Total, s", "Longest wait, s: high", "normal", "low")
    rows = [
        [what, settings, _spread(case.loads), _spread(case.total_s)]
        + [_spread(case.longest_s[priority]) for priority in Priority]
        for what, settings, case in found.cases
    ]
    away_s, most_s = acceptance.least_away_s(), acceptance.longest_away_s(acceptance.SHORT)
    return [
        "## One host that holds one model",
        "",
        f"{acceptance.MODELS} models, {acceptance.LOAD_S:g} s to load one, one job at a time of "
        f"{acceptance.JOB_S:g} s, {acceptance.JOBS} jobs at random (Poisson) at "
        f"{acceptance.UTILISATION:.0%} of what the host does without loads; a tenth high, a fifth low. Waits are until "
        f"the start on the host. Limits are those of a host for which {acceptance.TURNS} models wait: "
        f"{acceptance.TURNS} times COLD_WAIT_HIGH, _NORMAL, _LOW. Medians of {found.seeds} seeds, in brackets the "
        "least and the most.",
        "",
        *_table(head, rows, words=2),
        "",
        "Model affinity against what it must reach, with the limits as they are by default and with shorter ones:",
        "",
        *_bars(found),
        "",
        f"With the shorter limits no policy can reach the third. Work takes {acceptance.UTILISATION:.0%} of the "
        f"host's time, so loads may take {1 - acceptance.UTILISATION:.0%}. While one model is away the other "
        f"{acceptance.MODELS - 1} are loaded, {(acceptance.MODELS - 1) * acceptance.LOAD_S:g} s: it has to be away for "
        f"{away_s:.0f} s on average, or the host falls behind. The limit of class {most_s[1]} wants it back after "
        f"{most_s[0]:.0f} s: until the next such job for it comes, the limit, and one job.",
        "",
    ]


def _bars(found: Findings) -> list[str]:
    """What must be reached, and what was, by the limits on waits."""
    cases = {(what, settings): case for what, settings, case in found.cases}
    fifo = cases[POLICIES["fifo"].title, "-"]
    limits = [acceptance.settings(each, acceptance.RESIDENCY_S) for each in (acceptance.DEFAULTS, acceptance.SHORT)]
    ours = [cases[POLICIES["affinity"].title, each] for each in limits]
    bars: tuple[tuple[str, float, Callable[[acceptance.Case], float]], ...] = (
        ("loads / first come, first served's: <= 0.2", 0.2, lambda case: case.loads.median / fifo.loads.median),
        ("total time / the same: <= 0.5", 0.5, lambda case: case.total_s.median / fifo.total_s.median),
        ("longest wait beyond its class' limit and one job, worst seed, s: <= 0", 0.0, lambda case: case.over_s.high),
    )
    rows = [
        [what, *(f"{value:.2f}, {_holds(value <= most)}" for value in map(figure, ours))] for what, most, figure in bars
    ]
    return _table(("Must be", *limits), rows, words=1)


def _holds(it_does: bool) -> str:
    return "holds" if it_does else "missed"


def _limits(found: Findings) -> list[str]:
    cycle_s = acceptance.shortest_cycle_s()
    head = ("Limit, s", *(f"residency {each:g} s: loads" if i == 0 else f"{each:g} s: loads" for i, each in
                          enumerate(acceptance.RESIDENCIES_S)),
            *(f"{each:g} s: total, s" for each in acceptance.RESIDENCIES_S),
            *(f"{each:g} s: beyond limit, s" for each in acceptance.RESIDENCIES_S))  # fmt: skip
    rows = []
    for limit_s in acceptance.LIMITS_S:
        cases = [found.sweep[residency_s, limit_s] for residency_s in acceptance.RESIDENCIES_S]
        rows.append([
            f"{limit_s:g}", *(f"{case.loads.median:g}" for case in cases),
            *(f"{case.total_s.median:.0f}" for case in cases), *(f"{case.over_s.high:+.1f}" for case in cases),
        ])  # fmt: skip
    return [
        "## How short a limit on waits can be",
        "",
        f"All models can be served in turn in n L / (1 - utilisation) = {cycle_s:.1f} s at the shortest; loads then "
        f"take all the time that work leaves, each model is away for {acceptance.least_away_s():.0f} s of it, and a "
        "job that comes just after its model left waits for that long. Chance makes some turns longer, so a limit has "
        "to be well above. The table: model affinity with one limit for all classes, by the least residency of a "
        "model; medians, but the longest wait beyond the limit and one job is that of the worst seed (negative: the "
        "limit held).",
        "",
        *_table(head, rows, words=0),
        "",
        "Without residency, limits below the cycle turn into first come, first served: each load makes others wait "
        "past their limits, and the queue grows. With a residency of five loads the same limits cost nothing, since "
        "they yield to it: models are then served in turn until nobody asks for them, at the shortest cycle there is.",
        "",
    ]


def _fleets(found: Findings) -> list[str]:
    head = ("Policy", "Shards", "By", "Loads per 1,000 jobs", "Done of what came", "Slots at work",
            *(f"{priority} p50 / p99, s" for priority in Priority), "CPU of the simulation, s")  # fmt: skip
    rows = [
        [POLICIES[case.policy].title, str(case.shards), case.by, f"{each.swaps_per_1000:.3g}",
         f"{each.ended / each.arrived:.1%}", f"{each.utilisation:.1%}",
         *(f"{each.wait_s(priority, 0.5):.2f} / {each.wait_s(priority, 0.99):.1f}" for priority in Priority),
         f"{each.cpu_s:.0f}"]
        for case, each in found.fleets.items()
    ]  # fmt: skip
    return [
        f"## {fleet.HOSTS:,} hosts, {fleet.JOBS_PER_S:,.0f} jobs a second",
        "",
        f"{fleet.MODELS} models, the n-th asked for 1/n as often as the first (Zipf). A host holds {fleet.ROOM} models "
        f"and runs {fleet.HOST_CALLS} calls at a time, of {fleet.JOB_S:.2f} s on average (exponential), so that "
        f"{fleet.UTILISATION:.0%} of the slots are asked for; a load takes {fleet.LOAD_S:g} s. At the start the hosts "
        f"hold models by popularity. {fleet.MEASURED_S:g} s after a warm-up of {fleet.WARM_UP_S:g} s; shards share "
        "nothing. Waits are until the model is in memory and the call begins; who still waits at the end counts with "
        "the wait so far, so where fewer jobs are done than came, waits grow with the length of the run. "
        '"By tenant": every shard sees all models. "By model": a shard sees as few as can be. That a model is loaded '
        "is known at once here; a worker knows it from the first answer, or from a look into the host's memory, at "
        f"most {PERIOD_S:g} s later.",
        "",
        *_table(head, rows, words=1),
        "",
    ]


def _costs(found: Findings) -> list[str]:
    jobs = [
        [each.what, f"{each.scripts:.2f}", f"{each.waits:.2f}", f"{each.commands:.0f}", f"{each.bytes_in:,.0f}",
         f"{each.bytes_out:,.0f}", f"{each.cpu_us:.0f}", f"{each.jobs_per_core_s:,.0f}"]
        for each in found.costs.jobs
    ]  # fmt: skip
    claims = [
        [str(each.hosts), str(each.lines), str(each.classes), f"{each.claim_us:.0f}", f"{each.view_us:.0f}",
         f"{each.view_bytes:,.0f}"]
        for each in found.costs.claims
    ]  # fmt: skip
    plans = [
        [str(each.hosts), str(each.lines), f"{each.decide_us:.0f}", f"{each.pack_us:.0f}", f"{each.plan_bytes:,}"]
        for each in found.plans
    ]
    kinds = charts.cpu_us_by_kind(found.costs)
    return [
        "## What planning and Redis cost",
        "",
        f"Measured, on {found.costs.redis}. For each job: calls of scripts, blocking reads, the commands that scripts "
        "run, bytes, and Redis' CPU time. The last column is arithmetic: one thread wholly busy.",
        "",
        *_table(("Job", "Scripts", "Waits", "Commands", "Bytes in", "Bytes out", "CPU, us", "Jobs/s a thread"), jobs,
                words=1),
        "",
        "A claim of one job with a plan, and one that starts nothing and brings a view, us of Redis' time. Jobs wait "
        "in each line, of class normal only or of all three:",
        "",
        *_table(("Hosts", "Lines", "Classes", "Claim", "With a view", "Bytes of the view"), claims, words=0),
        "",
        "A plan, us of a worker's CPU time (`decide`), and packing it:",
        "",
        *_table(("Hosts", "Lines", "Decide", "Pack", "Bytes of the plan"), plans, words=0),
        "",
        "Arithmetic: threads of Redis, each wholly busy, that a rate of jobs takes.",
        "",
        *_table(("Jobs", "CPU, us a job", *(f"{rate:,}/s" for rate in charts.RATES_PER_S)),
                [[what, f"{us:.0f}", *(f"{rate * us / 1e6:.2g}" for rate in charts.RATES_PER_S)]
                 for what, us in kinds.items()], words=1),
    ]  # fmt: skip


def _spread(seen: Spread) -> str:
    return f"{seen.median:.0f} ({seen.low:.0f}-{seen.high:.0f})"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], *, words: int) -> list[str]:
    """Markdown; columns from `words` on are aligned to the right."""
    rule = "|".join("---" if index < words else "---:" for index in range(len(head)))
    return [f"| {' | '.join(head)} |", f"|{rule}|", *(f"| {' | '.join(row)} |" for row in rows)]
