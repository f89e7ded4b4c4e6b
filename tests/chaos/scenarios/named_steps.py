"""F2: a worker is killed at each named step of a job."""

from __future__ import annotations

import asyncio

from tests.chaos.campaign import Campaign, bench
from tests.chaos.checker import check
from tests.chaos.client import Sent, ask
from tests.chaos.failing_worker import STEPS
from tests.chaos.outcome import Outcome

EXPECTED: dict[str, tuple[int, int]] = {
    "claimed": (1, 1),
    "before_call": (1, 1),
    "mid_stream": (2, 1),
    "after_call": (2, 1),
    "after_settle": (1, 0),
}
"""By step: calls to the model server, crashes on record."""
DEAD_WITHIN_S = 20.0


async def run(campaign: Campaign) -> Outcome:
    outcome = Outcome("F2", "kill -9 at each named step of a job")
    each = campaign.size(5, 1)
    async with bench(campaign, "F2") as b:
        stack = b.stack
        steps = [step for step in STEPS for _ in range(each)]
        gateway = await stack.start_gateway()
        module = "tests.chaos.failing_worker"
        workers = await asyncio.gather(
            *(stack.start_worker(module, FAIL_AT=step, WORKER_CONCURRENCY="1") for step in steps)
        )
        step_of = {worker.process.pid: step for worker, step in zip(workers, steps, strict=True)}
        b.sent += [
            Sent(form="job", prompt=f"F2 question {number} about rivers [tokens=60]") for number in range(len(steps))
        ]
        await asyncio.gather(*(ask(stack.http, gateway.url, one) for one in b.sent))
        campaign.say(f"{len(steps)} workers, each about to die at its step")
        for worker in workers:
            worker.process.asked = True
            await worker.process.exit_code(DEAD_WITHIN_S)
        alive = [step_of[w.process.pid] for w in workers if w.process.is_running]
        await stack.start_worker(WORKER_CONCURRENCY=str(len(steps)))
        report = await check(stack, b.sent, b.sampler, b.oracle, gateway_url=gateway.url)
    report.expect("did not die at its step", alive)
    for step in STEPS:
        mine = [r for r in report.records.values() if step_of.get(int(r.attempts[0][0].split(".")[1])) == step]
        seen = {(len(report.calls.get(r.id, [])), r.crashes) for r in mine}
        calls, crashes = EXPECTED[step]
        figure = ", ".join(f"{c} calls, {x} crashes" for c, x in sorted(seen)) or "never reached"
        held = seen == {(calls, crashes)} and len(mine) == each
        outcome.add(f"killed {step.replace('_', ' ')}", len(mine), figure, f"{calls} calls, {crashes} crashes", held)
    outcome.add_report(report)
    return outcome
