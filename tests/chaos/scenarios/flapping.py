"""F10-FLAP: the model server comes and goes every few seconds: the circuit must not follow it each time."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping

from tests.chaos.campaign import Campaign, bench
from tests.chaos.checker import check
from tests.chaos.client import Form
from tests.chaos.outcome import Outcome
from tests.chaos.stack import until
from tests.chaos.upstream import POLICY, behave, calls_between, misbehave, transitions, troubled

WORKERS = 4
PER_SECOND = 10.0
MIX: Mapping[Form, int] = {"job": 1}
"""Of one model, so that one circuit is in question besides the host's."""
BAD_S, GOOD_S = (0.5, 3.0), (0.5, 2.0)
CHANGES_A_MINUTE = 12
CLOSED_WITHIN_S = 65.0


async def run(campaign: Campaign) -> Outcome:
    flaps_s = float(campaign.size(45, 12))
    outcome = Outcome("F10-FLAP", f"the model server comes and goes for {flaps_s:g} s")
    async with bench(campaign, "F10-FLAP", worker_env={"WORKER_CONCURRENCY": "4"}) as b:
        stack = b.stack
        await asyncio.gather(stack.start_gateway(), stack.start_workers(WORKERS))
        outages = 0
        async with b.load(PER_SECOND, mix=MIX):
            await asyncio.sleep(1.0)
            began = time.time()
            while time.time() - began < flaps_s:
                campaign.say(f"outage {outages + 1}")
                await misbehave(stack, "refuse", match={"path": "*"})
                await asyncio.sleep(b.draw.uniform(*BAD_S))
                await behave(stack)
                outages += 1
                await asyncio.sleep(b.draw.uniform(*GOOD_S))
            healed = time.time()

            async def all_closed() -> bool:
                return not await troubled(stack)

            await until(all_closed, CLOSED_WITHIN_S + 5.0, "the circuit closes")
            closed_s = time.time() - healed
        report = await check(
            stack, b.sent, b.sampler, b.oracle, gateway_url=stack.gateways[0].url,
            may_end=frozenset({"succeeded", "dead_lettered"}),
        )  # fmt: skip
        minutes = max(1.0, (time.time() - began) / 60.0)
        seen = [await transitions(stack, worker) for worker in stack.workers]
        calls = await calls_between(stack, began, healed)
    changes = max(max(counts.values(), default=0) for counts in seen)
    bound = math.floor(CHANGES_A_MINUTE * minutes)
    outcome.add(
        "changes of a circuit's state", outages, changes, f"<= {bound} in {minutes * 60:.0f} s", changes <= bound
    )
    outcome.some("circuit opened", outages, min(changes, 1))
    outcome.within("healed for good to closed", 1, closed_s, min(CLOSED_WITHIN_S, POLICY.open_cap_s + 5.0))
    dead = sum(record.state == "dead_lettered" for record in report.records.values())
    outcome.tell("jobs that used up their three tries", len(report.records), dead)
    outcome.tell("calls that met the server away", len(calls), sum(call["status"] is None for call in calls))
    outcome.add_report(report)
    return outcome
