"""F3: a worker hangs (SIGSTOP) past its lease, another finishes its job, then it wakes (SIGCONT)."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence

from tests.chaos.campaign import Bench, Campaign, bench
from tests.chaos.checker import check
from tests.chaos.client import Sent, ask
from tests.chaos.outcome import Outcome
from tests.chaos.stack import Worker, until

TOKENS = 500
"""2.5 s of work: surely under way when its worker is stopped."""
STOPPED_S = 7.2
"""Longer than a lease (6 s) and the second in which its end is noticed."""
AWAKE_S = 3.0
"""For a zombie to notice: its next renewal is at most 2 s away."""
BATCHES_FULL = 2


async def run(campaign: Campaign) -> Outcome:
    outcome = Outcome("F3", f"SIGSTOP for {STOPPED_S:.0f} s, then SIGCONT: a zombie")
    at_once = campaign.size(10, 3)
    batches = campaign.size(BATCHES_FULL, 1)
    refusals: list[int] = []
    changed: list[str] = []
    async with bench(campaign, "F3") as b:
        stack = b.stack
        await asyncio.gather(stack.start_gateway(), stack.start_workers(at_once, WORKER_CONCURRENCY="1"))
        zombies = list(stack.workers)
        for number in range(batches):
            campaign.say(f"{at_once} workers stopped, batch {number + 1} of {batches}")
            await _batch(b, zombies, number, refusals, changed)
        report = await check(stack, b.sent, b.sampler, b.oracle, gateway_url=stack.gateways[0].url)
    report.expect("record or events changed by a zombie", changed)
    report.expect(
        "a job not run by zombie and rescuer once each",
        [r.id for r in report.records.values() if (len(report.calls[r.id]), r.crashes) != (2, 1)],
    )
    rounds = at_once * batches
    outcome.none("answers, records or events overwritten", rounds, len(changed))
    outcome.some("writes refused and leases found lost, least per round", rounds, min(refusals))
    outcome.add_report(report)
    return outcome


async def _batch(b: Bench, zombies: Sequence[Worker], number: int, refusals: list[int], changed: list[str]) -> None:
    """One job a zombie. Every other zombie wakes while its job runs elsewhere, the rest after it ended there."""
    stack = b.stack
    url = stack.gateways[0].url
    batch = [
        Sent(form=("stream", "job")[i % 2], prompt=f"F3 question {number} {i} about rivers [tokens={TOKENS}]")
        for i in range(len(zombies))
    ]
    before = [await _refusals(b, worker) for worker in zombies]
    b.sent += batch
    clients = [asyncio.create_task(ask(stack.http, url, one)) for one in batch]

    async def all_claimed() -> bool:
        return int(await stack.redis.hget(stack.keys.counters, "running") or 0) == len(zombies)  # type: ignore[misc]

    await until(all_claimed, 10.0, "every zombie holds a job")
    await asyncio.sleep(0.5)  # mid-stream
    for worker in zombies:
        worker.process.stop()
    stopped_at = time.monotonic()
    rescuer = await stack.start_worker(WORKER_CONCURRENCY=str(2 * len(zombies)))
    await asyncio.sleep(max(0.0, stopped_at + STOPPED_S - time.monotonic()))
    for worker in zombies[::2]:
        worker.process.go_on()
    await asyncio.gather(*clients)
    ids = [one.job_id for one in batch]

    async def all_ended() -> bool:
        states = [await stack.redis.hget(stack.keys.record(job_id), "s") for job_id in ids]  # type: ignore[misc]
        return all(state == b"succeeded" for state in states)

    await until(all_ended, 20.0, "the rescuer's answers")
    ends = [await _print(b, job_id) for job_id in ids]
    for worker in zombies[1::2]:
        worker.process.go_on()
    await asyncio.sleep(AWAKE_S)
    for job_id, end in zip(ids, ends, strict=True):
        if await _print(b, job_id) != end:
            changed.append(job_id)
    refusals += [round(await _refusals(b, worker) - had) for worker, had in zip(zombies, before, strict=True)]
    # The zombies hold the next batch, so their rescuer must not be there yet.
    rescuer.process.terminate()
    await rescuer.process.exit_code(20.0)


async def _refusals(b: Bench, worker: Worker) -> float:
    names = ("llm_worker_stale_writes_total", "llm_worker_lost_leases_total")
    return sum([await b.stack.metric(worker, name) for name in names])


async def _print(b: Bench, job_id: str) -> str:
    """A fingerprint of all that a late write could touch: record, result, event log."""
    keys, redis = b.stack.keys, b.stack.redis
    record = await b.stack.record(job_id)
    result = await redis.get(keys.result_root + job_id)
    events = await redis.xrange(keys.events(job_id))
    return hashlib.sha256(repr((sorted(record.items()), result, events)).encode()).hexdigest()
