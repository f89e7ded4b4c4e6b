"""One host that holds one model, four models: loads, total time and waits, and what the limits on waits can do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from shared.jobs import Priority
from tests.bench.figures import Spread, spread
from tests.bench.rows import AFFINITY_JOB_S, AFFINITY_MODELS, PATIENCE_S
from tests.bench.simulation.model import Fleet, Shard
from tests.bench.simulation.policies import POLICIES
from tests.bench.simulation.workloads import CLASSES, Workload, waits_s
from worker.scheduling.policy import Knobs

MODELS, LOAD_S, UTILISATION, JOBS = AFFINITY_MODELS, 2.0, 0.7, 500
JOB_S = AFFINITY_JOB_S
RESIDENCY_S = 5 * LOAD_S
TURNS = MODELS - 1
"""Models that wait while one is in memory: patience is so many times as long."""
DEFAULTS = {Priority(name): TURNS * patience_s for name, patience_s in PATIENCE_S.items()}
"""The limit of each class here, seconds."""
LIMITS_S = (2.0, 5.0, 10.0, 15.0, 20.0, 22.5, 25.0, 27.5, 30.0, 40.0, 60.0)
"""Of the sweep."""
RESIDENCIES_S = (0.0, 2.0, 5.0, 10.0)
SHORT = dict(zip(Priority, (2.0, 10.0, 20.0), strict=True))
"""Limits that no policy can keep."""
HOST = Fleet(hosts=1, room=1, parallel=1, load_s=LOAD_S)
WORKLOAD = Workload(rates={f"model-{number}": UTILISATION / JOB_S / MODELS for number in range(MODELS)}, job_s=JOB_S)


@dataclass(slots=True, frozen=True, kw_only=True)
class Case:
    """The seeds' spread of each figure."""

    loads: Spread
    total_s: Spread
    """From the first arrival to the last end."""
    longest_s: Mapping[Priority, Spread]
    """The longest wait for the start, by class."""
    over_s: Spread
    """By how much the longest wait is longer than its class' limit and one job."""
    median_wait_s: Spread


def shortest_cycle_s() -> float:
    """The time in which all models can be loaded once and the work of that time be done: n L / (1 - utilisation)."""
    return MODELS * LOAD_S / (1 - UTILISATION)


def least_away_s() -> float:
    """How long a model is away on average, at least, if the host is to keep up: the loads of the others, (n - 1) L, may
    take no more of its time than the work leaves.
    """
    return (MODELS - 1) * LOAD_S / (1 - UTILISATION)


def longest_away_s(limits_s: Mapping[Priority, float]) -> tuple[float, Priority]:
    """How long it may be away on average if no wait is to be longer than the limit of its class and one job: until the
    next job for it comes, and then so long. The shortest of the classes.
    """
    per_second, shares = UTILISATION / JOB_S / MODELS, sum(CLASSES.values())
    return min(
        (limits_s[priority] + JOB_S + shares / (share * per_second), priority) for priority, share in CLASSES.items()
    )


def settings(limits_s: Mapping[Priority, float], residency_s: float) -> str:
    """In the page's words."""
    return f"{' / '.join(f'{limit_s:g}' for limit_s in limits_s.values())} s, {residency_s:g} s"


def run(policy: str, seeds: Sequence[int], limits_s: Mapping[Priority, float], residency_s: float) -> Case:
    patience_s = {priority: limit_s / TURNS for priority, limit_s in limits_s.items()}
    knobs = Knobs(host_calls=1, unit_calls=1, reserved=1, patience_s=patience_s, residency_s=residency_s, load_s=LOAD_S)
    results: list[dict[str, float]] = []
    for seed in seeds:
        jobs = list(WORKLOAD.arrivals(seed, jobs=JOBS))
        outcome = Shard(HOST, POLICIES[policy], knobs).run(jobs)
        end_s = max(job.ended_s for job in jobs)
        waits = {each: waits_s(jobs, each, end_s, until_served=False) for each in Priority}
        results.append({
            "loads": len(outcome.hosts[0].loads_at_s),
            "total": end_s - jobs[0].arrives_s,
            "over": max(waited[-1] - limits_s[each] - JOB_S for each, waited in waits.items() if waited),
            "median": sorted(wait for waited in waits.values() for wait in waited)[JOBS // 2],
            **{each: waited[-1] if waited else 0.0 for each, waited in waits.items()},
        })  # fmt: skip
    return Case(
        loads=_of(results, "loads"), total_s=_of(results, "total"), over_s=_of(results, "over"),
        median_wait_s=_of(results, "median"), longest_s={each: _of(results, each) for each in Priority},
    )  # fmt: skip


def _of(results: Iterable[Mapping[str, float]], key: str) -> Spread:
    return spread([result[key] for result in results])


def sweep(seeds: Sequence[int]) -> dict[tuple[float, float], Case]:
    """By (residency, limit of all classes), seconds."""
    return {
        (residency_s, limit_s): run("affinity", seeds, dict.fromkeys(Priority, limit_s), residency_s)
        for residency_s in RESIDENCIES_S
        for limit_s in LIMITS_S
    }
