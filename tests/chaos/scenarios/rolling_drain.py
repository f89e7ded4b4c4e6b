"""F15: every worker is replaced, one after the other, by SIGTERM, under load, with jobs longer than the drain."""

from __future__ import annotations

import asyncio
import time

from tests.chaos.campaign import Bench, Campaign, bench
from tests.chaos.checker import check
from tests.chaos.client import Sent, ask
from tests.chaos.outcome import Outcome
from tests.chaos.stack import Worker, until

WORKERS = 3
DRAIN_S = 2
PER_SECOND = 5.0
TOKENS = (100, 1200)
"""0.5 to 6 s: about half of them outlast the drain."""
EXIT_WITHIN_S = DRAIN_S + 3.0
AT_ONCE_S = 2.0


async def run(campaign: Campaign) -> Outcome:
    outcome = Outcome("F15", f"rolling SIGTERM, drain {DRAIN_S} s, jobs up to 6 s")
    rounds = campaign.size(5, 1)
    async with bench(campaign, "F15", worker_env={"WORKER_DRAIN_TIMEOUT": str(DRAIN_S)}) as b:
        stack = b.stack
        await asyncio.gather(stack.start_gateway(), stack.start_workers(WORKERS))
        fleet = list(stack.workers)
        codes: list[int | None] = []
        took: list[float] = []
        async with b.load(PER_SECOND, tokens=TOKENS):
            await asyncio.sleep(2.0)
            for number in range(rounds):
                campaign.say(f"round {number + 1} of {rounds}")
                for _ in range(WORKERS):
                    leaving = fleet.pop(0)
                    fleet.append(await stack.start_worker())
                    began = time.monotonic()
                    leaving.process.terminate()
                    codes.append(await leaving.process.exit_code(EXIT_WITHIN_S + 10.0))
                    took.append(time.monotonic() - began)
        twice_s = await _second_signal(b, fleet)
        report = await check(stack, b.sent, b.sampler, b.oracle, gateway_url=stack.gateways[0].url)
    records = report.records.values()
    drained = sum(r.count("drained") for r in records)
    failures, crashes = sum(r.failures for r in records), sum(r.crashes for r in records)
    unanswered = [one for one in b.sent if not one.accepted or one.error]
    report.expect("failed for its client", [f"{one.form} {one.status} {one.error}" for one in unanswered])
    stops = len(codes)
    outcome.none("jobs failed", len(b.sent), len(unanswered))
    outcome.some("jobs handed back by a drain", stops, drained)
    outcome.none("tries spent (failures and crashes)", len(records), failures + crashes)
    outcome.none("exit codes other than 0", stops, sum(code != 0 for code in codes))
    outcome.within("slowest exit", stops, max(took), EXIT_WITHIN_S)
    outcome.within("exit after a second SIGTERM", 1, twice_s, AT_ONCE_S)
    outcome.add_report(report)
    return outcome


async def _second_signal(b: Bench, fleet: list[Worker]) -> float:
    """Send a worker that has work two SIGTERMs; seconds from the second to its exit."""
    stack = b.stack
    hasty = await stack.start_worker(WORKER_DRAIN_TIMEOUT="60", WORKER_CONCURRENCY="64")
    for worker in fleet[:-1]:
        worker.process.terminate()
    leaving = [await worker.process.exit_code(20.0) for worker in fleet[:-1]]
    assert not any(leaving), leaving
    batch = [Sent(form="job", prompt=f"F15 second signal {i} [tokens=800]") for i in range(6)]
    b.sent += batch
    await asyncio.gather(*(ask(stack.http, stack.gateways[0].url, one) for one in batch))

    async def all_run() -> bool:
        return int(await stack.redis.hget(stack.keys.counters, "running") or 0) == len(batch)  # type: ignore[misc]

    await until(all_run, 5.0, "six running jobs")
    hasty.process.terminate()
    await asyncio.sleep(0.5)
    began = time.monotonic()
    hasty.process.terminate()
    await hasty.process.exit_code(20.0)
    return time.monotonic() - began
