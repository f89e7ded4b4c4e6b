"""The simulation: it claims as the real script does, its hosts behave as Ollama's, and its results are sound."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from shared.jobs import Kind, NewJob, Priority
from shared.queue.client import QueueClient
from shared.queue.lines import line_named, unit_in
from shared.queue.plans import Place, Plan, Row
from shared.settings import BaseServiceSettings
from shared.wire.canonical import ChatRequest, Message
from tests.bench.simulation import acceptance, charts, fleet, plan_cost, report
from tests.bench.simulation.hosts import Host, Job
from tests.bench.simulation.lines import Lines
from tests.bench.simulation.model import Fleet, Shard
from tests.bench.simulation.policies import POLICIES
from tests.bench.simulation.redis_cost import Costs, JobCost
from tests.bench.simulation.workloads import Workload, by_model, by_tenant, warm_start, zipf
from worker.scheduling.policy import Knobs

SEEDS = range(3)


# -- the claim ---------------------------------------------------------------------------------------------------------


def new_host(events: list[tuple[float, object]], *, room: int = 1, parallel: int = 8) -> Host:
    return Host("h", room, parallel, load_s=2.0, at=lambda at_s, host, subject: events.append((at_s, subject)))


async def test_jobs_start_in_the_order_of_the_real_claim(redis_url: str) -> None:
    """Three classes, three models, three tenants; each claim takes one job."""
    dice = random.Random(7)
    client = await QueueClient.connect(BaseServiceSettings(redis_url=redis_url))
    lines, names = Lines(), {}
    for number in range(120):
        # A tenant has one model, so that no two jobs of a line have the same tag, where ids would decide.
        model = dice.choice("abc")
        new = NewJob(
            kind=Kind.CHAT, model=model, priority=dice.choice(list(Priority)), tenant=f"of-{model}", timeout_s=600.0,
            request=ChatRequest(model=model, messages=[Message(role="user", content="x")]),
        )  # fmt: skip
        await client.enqueue(new)
        names[new.id] = number
        lines.join(Job(model, new.priority, new.tenant, float(number), 1.0))
    rows = [
        Row(line=name, places=[Place(host="h", unit=unit_in(name), calls=999, shared_calls=999)])
        for name in (line_named(Kind.CHAT, model) for model in "abc")
    ]
    plan = Plan({"h": 999}, rows).packed()
    host = new_host([], room=3, parallel=999)
    for model in "abc":
        host.has_loaded(model, 0.0)
    for number in range(120):
        _, _, job = await client.scripts.run("claim", "w", f"{number:024d}", 1, 60_000, 1000, plan, "")
        waiting = [job for line in lines.by_key.values() for *_, job in line]
        lines.claim(
            tuple(lines.by_key), {row.line: row for row in rows}, {"h": host}, 0.0, host.under_way + 1, may_load=True
        )
        [started] = [job for job in waiting if job.started_s >= 0]
        assert started.arrives_s == names[job[0].decode()], f"start {number}"
    await client.aclose()


def drained(jobs: list[Job], policy: str = "classes") -> list[Job]:
    """By start, on one host that runs one job at a time."""
    shard = Shard(replace(acceptance.HOST, load_s=0.0), POLICIES[policy], one_at_a_time())
    shard.run(jobs)
    return sorted(jobs, key=lambda job: job.started_s)


def one_at_a_time() -> Knobs:
    return replace(fleet.KNOBS, host_calls=1, unit_calls=1)


def test_classes_share_eight_three_one() -> None:
    first = drained([Job("a", p, "t", 0.0, 1.0) for p in Priority for _ in range(100)])[:96]
    shares = Counter(job.priority for job in first)
    assert [shares[p] for p in Priority] == pytest.approx([64, 24, 8], abs=1)


def test_a_tenant_with_one_job_does_not_wait_behind_another_ones_thousand() -> None:
    jobs = [Job("a", Priority.NORMAL, "many", 0.0, 1.0) for _ in range(1000)]
    one = Job("a", Priority.NORMAL, "one", 0.5, 1.0)
    assert drained([*jobs, one]).index(one) <= 2


# -- hosts -------------------------------------------------------------------------------------------------------------


def test_a_load_waits_for_a_busy_model_and_those_that_find_it_loaded_go_first() -> None:
    events: list[tuple[float, object]] = []
    host = new_host(events)
    warm, cold, late = (Job(unit, Priority.NORMAL, "t", 0.0, 5.0) for unit in "aba")
    host.start(warm, 0.0)
    host.has_loaded("a", 2.0)
    host.start(cold, 3.0)
    host.start(late, 4.0)
    assert (warm.served_s, late.served_s, cold.served_s) == (2.0, 4.0, -1.0)
    host.end(warm, 7.0)
    assert host.loading == ""
    host.end(late, 9.0)
    assert host.loading == "b" and events[-1] == (11.0, "b") and host.loads_at_s == [0.0, 9.0]


def test_a_model_runs_so_many_calls_at_once() -> None:
    host = new_host([], parallel=1)
    host.has_loaded("a", 0.0)
    first, second = (Job("a", Priority.NORMAL, "t", 0.0, 1.0) for _ in range(2))
    host.start(first, 0.0)
    host.start(second, 0.0)
    assert second.served_s == -1.0
    host.end(first, 1.0)
    assert second.served_s == 1.0


# -- whole runs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES)
def test_every_job_ends_and_no_host_gets_more_than_it_can_run(policy: str) -> None:
    workload = Workload(rates=zipf(6, 8.0), job_s=0.5, varies=True, tenants=3)
    jobs = list(workload.arrivals(1, jobs=300))
    knobs = replace(fleet.KNOBS, host_calls=4, unit_calls=2)
    Shard(Fleet(hosts=3, room=2, parallel=2, load_s=1.0), POLICIES[policy], knobs, replan_s=0.2).run(jobs)
    assert all(job.arrives_s <= job.started_s <= job.served_s < job.ended_s for job in jobs)
    changes = sorted([(job.started_s, 1) for job in jobs] + [(job.ended_s, -1) for job in jobs])
    under_way = most = 0
    for _, by in changes:
        under_way += by
        most = max(most, under_way)
    assert most <= 3 * 4


@pytest.mark.req("S1-93")
def test_affinity_saves_four_of_five_loads_and_half_the_time_and_no_wait_is_longer_than_its_limit() -> None:
    fifo, affinity = (
        acceptance.run(policy, SEEDS, acceptance.DEFAULTS, acceptance.RESIDENCY_S) for policy in ("fifo", "affinity")
    )
    assert affinity.loads.median <= fifo.loads.median / 5
    assert affinity.total_s.median <= fifo.total_s.median / 2
    assert affinity.over_s.high <= 0


def test_shorter_limits_on_waits_ask_for_more_than_any_policy_can_do() -> None:
    longest_s, priority = acceptance.longest_away_s(acceptance.SHORT)
    assert priority is Priority.NORMAL
    assert longest_s == pytest.approx(15.0, abs=0.1)
    assert longest_s < acceptance.least_away_s() == pytest.approx(20.0)
    assert acceptance.longest_away_s(acceptance.DEFAULTS)[0] > 2 * acceptance.least_away_s()


def test_a_limit_on_waits_holds_if_it_is_well_above_the_shortest_cycle_and_costs_dearly_below() -> None:
    assert acceptance.shortest_cycle_s() == pytest.approx(26.7, abs=0.1)
    long, short = (acceptance.run("affinity", SEEDS, dict.fromkeys(Priority, limit_s), 0.0) for limit_s in (60.0, 10.0))
    assert long.over_s.high <= 0
    assert short.over_s.low > 0 and short.total_s.median > 2 * long.total_s.median


@pytest.mark.req("S1-33", "S2-42")
def test_on_several_hosts_affinity_serves_what_blind_scheduling_cannot() -> None:
    rates = zipf(20, 100.0)
    served = {}
    for policy in ("classes", "affinity"):
        jobs = list(Workload(rates=rates, job_s=0.56, varies=True).arrivals(1, until_s=40.0))
        shard = Shard(Fleet(hosts=10, room=3, parallel=8, load_s=5.0), POLICIES[policy], fleet.KNOBS, replan_s=0.2)
        shard.run(jobs, 40.0, warm=warm_start(rates, 10, 3))
        served[policy] = sum(job.ended_s > 0 for job in jobs) / len(jobs)
    assert served["classes"] < 0.5 < 0.8 < served["affinity"]


# -- shards and pages --------------------------------------------------------------------------------------------------


def test_shards_get_equal_parts_of_all_that_comes() -> None:
    rates = zipf(100, 10_000.0)
    for shards in (by_tenant(rates, 50), by_model(rates, 50)):
        assert [sum(shard.values()) for shard in shards] == pytest.approx([200.0] * 50)
        assert sum(shard.get("model-1", 0.0) for shard in shards) == pytest.approx(rates["model-1"])
    assert sum(len(shard) == 1 for shard in by_model(rates, 50)) > 15, "the most wanted have shards of their own"


def test_at_the_start_popular_models_are_on_more_hosts() -> None:
    places = warm_start(zipf(10, 1.0), 4, 3)
    assert [len(set(models)) for models in places] == [3] * 4
    seats = Counter(model for models in places for model in models)
    assert seats["model-1"] == 4 and seats["model-1"] > seats["model-5"]


def test_the_page_says_what_was_found() -> None:
    case = acceptance.run("affinity", range(1), acceptance.DEFAULTS, acceptance.RESIDENCY_S)
    result = fleet.Result(hosts=1000, arrived=10, ended=9, loads=3, served_s=100.0)
    for waits in result.waits_s.values():
        waits.append(1.5)
    cost = JobCost(what="", jobs=1, scripts=0.1, waits=0, commands=9, bytes_in=1, bytes_out=2, cpu_us=100.0)
    whats = ("enqueue, 50 callers", "claim, run and settle, 500 at once", "chat, 1 client", "chat, 32 clients")
    claim = plan_cost.ClaimCost(hosts=4, lines=10, classes=3, claim_us=200.0, view_us=100.0, view_bytes=99)
    found = report.Findings(
        facts=[("Commit", "abc")], seeds=1, fleets={fleet.CASES[0]: result}, plans=[plan_cost.plan_cost(4, 10)],
        cases=[(POLICIES["fifo"].title, "-", case)] + [
            (POLICIES["affinity"].title, acceptance.settings(limits_s, acceptance.RESIDENCY_S), case)
            for limits_s in (acceptance.DEFAULTS, acceptance.SHORT)
        ],
        sweep={(r, limit): case for r in acceptance.RESIDENCIES_S for limit in acceptance.LIMITS_S},
        costs=Costs("redis 7", [replace(cost, what=what) for what in whats], [claim]),
    )  # fmt: skip
    page = report.markdown(found, ["scheduling-redis.svg"])
    assert "| total time / the same: <= 0.5 | 1.00, missed | 1.00, missed |" in page
    assert "- Commit: abc" in page and "![scheduling-redis](scheduling-redis.svg)" in page
    assert "| first come, first served | 20 | tenant | 333 | 90.0% |" in page
    [_, chats, *_] = charts.redis_load(found.costs, "now").series
    assert chats.y[charts.RATES_PER_S.index(10_000)] == pytest.approx(1.0)
