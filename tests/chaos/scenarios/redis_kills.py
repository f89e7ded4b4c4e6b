"""F6: Redis is killed and comes back some seconds later, with its append-only file synced every second or always.

In a full run it also hangs once, for longer than a lease: connections stay open and nobody answers on them. And a
worker is told to go while there is no Redis to hand its jobs back to. `--redis-kills N` makes only the kills, but N.
"""

from __future__ import annotations

import asyncio
import time

from tests.chaos.campaign import Bench, Campaign, bench
from tests.chaos.checker import check
from tests.chaos.client import Sent, ask
from tests.chaos.outcome import Outcome

WORKERS = 2
PER_SECOND = 12.0
DOWN_S, UP_S = (1.0, 5.0), 3.0
RAPID_DOWN_S, RAPID_UP_S = (0.2, 1.0), 0.5
SHORT_DOWN_S = (2.8, 2.8)
"""Long enough for a client to be told."""
BACK_WITHIN_S = 3.0
ANSWER_WITHIN_S = 2.5
POLICIES = ("everysec", "always")
HUNG_S = 10.0
DRAIN_S = 1
HELD = 12
"""More than one worker has slots for, so that each holds some."""
LEAVES_WITHIN_S = DRAIN_S + 7.0
"""A worker that cannot hand its jobs back gives up after a few seconds; their leases end without it."""


async def run(campaign: Campaign) -> Outcome:
    rapid = campaign.redis_kills > 0
    down_s, up_s = (RAPID_DOWN_S, RAPID_UP_S) if rapid else (SHORT_DOWN_S if campaign.short else DOWN_S, UP_S)
    outcome = Outcome("F6", f"kill -9 of Redis, {down_s[0]:g} to {down_s[1]:g} s down")
    kills = -(-campaign.redis_kills // len(POLICIES)) or campaign.size(5, 1)
    kills_only = rapid or campaign.short
    downs: list[tuple[float, float]] = []
    back: list[float] = []
    hung_back = quits_s = 0.0
    async with bench(campaign, "F6", fsync=POLICIES[0], worker_env={"WORKER_DRAIN_TIMEOUT": str(DRAIN_S)}) as b:
        stack = b.stack
        await asyncio.gather(stack.start_gateway(), stack.start_workers(WORKERS))
        async with b.load(PER_SECOND):
            await asyncio.sleep(1.5)
            for policy in POLICIES:
                if policy != stack.fsync:
                    await _change_policy(b, policy)
                for number in range(kills):
                    campaign.say(f"fsync {policy}: kill {number + 1} of {kills}")
                    stack.kill_redis()
                    began = time.monotonic()
                    await asyncio.sleep(b.draw.uniform(*down_s))
                    downs.append((began, time.monotonic()))
                    ponged = await stack.start_redis()
                    back.append(await b.until_served() - ponged)
                    await asyncio.sleep(up_s)
            if not kills_only:
                campaign.say(f"Redis hangs for {HUNG_S:g} s")
                hung_back = await _hang(b)
                quits_s = await _leaves_without_redis(b)
        report = await check(stack, b.sent, b.sampler, b.oracle, gateway_url=stack.gateways[0].url)
    meanwhile = [one for one in b.sent if any(began <= one.began and one.ended <= up for began, up in downs)]
    refused = [one for one in b.sent if one.status == 503]
    odd = report.expect_refusals(b.sent)
    slowest = max((one.seconds for one in refused), default=0.0)
    n = len(downs)
    crashes = sum(r.crashes for r in report.records.values())
    outcome.within("Redis answers to service is back, slowest", n, max(back), BACK_WITHIN_S)
    if not kills_only:
        outcome.within(f"hung for {HUNG_S:g} s: back", 1, hung_back, BACK_WITHIN_S)
        outcome.within("SIGTERM without Redis: worker's exit", 1, quits_s, LEAVES_WITHIN_S)
    outcome.within("refusals without Redis: slowest 503", len(refused), slowest, ANSWER_WITHIN_S)
    outcome.none("requests that met neither an answer nor a 503", len(b.sent), odd)
    outcome.none("accepted without Redis", len(meanwhile), sum(one.accepted for one in meanwhile))
    outcome.tell("leases that ended, by outages or with that worker", n, crashes)
    # A refusal whose last try reached Redis just before it died: nobody can know.
    outcome.tell("refused, but stored", len(refused), len(report.records) - report.accepted)
    if not report.lost:  # the rule of three: 95 % sure
        outcome.tell("share of kills that may cost an accepted job", n, f"< {min(1.0, 3 / n):.1%}")
    outcome.add_report(report)
    return outcome


async def _hang(b: Bench) -> float:
    """Let Redis hang; seconds from its waking to the next answer."""
    redis = b.stack.redis_process
    assert redis is not None
    redis.stop()
    await asyncio.sleep(HUNG_S)
    redis.go_on()
    woke = time.monotonic()
    return await b.until_served() - woke


async def _leaves_without_redis(b: Bench) -> float:
    """Tell a worker that has work to go while Redis is away; seconds until it is gone. Redis is back afterwards."""
    stack = b.stack
    held = [Sent(form="job", prompt=f"F6 held question {i} about rivers [tokens=600]") for i in range(HELD)]
    b.sent += held
    await asyncio.gather(*(ask(stack.http, stack.gateways[0].url, one) for one in held))
    await asyncio.sleep(0.5)
    stack.kill_redis()
    leaving = stack.workers[0].process
    leaving.terminate()
    began = time.monotonic()
    await leaving.exit_code(30.0)
    took = time.monotonic() - began
    await stack.start_redis()
    return took


async def _change_policy(b: Bench, policy: str) -> None:
    """For this server and for the next ones on its directory."""
    b.stack.fsync = policy
    await b.stack.redis.config_set("appendfsync", policy)
