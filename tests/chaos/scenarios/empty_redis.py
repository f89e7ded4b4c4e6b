"""F7: Redis has no append-only file and comes back empty. What was accepted is gone, and everybody must be told so."""

from __future__ import annotations

import asyncio
import json
import time

from tests.chaos.campaign import Bench, Campaign, bench
from tests.chaos.checker import check
from tests.chaos.client import Form, Sent, ask, frames
from tests.chaos.outcome import Outcome
from tests.chaos.stack import until

WORKERS, SLOTS = 2, 8
WAITING = 36
"""Clients at each restart: chats, streams, readers of events. The workers have slots for less than half of them."""
DOWN_S = 1.0
PER_SECOND, LOAD_S = 20.0, 1.5
TOLD_WITHIN_S = 5.0
IDLE_WITHIN_S = 5.0
"""For the workers to learn what they have lost: they renew every 2 s."""


async def run(campaign: Campaign) -> Outcome:
    outcome = Outcome("F7", "Redis comes back empty")
    restarts = campaign.size(3, 1)
    told: list[float] = []
    silent: list[str] = []
    found: list[str] = []
    idle: list[float] = []
    async with bench(campaign, "F7", redis_options=("--appendonly", "no")) as b:
        stack = b.stack
        gateway, *_ = await asyncio.gather(stack.start_gateway(), stack.start_workers(WORKERS))
        async with stack.http.get(gateway.url + "/health/ready") as response:
            durability = (await response.json())["durability"]
        for number in range(restarts):
            campaign.say(f"empty restart {number + 1} of {restarts}")
            lost, back_at = await _restart(b, number)
            told += [one.ended - back_at for one in lost]
            silent += [f"{one.form} {one.job_id} {one.status}" for one in lost if one.error != "job_lost"]
            for one in lost:
                async with stack.http.get(f"{gateway.url}/v1/jobs/{one.job_id}") as response:
                    if response.status != 404:
                        found.append(f"{one.job_id}: {response.status}")
            await until(lambda: _idle(b), 30.0, "the workers stop what was lost")
            idle.append(time.monotonic() - back_at)
        async with b.load(PER_SECOND):  # after the last restart, or these would be lost, too
            await asyncio.sleep(LOAD_S)
        report = await check(stack, b.sent, b.sampler, b.oracle, gateway_url=gateway.url)
    n = restarts * WAITING
    report.expect("clients that were not told of the loss", silent)
    report.expect("lost jobs that are not 404", found)
    outcome.add("what /health/ready says of it beforehand", 1, durability, "none", durability == "none")
    outcome.within("Redis answers to the last client was told", n, max(told), TOLD_WITHIN_S)
    outcome.none("clients without an error", n, len(silent))
    outcome.none("lost jobs that are found all the same", n, len(found))
    outcome.within("Redis answers to the last lost run stopped", restarts, max(idle), IDLE_WITHIN_S)
    outcome.add_report(report)
    return outcome


async def _restart(b: Bench, number: int) -> tuple[list[Sent], float]:
    """Have jobs wait and run, then lose them. They, once each client was told; and when Redis answered again."""
    stack = b.stack
    faults, url = stack.simulator_url + "/_sim/faults", stack.gateways[0].url
    async with stack.http.post(faults, json={"kind": "hang"}) as response:
        response.raise_for_status()
    forms: tuple[Form, ...] = ("chat", "stream", "job")
    lost = [Sent(form=forms[i % 3], prompt=f"F7 lost question {number} {i} about rivers") for i in range(WAITING)]
    before = await stack.counter("accepted")
    clients = [asyncio.create_task(_stay(b, url, one)) for one in lost]

    async def under_way() -> bool:
        accepted = await stack.counter("accepted") - before
        return accepted == WAITING and await stack.counter("running") == WORKERS * SLOTS

    await until(under_way, 15.0, "jobs wait and run")
    await asyncio.sleep(0.5)  # those who follow events are connected, too
    stack.kill_redis()
    await asyncio.sleep(DOWN_S)
    back_at = await stack.start_redis()
    async with stack.http.delete(faults) as response:
        response.raise_for_status()
    await asyncio.gather(*clients)
    return lost, back_at


async def _stay(b: Bench, url: str, one: Sent) -> None:
    """Send it and wait for its end; who submitted a job follows its events."""
    await ask(b.stack.http, url, one)
    if one.form != "job" or not one.accepted:
        return
    async with b.stack.http.get(f"{url}/v1/jobs/{one.job_id}/events") as response:
        async for event in frames(response):
            if event.get("event") == "ended":
                one.error = ((json.loads(event["data"]).get("error")) or {}).get("code", "")
    one.ended = time.monotonic()


async def _idle(b: Bench) -> bool:
    return not any([await b.stack.metric(worker, "llm_worker_jobs_in_flight") for worker in b.stack.workers])
