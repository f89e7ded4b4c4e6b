"""F17: five times what the model server can take, for a minute; then what it can take again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from tests.chaos.campaign import Campaign, bench
from tests.chaos.checker import check
from tests.chaos.client import Form, Sent
from tests.chaos.outcome import Outcome, percentile

SLOTS = 8
TOKENS = (60, 100)
"""0.35 to 0.55 s, so that 8 slots end about 17 a second."""
ONCE = 14.0
"""Requests a second that keep the slots busy without a queue."""
TIMES = 5
DEADLINE_S = 10
DEPTH = 45
"""About 2.5 s of work: what is left of it when the rush is over must be gone ten seconds later."""
MIX: dict[Form, int] = {"chat": 2, "stream": 1}
SETTLE_S = 3.0
REFUSED_WITHIN_S = 0.05
GOODPUT_SHARE = 0.9
NORMAL_WITHIN_S = 10.0
NORMAL_TIMES = 2.0
"""Normal is: nothing refused, and nobody waits longer than twice the p99 before the overload."""


async def run(campaign: Campaign) -> Outcome:
    outcome = Outcome("F17", f"{TIMES} times the load that can be served, then once again")
    single_s, overload_s, after_s = campaign.size(20, 6), campaign.size(60, 10), campaign.size(20, 8)
    options = ("--parallel", str(SLOTS))
    queue = {"MAX_QUEUE_DEPTH": str(DEPTH), "REQUEST_TIMEOUT": str(DEADLINE_S)}
    slots = {"WORKER_CONCURRENCY": str(SLOTS // 2)}
    async with bench(campaign, "F17", simulator_options=options, gateway_env=queue, worker_env=slots) as b:
        stack = b.stack
        gateway, _ = await asyncio.gather(stack.start_gateway(), stack.start_workers(2))
        async with b.load(ONCE, tokens=TOKENS, mix=MIX) as load:
            await asyncio.sleep(SETTLE_S)
            calm_from = time.monotonic()
            await asyncio.sleep(single_s)
            load.per_second, rush_from = TIMES * ONCE, time.monotonic()
            campaign.say(f"{TIMES} times the load for {overload_s} s")
            await asyncio.sleep(overload_s)
            load.per_second, rush_until = ONCE, time.monotonic()
            campaign.say("once again")
            await asyncio.sleep(after_s)
        # Who expired in line was accepted too; there should be none, because late jobs are refused at the door.
        report = await check(
            stack, b.sent, b.sampler, b.oracle, gateway_url=gateway.url, may_end=frozenset({"succeeded", "expired"})
        )
    calm = [one for one in b.sent if calm_from <= one.began < rush_from]
    rush = [one for one in b.sent if rush_from <= one.began < rush_until]
    refused = [one for one in b.sent if one.status in (429, 503)]
    report.expect("neither answered nor refused", [f"{o.status} {o.error}" for o in b.sent if _is_odd(o)])
    unclear = [one for one in refused if not (one.retry_after.isdigit() and 1 <= int(one.retry_after) <= 120)]
    report.expect("refused without an integer Retry-After", [f"{one.status} {one.error}" for one in unclear])
    stored = [one.job_id for one in refused if one.job_id in report.records]
    report.expect("refused, but stored", stored)
    once = _goodput(b.sent, calm_from, rush_from)
    # Once the queue is full: its filling up would flatter it.
    crowded = _goodput(b.sent, rush_from + SETTLE_S, rush_until)
    outcome.add(f"goodput at {TIMES}x, of that at 1x", len(rush), f"{crowded:.1f} /s of {once:.1f} /s",
                f">= {GOODPUT_SHARE:.0%}", crowded >= GOODPUT_SHARE * once)  # fmt: skip
    outcome.some("refused", len(b.sent), len(refused))
    outcome.within("time to a refusal, p99", len(refused), percentile([one.seconds for one in refused], 0.99),
                   REFUSED_WITHIN_S)  # fmt: skip
    outcome.none("refusals without an integer Retry-After", len(refused), len(unclear))
    accepted = [one.seconds for one in rush if one.accepted]
    outcome.within("accepted at 5x, time to the answer, p99", len(accepted), percentile(accepted, 0.99), DEADLINE_S)
    expired = sum(r.state == "expired" for r in report.records.values())
    outcome.tell("accepted, but expired in line", len(report.records), expired)
    usual_s = percentile([one.seconds for one in calm if one.complete], 0.99)
    late = [one for one in b.sent if one.began >= rush_until and not _is_normal(one, usual_s)]
    normal_s = max((one.began - rush_until for one in late), default=0.0)
    outcome.within("end of the overload to normal service", len(b.sent) - len(calm) - len(rush), normal_s,
                   NORMAL_WITHIN_S)  # fmt: skip
    outcome.add_report(report)
    return outcome


def _is_odd(one: Sent) -> bool:
    return not one.complete and one.status not in (429, 503) and one.error != "job_timeout"


def _is_normal(one: Sent, usual_s: float) -> bool:
    return one.complete and one.seconds <= NORMAL_TIMES * usual_s


def _goodput(sent: Sequence[Sent], begin: float, end: float) -> float:
    """Whole answers within their deadline, a second, by when they came."""
    good = sum(one.complete and begin <= one.ended < end and one.seconds <= DEADLINE_S for one in sent)
    return good / (end - begin)
