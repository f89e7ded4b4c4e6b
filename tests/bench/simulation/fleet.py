"""A thousand hosts and ten thousand jobs a second, in shards that share nothing: swaps, waits, utilisation."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from shared.jobs import Priority
from tests.bench.figures import percentile
from tests.bench.rows import PATIENCE_S
from tests.bench.simulation.model import Fleet, Shard
from tests.bench.simulation.policies import POLICIES
from tests.bench.simulation.workloads import Workload, by_model, by_tenant, waits_s, warm_start, zipf
from worker.scheduling.policy import Knobs

HOSTS, JOBS_PER_S, MODELS = 1000, 10_000.0, 100
ROOM, PARALLEL, HOST_CALLS = 3, 8, 8
LOAD_S, UTILISATION = 5.0, 0.7
JOB_S = UTILISATION * HOSTS * HOST_CALLS / JOBS_PER_S
"""A call's mean time: so long that the hosts are busy to `UTILISATION` without loads."""
TENANTS = 20
"""Of each shard."""
WARM_UP_S, MEASURED_S = 20.0, 40.0
REPLAN_S = 0.2
KNOBS = Knobs(
    host_calls=HOST_CALLS, unit_calls=PARALLEL, load_s=LOAD_S, residency_s=5 * LOAD_S,
    patience_s={Priority(name): limit_s for name, limit_s in PATIENCE_S.items()},
)  # fmt: skip
SHARDINGS = {"tenant": by_tenant, "model": by_model}


@dataclass(slots=True, frozen=True, kw_only=True)
class Case:
    """`by`: what decides which shard a job goes to."""

    policy: str
    shards: int
    by: str


POLICY_CASES = tuple(Case(policy=policy, shards=20, by="tenant") for policy in ("fifo", "classes", "affinity"))
SHARDING_CASES = (
    Case(policy="affinity", shards=50, by="tenant"),
    Case(policy="fifo", shards=50, by="model"),
    Case(policy="affinity", shards=50, by="model"),
)
CASES = (*POLICY_CASES, *SHARDING_CASES)


@dataclass(slots=True)
class Result:
    """Of the jobs that arrived after the warm-up; a job that still waits counts with its wait so far."""

    hosts: int = 0
    arrived: int = 0
    ended: int = 0
    loads: int = 0
    served_s: float = 0.0
    """Seconds of calls that were served, of `hosts * HOST_CALLS * MEASURED_S` that could be."""
    plans: int = 0
    cpu_s: float = 0.0
    waits_s: dict[Priority, list[float]] = field(default_factory=lambda: {each: [] for each in Priority})
    """From arrival until the host begins with the job: the load of its model is part of the wait."""

    @property
    def swaps_per_1000(self) -> float:
        return 1000 * self.loads / max(1, self.ended)

    @property
    def utilisation(self) -> float:
        return self.served_s / (self.hosts * HOST_CALLS * MEASURED_S)

    def wait_s(self, priority: Priority, share: float) -> float:
        return percentile(self.waits_s[priority], share)


def run(case: Case, say: Callable[[str], None], *, only: int = 0) -> Result:
    """`only`: so many of the shards, 0: all."""
    result, began = Result(), time.process_time()
    fleet = Fleet(hosts=HOSTS // case.shards, room=ROOM, parallel=PARALLEL, load_s=LOAD_S)
    shards = SHARDINGS[case.by](zipf(MODELS, JOBS_PER_S), case.shards)
    for number, rates in enumerate(shards[: only or None]):
        _run_shard(number, rates, fleet, case, result)
    result.cpu_s = time.process_time() - began
    say(f"{case.policy}, {case.shards} shards by {case.by}: {result.arrived:,} jobs in {result.cpu_s:.0f} s of CPU")
    return result


def _run_shard(number: int, rates: Mapping[str, float], fleet: Fleet, case: Case, result: Result) -> None:
    workload, until_s = Workload(rates=rates, job_s=JOB_S, varies=True, tenants=TENANTS), WARM_UP_S + MEASURED_S
    jobs = list(workload.arrivals(number, until_s=until_s))
    shard = Shard(fleet, POLICIES[case.policy], KNOBS, replan_s=REPLAN_S)
    outcome = shard.run(jobs, until_s, warm=warm_start(rates, fleet.hosts, fleet.room))
    late = [job for job in jobs if job.arrives_s > WARM_UP_S]
    result.hosts += fleet.hosts
    result.arrived += len(late)
    result.ended += sum(job.ended_s > WARM_UP_S for job in jobs)
    result.loads += sum(at_s > WARM_UP_S for host in outcome.hosts for at_s in host.loads_at_s)
    result.served_s += sum(
        min(job.ended_s if job.ended_s > 0 else until_s, until_s) - max(job.served_s, WARM_UP_S)
        for job in jobs
        if job.served_s >= 0 and (job.ended_s > WARM_UP_S or job.ended_s < 0)
    )
    result.plans += outcome.plans
    for priority, waits in result.waits_s.items():
        waits += waits_s(late, priority, until_s, until_served=True)
