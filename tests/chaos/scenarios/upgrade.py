"""F29: gateways and workers of two releases whose jobs differ, each way round, and a job of no release at all.

What a worker cannot read it sets aside, with a reason and with its payload. Once a worker of the right release is
there, a replay runs it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from shared.wire.codec import SCHEMA_VERSION, decode_job, encode
from tests.chaos.campaign import Bench, Campaign, bench
from tests.chaos.checker import Record, check, quiet
from tests.chaos.client import Sent, ask
from tests.chaos.former_release import MODULE, env
from tests.chaos.outcome import Outcome
from tests.chaos.stack import Gateway
from tests.shared.queue.rig import chat, queue_client

REASON = b"undecodable_job"
NO_RELEASE = SCHEMA_VERSION + 98
QUIET_WITHIN_S = 20.0
ASIDE = "dead_lettered"


async def run(campaign: Campaign) -> Outcome:
    outcome = Outcome("F29", "gateways and workers of two releases")
    each = campaign.size(20, 5)
    async with bench(campaign, "F29") as b:
        stack = b.stack
        new, old, worker, former = await asyncio.gather(
            stack.start_gateway(),
            stack.start_gateway(MODULE, **env("gateway")),
            stack.start_worker(),
            stack.start_worker(MODULE, **env("worker")),
        )
        former.process.stop()
        campaign.say("a gateway of the former release, a worker of this one")
        upwards = await _ask(b, old, each)
        strange = await _of_no_release(b)
        aside = await quiet(stack, QUIET_WITHIN_S)
        campaign.say("replayed by a worker of the former release")
        worker.process.stop()
        former.process.go_on()
        replayed = await _replay(b, new, upwards)
        campaign.say("a gateway of this release, a worker of the former one")
        downwards = await _ask(b, new, each)
        aside |= await quiet(stack, QUIET_WITHIN_S)
        campaign.say("replayed by a worker of this release")
        former.process.kill()
        worker.process.go_on()
        replayed += await _replay(b, new, downwards)
        report = await check(
            stack, b.sent, b.sampler, b.oracle, gateway_url=new.url, may_end=frozenset({"succeeded", ASIDE})
        )
    for what, ids in (("former gateway, this worker", upwards), ("this gateway, former worker", downwards),
                      (f"a job of version {NO_RELEASE}", [strange])):  # fmt: skip
        parked = sum(_is_aside(aside[job_id]) for job_id in ids)
        outcome.add(f"{what}: set aside with the reason", len(ids), parked, str(len(ids)), parked == len(ids))
    ran = sum(report.records[job_id].state == "succeeded" for job_id in replayed)
    outcome.add("replayed once the right release was there: ran", len(replayed), ran, str(2 * each), ran == 2 * each)
    outcome.add_report(report)
    return outcome


def _is_aside(record: Record) -> bool:
    return record.state == ASIDE and REASON in record.error and not record.crashes


async def _ask(b: Bench, gateway: Gateway, count: int) -> list[str]:
    """Submit jobs; their ids."""
    batch = [Sent(form="job", prompt=f"F29 question {len(b.sent) + i} about rivers [tokens=30]") for i in range(count)]
    b.sent += batch
    await asyncio.gather(*(ask(b.stack.http, gateway.url, one) for one in batch))
    return [one.job_id for one in batch]


async def _of_no_release(b: Bench) -> str:
    """A job as some other release may write it: the version unknown, and fields that nobody here knows."""
    job = chat("F29 strange question", delay_s=1.0)
    async with queue_client(b.stack.redis_url) as client:
        await client.enqueue(job)
        name = client.keys.payload_root + job.id
        payload = decode_job(await client.redis.get(name))
        spec = {"v": NO_RELEASE, "request": payload.k.request, "shape": ["of", "things", "to", "come"]}
        stored = encode({"t": None, "f": payload.f, "a": (), "k": spec, "et": payload.et, "new": True})
        await client.redis.set(name, stored, keepttl=True)
    return job.id


async def _replay(b: Bench, gateway: Gateway, job_ids: Sequence[str]) -> list[str]:
    """Run dead letters again, and wait for their ends; the new jobs' ids."""
    ids = []
    for job_id in job_ids:
        async with b.stack.http.post(f"{gateway.url}/admin/dead-letters/{job_id}/replay", json={}) as response:
            response.raise_for_status()
            ids.append((await response.json())["id"])
    await quiet(b.stack, QUIET_WITHIN_S)
    return ids
