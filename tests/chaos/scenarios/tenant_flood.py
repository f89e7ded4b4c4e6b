"""F19: one tenant sends 95 % of all requests, several times what can be served; another sends as before.

What the other tenant waits for is its answer. With every slot taken by somebody, no fairness can start its job before
one is free, so the wait in the queue alone is told without a bound.
"""

from __future__ import annotations

import asyncio

from shared.api_keys import Role, as_key_store, create_key
from tests.chaos.campaign import Bench, Campaign, bench
from tests.chaos.checker import Report, check
from tests.chaos.client import Sent, ask
from tests.chaos.outcome import Outcome, percentile
from tests.chaos.stack import until

SHARD = "gw"
SLOTS = 8
TOKENS = (60, 100)
PER_SECOND = 4.0
FLOOD_PER_SECOND = 76.0
"""95 % of 80 a second; 8 slots end about 17."""
TENANT_DEPTH, DEPTH, DEADLINE_S = 60, 400, 20
TIMES = 2.0


async def run(campaign: Campaign) -> Outcome:
    outcome = Outcome("F19", "one tenant sends 95 % of the load, far too much")
    alone_s, flood_s = campaign.size(10, 5), campaign.size(15, 6)
    options = ("--parallel", str(SLOTS))
    queue = {
        "MAX_TENANT_QUEUE_DEPTH": str(TENANT_DEPTH),
        "MAX_QUEUE_DEPTH": str(DEPTH),
        "REQUEST_TIMEOUT": str(DEADLINE_S),
    }
    slots = {"WORKER_CONCURRENCY": str(SLOTS // 2)}
    async with bench(campaign, "F19", simulator_options=options, gateway_env=queue, worker_env=slots) as b:
        stack = b.stack
        gateway, _ = await asyncio.gather(stack.start_gateway(), stack.start_workers(2))
        flooding, other = await _key(b, "flooding"), await _key(b, "other")
        # The form tells the tenant: one asks for chats only, the other for streams only.
        async with b.load(PER_SECOND, tokens=TOKENS, mix={"stream": 1}, headers=other):
            await asyncio.sleep(alone_s)
            alone = len(b.sent)
            campaign.say("flooded by the other tenant")
            async with b.load(FLOOD_PER_SECOND, tokens=TOKENS, mix={"chat": 1}, headers=flooding):
                await asyncio.sleep(flood_s)
        report = await check(stack, b.sent, b.sampler, b.oracle, gateway_url=gateway.url)
        queued = await _queue_waits(b, report)
    streams = [(i, one) for i, one in enumerate(b.sent) if one.form == "stream"]
    before = [one for i, one in streams if i < alone]
    during = [one for i, one in streams if i >= alone]
    flood = [one for one in b.sent if one.form == "chat"]
    refused = sum(not one.complete for one in during)
    outcome.add("share of the load that is one tenant's", len(flood) + len(during),
                f"{len(flood) / (len(flood) + len(during)):.0%}", ">= 90%",
                len(flood) >= 9 * len(during))  # fmt: skip
    outcome.some("of it refused", len(flood), sum(one.status in (429, 503) for one in flood))
    outcome.none("the other tenant's requests that failed", len(during), refused)
    solo_s = percentile([one.seconds for one in before], 0.95)
    outcome.tell("the other tenant alone, wait for an answer, p95", len(before), f"{solo_s:.2f} s")
    outcome.within("the same in the flood", len(during), percentile([one.seconds for one in during], 0.95),
                   round(TIMES * solo_s, 2))  # fmt: skip
    waits = [queued[one.job_id] for one in during if one.job_id in queued]
    outcome.tell("of that in the queue, p95", len(waits), f"{percentile(waits, 0.95):.2f} s")
    outcome.add_report(report)
    return outcome


async def _key(b: Bench, tenant: str) -> dict[str, str]:
    """The header of a new tenant, once the gateway knows it."""
    text, _ = await create_key(as_key_store(b.stack.redis), SHARD, tenant=tenant, role=Role.INFERENCE)
    headers = {"Authorization": f"Bearer {text}"}

    async def known() -> bool:
        one = await ask(b.stack.http, b.stack.gateways[0].url, Sent(form="chat", prompt="F19 [tokens=1]"), headers)
        return one.complete

    await until(known, 10.0, "the gateway knows the key")
    return headers


async def _queue_waits(b: Bench, report: Report) -> dict[str, float]:
    """Seconds each job was in line before its first start, by Redis' clock."""
    waits = {}
    for job_id, record in report.records.items():
        created = await b.stack.redis.hget(b.stack.keys.record(job_id), "ct")  # type: ignore[misc]  # redis-py 5
        if record.attempts and created is not None:
            waits[job_id] = (record.attempts[0][1] - int(created)) / 1000
    return waits
