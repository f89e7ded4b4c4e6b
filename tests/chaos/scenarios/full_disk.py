"""F21: the disk of the append-only file is full, for longer than a lease.

Redis' files may not grow any more (RLIMIT_FSIZE), so its writes fail as on a full disk, and it refuses ours (MISCONF).
"""

from __future__ import annotations

import asyncio
import time

from tests.chaos.campaign import Bench, Campaign, bench
from tests.chaos.checker import check
from tests.chaos.client import job
from tests.chaos.outcome import Outcome
from tests.chaos.stack import until

WORKERS = 2
PER_SECOND = 15.0
FULL_S = (10.0, 3.0)
"""Full and short; a lease is 6 s."""
ROUNDS = (2, 1)
SETTLE_IN_S = 1.0
SPARE_BYTES = 2000
REFUSED_WITHIN_S = 2.5
BACK_WITHIN_S = 3.0
READS = 5


async def run(campaign: Campaign) -> Outcome:
    outcome = Outcome("F21", f"the disk is full for {FULL_S[campaign.short]:g} s")
    rounds = ROUNDS[campaign.short]
    spans: list[tuple[float, float]] = []
    back: list[float] = []
    unread: list[str] = []
    ready: list[int] = []
    async with bench(campaign, "F21") as b:
        stack = b.stack
        gateway, *_ = await asyncio.gather(stack.start_gateway(), stack.start_workers(WORKERS))
        async with b.load(PER_SECOND):
            for number in range(rounds):
                await asyncio.sleep(SETTLE_IN_S)
                campaign.say(f"disk full {number + 1} of {rounds}")
                ended = [one.job_id for one in b.sent if one.complete][:READS]
                assert stack.redis_process is not None
                stack.redis_process.limit_files(stack.append_only_file.stat().st_size + SPARE_BYTES)
                await until(lambda: _fails(b), 10.0, "a write of Redis fails")
                began = time.monotonic()
                ready.append(await _readiness(b))
                unread += [i for i in ended if (await job(stack.http, gateway.url, i)).get("status") != "succeeded"]
                await asyncio.sleep(FULL_S[campaign.short])
                spans.append((began, time.monotonic()))
                stack.redis_process.limit_files(None)
                back.append(await b.until_served() - spans[-1][1])
        report = await check(stack, b.sent, b.sampler, b.oracle, gateway_url=gateway.url)
    meanwhile = [one for one in b.sent if any(began <= one.began and one.ended <= end for began, end in spans)]
    refused = [one for one in meanwhile if one.status == 503]
    odd = report.expect_refusals(b.sent)
    report.expect("not readable while the disk was full", unread)
    slowest = max((one.seconds for one in refused), default=0.0)
    crashes = sum(record.crashes for record in report.records.values())
    outcome.some("refused with 503 and Retry-After", len(meanwhile), len(refused))
    outcome.none("accepted while nothing could be stored", len(meanwhile), sum(one.accepted for one in meanwhile))
    outcome.within("slowest refusal", len(refused), slowest, REFUSED_WITHIN_S)
    outcome.none("answers other than 503", len(b.sent), odd)
    outcome.add("status of /health/ready meanwhile", rounds, set(ready), "{503}", set(ready) == {503})
    outcome.none("ended jobs not readable meanwhile", rounds * READS, len(unread))
    outcome.within("room again to the next answer, slowest", rounds, max(back), BACK_WITHIN_S)
    outcome.tell("leases that ended", len(report.records), crashes)
    outcome.add_report(report)
    return outcome


async def _fails(b: Bench) -> bool:
    return str((await b.stack.redis.info("persistence"))["aof_last_write_status"]) != "ok"


async def _readiness(b: Bench) -> int:
    async with b.stack.http.get(b.stack.gateways[0].url + "/health/ready") as response:
        return response.status
