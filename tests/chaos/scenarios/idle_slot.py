"""F22: many long jobs are held elsewhere; ready ones start at once on an idle worker."""

from __future__ import annotations

import asyncio
import time

from tests.chaos.campaign import Campaign, bench
from tests.chaos.checker import check
from tests.chaos.client import Sent, ask
from tests.chaos.outcome import Outcome
from tests.chaos.stack import until

LONG, READY = 120, 10
START_WITHIN_S = 1.0
CANCEL_WITHIN_S = 3.0


async def run(campaign: Campaign) -> Outcome:
    outcome = Outcome("F22", f"{LONG} long jobs held, {READY} ready ones")
    async with bench(campaign, "F22") as b:
        stack = b.stack
        gateway, _ = await asyncio.gather(
            stack.start_gateway(), stack.start_workers(2, WORKER_CONCURRENCY=str(LONG // 2))
        )
        # Held without costing anything: the model server answers once these jobs are cancelled, not before.
        hang = {"kind": "hang", "count": LONG}
        async with stack.http.post(stack.simulator_url + "/_sim/faults", json=hang) as response:
            response.raise_for_status()
        held = [Sent(form="job", prompt=f"F22 long question {number} about rivers") for number in range(LONG)]
        await asyncio.gather(*(ask(stack.http, gateway.url, one) for one in held))

        async def all_held() -> bool:
            return len(await stack.calls()) == LONG

        await until(all_held, 15.0, "the long jobs are held")
        idle = await stack.start_worker(WORKER_CONCURRENCY=str(READY))
        campaign.say(f"{LONG} jobs held, {READY} submitted")
        b.sent += [Sent(form="job", prompt=f"F22 question {i} about rivers [tokens=40]") for i in range(READY)]
        began = time.time()
        await asyncio.gather(*(ask(stack.http, gateway.url, one) for one in b.sent))
        ready_ids = [one.job_id for one in b.sent]

        async def all_started() -> bool:
            calls = await stack.calls()
            return all(job_id in calls for job_id in ready_ids)

        await until(all_started, 15.0, "the ready jobs")
        calls = await stack.calls()
        slowest = max(calls[job_id][0] for job_id in ready_ids) - began
        cancelled_at = time.monotonic()
        for one in held:
            async with stack.http.delete(f"{gateway.url}/v1/jobs/{one.job_id}") as response:
                response.raise_for_status()

        async def all_cancelled() -> bool:
            return int(await stack.redis.hget(stack.keys.counters, "cancelled") or 0) == LONG  # type: ignore[misc]

        await until(all_cancelled, 15.0, "the long jobs are cancelled")
        cancelling_s = time.monotonic() - cancelled_at
        report = await check(stack, b.sent, b.sampler, b.oracle, gateway_url=gateway.url)
        by_idle = sum(f".{idle.process.pid}." in report.records[job_id].attempts[0][0] for job_id in ready_ids)
    outcome.within("submit to start, slowest", READY, slowest, START_WITHIN_S)
    outcome.add("started by the idle worker", READY, by_idle, str(READY), by_idle == READY)
    outcome.within("cancelling all held jobs", LONG, cancelling_s, CANCEL_WITHIN_S)
    outcome.add_report(report)
    return outcome
