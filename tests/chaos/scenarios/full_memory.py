"""F9: Redis may use 8 MB, evicts nothing, and more is submitted than fits: first all at once, then steadily.

At once is faster than the queue measures Redis' memory, so Redis itself refuses, with jobs running and waiting. They
must end all the same, for it is their end that frees memory. At last the limit falls below what is in use.
"""

from __future__ import annotations

import asyncio
import time

from tests.chaos.campaign import Bench, Campaign, bench
from tests.chaos.checker import check
from tests.chaos.client import Sent, ask
from tests.chaos.outcome import Outcome
from tests.chaos.stack import until

WORKERS = 2
MEMORY = "8mb"
PAYLOAD_BYTES = 32_000
PER_SECOND = 60.0
STEADY_S = (10.0, 4.0)
"""Full and short."""
BURST = 300
"""9.6 MB, in requests."""
TOKENS = 100
"""0.5 s: 32 jobs end a second."""
BELOW_S = 1.5
SERVED_WITHIN_S = 3.0


async def run(campaign: Campaign) -> Outcome:
    outcome = Outcome("F9", f"Redis has {MEMORY} of memory, more is submitted")
    steady_s = STEADY_S[campaign.short]
    options = ("--maxmemory", MEMORY, "--maxmemory-policy", "noeviction")
    async with bench(campaign, "F9", redis_options=options) as b:
        stack = b.stack
        gateway, *_ = await asyncio.gather(stack.start_gateway(), stack.start_workers(WORKERS))
        campaign.say("more than fits, at once")
        clients = [_submit(b, number) for number in range(BURST)]
        await asyncio.gather(*clients)
        full = _used(await stack.redis.info("memory"))
        no_memory = (await stack.redis.info("errorstats")).get("errorstat_OOM", {}).get("count", 0)
        ended_before = await stack.counter("succeeded")
        campaign.say("more than fits, steadily")
        began = time.monotonic()
        while time.monotonic() < began + steady_s:
            clients.append(_submit(b, len(b.sent)))
            await asyncio.sleep(b.draw.expovariate(PER_SECOND))
        await asyncio.gather(*clients)
        ended = await stack.counter("succeeded") - ended_before
        campaign.say("less than is in use")
        in_use = int((await stack.redis.info("memory"))["used_memory"])
        await stack.redis.config_set("maxmemory", in_use // 2)
        ended_before = await stack.counter("succeeded")
        await asyncio.sleep(BELOW_S)
        ended_beyond = await stack.counter("succeeded") - ended_before
        await stack.redis.config_set("maxmemory", MEMORY)
        await until(lambda: _drained(b), 60.0, "the queue is empty")
        freed_at = time.monotonic()
        served_s = await _until_served(b) - freed_at
        report = await check(stack, b.sent, b.sampler, b.oracle, gateway_url=gateway.url)
    refused = [one for one in b.sent if one.status == 503]
    odd = report.expect_refusals(b.sent)
    outcome.some("refused with 503 and Retry-After", len(b.sent), len(refused))
    outcome.none("answers other than 503", len(b.sent), odd)
    outcome.some("calls that Redis itself refused for want of memory", BURST, no_memory)
    outcome.tell("memory in use then", 1, f"{full:.0%} of {MEMORY}")
    outcome.some("jobs that ended while more was submitted", report.accepted, ended)
    outcome.some("jobs that ended while Redis was beyond its limit", report.accepted, ended_beyond)
    outcome.within("queue empty to the next job accepted", 1, served_s, SERVED_WITHIN_S)
    outcome.add_report(report)
    return outcome


def _submit(b: Bench, number: int) -> asyncio.Task[Sent]:
    filler = "lorem " * (PAYLOAD_BYTES // 6)
    one = Sent(form="job", prompt=f"F9 question {number} about rivers [tokens={TOKENS}] {filler}")
    b.sent.append(one)
    return asyncio.create_task(ask(b.stack.http, b.stack.gateways[0].url, one))


async def _drained(b: Bench) -> bool:
    return not await b.stack.redis.zcard(b.stack.keys.alarms)


def _used(memory: dict[str, int]) -> float:
    return memory["used_memory"] / memory["maxmemory"]


async def _until_served(b: Bench) -> float:
    """Ask until something is accepted. When that was, monotonic seconds."""
    while True:
        if (await _submit(b, len(b.sent))).accepted:
            return time.monotonic()
        await asyncio.sleep(0.05)
