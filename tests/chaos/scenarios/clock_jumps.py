"""F20: wall clocks of single processes are an hour off, and jump back ten minutes while they work.

Redis' clock is the only one that decides anything; a process measures how long with its monotonic clock.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

from tests.chaos.campaign import Bench, Campaign, bench
from tests.chaos.checker import check
from tests.chaos.client import ROUTES, Sent, ask, body_of, job
from tests.chaos.outcome import Outcome
from tests.chaos.shifted_clock import MODULE, ShiftedClock

HOUR_S, JUMP_S = 3600.0, -600.0
PER_SECOND = 10.0
DELAY_S, DELAY_MARGIN_S = 3.0, 1.5
"""A due job starts at the next look at the queue, at most a second later."""
DEADLINE_S, DEADLINE_MARGIN_S = 2.0, 1.5
LONG = 2400
"""Tokens of an answer that takes 12 s: its lease must be renewed across a jump."""
NEVER = 20_000
EACH = 4


async def run(campaign: Campaign) -> Outcome:
    outcome = Outcome("F20", "wall clocks an hour off, and jumping")
    phase_s = campaign.size(7, 4)
    with tempfile.TemporaryDirectory(prefix="arriero-clock-") as folder:
        ahead, behind = ShiftedClock(Path(folder) / "ahead"), ShiftedClock(Path(folder) / "behind")
        ahead.shift(HOUR_S)
        behind.shift(-HOUR_S)
        async with bench(campaign, "F20") as b:
            stack = b.stack
            gateway, *_ = await asyncio.gather(
                stack.start_gateway(MODULE, **ahead.env("gateway")),
                stack.start_worker(MODULE, **ahead.env("worker")),
                stack.start_worker(MODULE, **behind.env("worker")),
                stack.start_worker(),
            )
            told = await _offset(b)
            async with b.load(PER_SECOND):
                campaign.say("clocks an hour ahead and behind")
                delayed, expired = await _delays(b), await _deadlines(b)
                long = [Sent(form="job", prompt=f"F20 long question {i} [tokens={LONG}]") for i in range(6)]
                b.sent += long
                await asyncio.gather(*(ask(stack.http, gateway.url, one) for one in long))
                await asyncio.sleep(phase_s / 2)
                campaign.say("clocks jump back ten minutes")
                ahead.shift(HOUR_S + JUMP_S)
                behind.shift(-HOUR_S + JUMP_S)
                jumped = await _offset(b)
                delayed += await _delays(b)
                expired += await _deadlines(b)
                await asyncio.sleep(phase_s / 2)
            report = await check(
                stack, b.sent, b.sampler, b.oracle, gateway_url=gateway.url,
                may_end=frozenset({"succeeded", "expired"}),
            )  # fmt: skip
    records = report.records.values()
    outcome.add("how far the gateway's clock was off, before and after the jump", 2, f"{told:+.0f} s, {jumped:+.0f} s",
                f"{HOUR_S:+.0f} s, {HOUR_S + JUMP_S:+.0f} s",
                abs(told - HOUR_S) < 5 and abs(jumped - HOUR_S - JUMP_S) < 5)  # fmt: skip
    workers = {worker for record in records for worker, *_ in record.attempts}
    outcome.add("workers that shared the jobs", len(workers), len(workers), "3", len(workers) == 3)
    outcome.none("leases lost, tries spent", len(records), sum(r.crashes + r.failures for r in records))
    worst_delay = max(abs(late) for late in delayed)
    outcome.within("delayed jobs: off their time, at most", len(delayed), worst_delay, DELAY_MARGIN_S)
    worst_end = max(abs(late) for late in expired)
    outcome.within("deadlines: off their time, at most", len(expired), worst_end, DEADLINE_MARGIN_S)
    ended = sum(r.state == "expired" for r in records)
    outcome.add("jobs that expired", len(records), ended, str(len(expired)), ended == len(expired))
    outcome.add_report(report)
    return outcome


async def _offset(b: Bench) -> float:
    """How far the gateway's clock is ahead, by the time it puts on an answer, s."""
    url = b.stack.gateways[0].url + ROUTES["chat"]
    async with b.stack.http.post(url, json=body_of("chat", "F20 what time is it? [tokens=5]")) as response:
        return float((await response.json())["created"]) - time.time()


async def _delays(b: Bench) -> list[float]:
    """Submit jobs for later; how many seconds after its time each started, by the model server's clock."""
    submitted = await _submitted(b, 40, {"delay_seconds": DELAY_S})
    calls = await b.stack.calls()
    return [calls[one.job_id][0] - at - DELAY_S for one, at, _ in submitted]


async def _deadlines(b: Bench) -> list[float]:
    """Submit jobs that cannot end in time; how many seconds after its deadline each had ended."""
    submitted = await _submitted(b, NEVER, {"deadline_seconds": DEADLINE_S})
    return [ended - at - DEADLINE_S for _, at, ended in submitted]


async def _submitted(b: Bench, tokens: int, options: dict[str, float]) -> list[tuple[Sent, float, float]]:
    """Some jobs, with the Unix times at which they were accepted and at which their ends were known."""
    url = b.stack.gateways[0].url

    async def follow(number: int) -> tuple[Sent, float, float]:
        prompt = f"F20 question {len(b.sent)} {number} about time [tokens={tokens}]"
        one = await ask(b.stack.http, url, Sent(form="job", prompt=prompt, options=options))
        at = time.time()
        b.sent.append(one)
        await job(b.stack.http, url, one.job_id, wait_s=20.0)
        return one, at, time.time()

    return list(await asyncio.gather(*(follow(number) for number in range(EACH))))
