"""F1: workers are killed at random instants under load."""

from __future__ import annotations

import asyncio
import time

from tests.chaos.campaign import Campaign, bench
from tests.chaos.checker import Report, check
from tests.chaos.outcome import Outcome, percentile

WORKERS = 4
PER_SECOND = 22.0
SETTLE_IN_S = 1.0
GAP_S = (1.5, 3.0)
"""Between two kills, so that the fleet is back before the next one and a job is rarely hit twice."""
RECOVERY_P99_S = 10.0


async def run(campaign: Campaign) -> Outcome:
    outcome = Outcome("F1", "kill -9 of workers at random instants")
    kills = campaign.size(30, 5)
    killed_at: dict[int, float] = {}
    async with bench(campaign, "F1") as b:
        stack = b.stack
        await asyncio.gather(stack.start_gateway(), stack.start_workers(WORKERS))
        fleet = list(stack.workers)
        async with b.load(PER_SECOND):
            await asyncio.sleep(SETTLE_IN_S)
            for number in range(kills):
                victim = fleet.pop(b.draw.randrange(len(fleet)))
                killed_at[victim.process.pid] = time.time()
                victim.process.kill()
                campaign.say(f"worker kill {number + 1} of {kills}")
                pause = asyncio.create_task(asyncio.sleep(b.draw.uniform(*GAP_S)))
                fleet.append(await stack.start_worker())
                await pause
        report = await check(
            stack, b.sent, b.sampler, b.oracle, gateway_url=stack.gateways[0].url,
            may_end=frozenset({"succeeded", "dead_lettered"}),
        )  # fmt: skip
        poisoned = [r for r in report.records.values() if r.state == "dead_lettered"]
        # Three kills that hit the same job make it a poison job: promised, and rare here.
        report.expect("dead without three crashes", [r.id for r in poisoned if r.crashes < 3])
        refused = [one for one in b.sent if not one.accepted and one.status != 0 and one.error != "job_poisoned"]
        report.expect("refused", [f"{one.form} {one.status} {one.error}" for one in refused])
        broken = sum(one.form == "stream" and bool(one.error) for one in b.sent)
        report.expect("crashed without a kill", _crashed_alone(report, killed_at))
    times = recoveries(report, killed_at)
    outcome.add_report(report)
    shared_by = len({worker for record in report.records.values() for worker, *_ in record.attempts})
    outcome.add("workers that shared the jobs", kills + WORKERS, shared_by, f">= {WORKERS}", shared_by >= WORKERS)
    outcome.some("jobs orphaned and started again", kills, len(times))
    outcome.tell("kill to next start, p50", len(times), f"{percentile(times, 0.5):.2f} s")
    outcome.within("kill to next start, p99", len(times), percentile(times, 0.99), RECOVERY_P99_S)
    streams = sum(one.form == "stream" for one in b.sent)
    outcome.tell("streams ended by an error, explicitly", streams, broken)
    outcome.tell("poison jobs (killed three times)", len(report.records), len(poisoned))
    return outcome


def _pid(worker: str) -> int:
    return int(worker.split(".")[1])


def recoveries(report: Report, killed_at: dict[int, float]) -> list[float]:
    """Seconds from each kill to the next start of each job it orphaned, by the model server's clock where it was
    asked again.
    """
    times = []
    for record in report.records.values():
        for (worker, _, outcome), (_, restarted_ms, _) in zip(record.attempts, record.attempts[1:], strict=False):
            died = killed_at.get(_pid(worker))
            if outcome == "crashed" and died is not None:
                later = [at for at in report.calls.get(record.id, []) if at > died]
                times.append((min(later) if later else restarted_ms / 1000) - died)
    return times


def _crashed_alone(report: Report, killed_at: dict[int, float]) -> list[str]:
    """Leases that were lost by a worker nobody killed."""
    return [
        f"{record.id} on {worker}"
        for record in report.records.values()
        for worker, _, outcome in record.attempts
        if outcome == "crashed" and _pid(worker) not in killed_at
    ]
