"""F18: a crowd of jobs fails at the same moment. They must not come back at the same moment."""

from __future__ import annotations

import asyncio
import resource
import time
from collections import Counter
from collections.abc import Sequence

from tests.chaos.campaign import Bench, Campaign, bench
from tests.chaos.checker import Report, check
from tests.chaos.client import Sent, ask
from tests.chaos.outcome import Outcome
from tests.chaos.stack import until
from tests.chaos.upstream import Door, behave, door, misbehave

WORKERS = 4
CLIENTS = 32
BUCKET_S = 0.1
CROWDED = 3.0
"""Times the mean of a bucket."""
FILES = 16_384


async def run(campaign: Campaign) -> Outcome:
    jobs = campaign.size(2000, 400)
    outcome = Outcome("F18", f"{jobs} calls break off at one moment")
    env = {
        "WORKER_CONCURRENCY": str(jobs // WORKERS),
        # All of one class: none of the host's calls is kept for high.
        "MAX_CONCURRENT_REQUESTS": str(jobs),
        "RESERVED_HIGH_SLOTS": "0",
        "ENABLE_CIRCUIT_BREAKER": "false",  # it would hold all of them back
        "RETRY_BUDGET_SIZE": str(jobs),  # it would let ten of them through
    }
    _allow_files()
    async with bench(campaign, "F18", worker_env=env) as b, door(b.stack) as way:
        stack = b.stack
        through = {"OLLAMA_BASE_URL": f"http://127.0.0.1:{way.port}"}
        await asyncio.gather(stack.start_gateway(), stack.start_workers(WORKERS, **through))
        await misbehave(stack, "hang", count=jobs)
        await _submit(b, jobs)

        async def all_called() -> bool:
            return len(await stack.calls()) == jobs

        await until(all_called, 40.0, "every job is under way")
        campaign.say("all break off")
        failed_at = await _break(b, way)
        report = await check(stack, b.sent, b.sampler, b.oracle, gateway_url=stack.gateways[0].url)
        dues = await _dues(b, report)
    instants = sorted(second for _, second in dues)
    buckets = Counter(int((at - instants[0]) / BUCKET_S) for at in instants)
    span_s = instants[-1] - instants[0]
    largest, mean = max(buckets.values()), len(instants) / max(1.0, span_s / BUCKET_S)
    outcome.tell("calls that failed, within", len(dues), f"{max(end for end, _ in dues) - failed_at:.2f} s")
    bound = CROWDED * mean
    what = "retries in the fullest tenth of a second"
    outcome.add(what, len(instants), largest, f"<= {bound:.0f} (3 x mean)", largest <= bound)
    outcome.tell("second calls spread over", len(instants), f"{span_s:.2f} s")
    delays = sorted(second - end for end, second in dues)
    outcome.tell("pause before the second call, median", len(delays), f"{delays[len(delays) // 2]:.2f} s")
    outcome.add_report(report)
    return outcome


def _allow_files() -> None:
    """The way to the model server takes two sockets a call."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < FILES <= hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, hard))


async def _submit(b: Bench, jobs: int) -> None:
    batch = [Sent(form="job", prompt=f"F18 question {number} about rivers [tokens=5]") for number in range(jobs)]
    b.sent += batch
    waiting = iter(batch)

    async def client() -> None:
        for one in waiting:
            await ask(b.stack.http, b.stack.gateways[0].url, one)

    await asyncio.gather(*(client() for _ in range(CLIENTS)))


async def _break(b: Bench, way: Door) -> float:
    """Cut every call; when that was, Unix seconds."""
    await behave(b.stack)
    at = time.time()
    way.cut()
    return at


async def _dues(b: Bench, report: Report) -> Sequence[tuple[float, float]]:
    """(end of the first run, start of the second) of each job, Unix seconds by Redis' clock."""
    found = []
    for record in report.records.values():
        fields = await b.stack.record(record.id)
        ended = int(fields[b"z1"].split(b"|", 2)[1]) / 1000
        found.append((ended, record.attempts[1][1] / 1000))
    return found
