"""F16: jobs that kill every worker that runs them. The fleet is kept at its size, as a supervisor would."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from tests.chaos.campaign import Bench, Campaign, bench
from tests.chaos.checker import ENDS, Report, check
from tests.chaos.client import Sent, ask, job
from tests.chaos.outcome import Outcome, percentile
from tests.chaos.poisoned_worker import POISON
from tests.chaos.stack import Stack, Worker, until

WORKERS = 3
PER_SECOND = 10.0
TOKENS = (200, 400)
"""1 to 2 s, so that a worker that dies takes several others with it."""
CRASHES = 3
SET_ASIDE_WITHIN_S = 45.0
"""Three leases, one after the other, and the restarts between them."""
ALONE_S = 6.0
SLOWER_AT_MOST = 2.0
FRAGILE = "tests.chaos.poisoned_worker"


@asynccontextmanager
async def restarting(stack: Stack, fleet: list[Worker]) -> AsyncIterator[list[Worker]]:
    """Replace each worker of the fleet that dies. Those that died."""
    dead: list[Worker] = []

    async def watch() -> None:
        while True:
            for worker in [worker for worker in fleet if not worker.process.is_running]:
                worker.process.asked = True
                dead.append(worker)
                fleet.remove(worker)
                fleet.append(await stack.start_worker(FRAGILE))
            await asyncio.sleep(0.05)

    task = asyncio.create_task(watch())
    try:
        yield dead
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def run(campaign: Campaign) -> Outcome:
    outcome = Outcome("F16", "jobs that kill their worker")
    n = campaign.size(3, 1)
    async with bench(campaign, "F16") as b:
        stack = b.stack
        gateway = await stack.start_gateway()
        fleet = list(await asyncio.gather(*(stack.start_worker(FRAGILE) for _ in range(WORKERS))))
        poison = [Sent(form="job", prompt=f"F16 {POISON} {i} [tokens=20]") for i in range(n)]
        async with restarting(stack, fleet) as dead, b.load(PER_SECOND, tokens=TOKENS):
            await asyncio.sleep(ALONE_S)
            alone = len(b.sent)
            for one in poison:
                await ask(stack.http, gateway.url, one)
            campaign.say(f"{n} poison jobs among others")
            await until(lambda: _all_ended(b, poison), SET_ASIDE_WITHIN_S, "the poison jobs are set aside")
        for worker in fleet:
            worker.process.kill()
        await stack.start_workers(WORKERS)
        campaign.say("replayed by healthy workers")
        letters = [await _letter(b, one.job_id) for one in poison]
        replays = [await _replay_twice(b, one.job_id) for one in poison]
        ends = [await job(stack.http, gateway.url, first, 20.0) for first, _ in replays]
        report = await check(stack, b.sent, b.sampler, b.oracle, gateway_url=gateway.url)
    _judge_poison(outcome, report, poison, letters)
    again = sum(first != second for first, second in replays)
    outcome.none("replayed more than once", n, again)
    outcome.add("replays that succeeded", n, sum(e["status"] == "succeeded" for e in ends), str(n),
                all(e["status"] == "succeeded" for e in ends))  # fmt: skip
    outcome.add("workers killed by them", len(dead), len(dead), f"{CRASHES} a job at most", len(dead) <= CRASHES * n)
    _judge_others(outcome, report, b.sent, alone)
    outcome.add_report(report)
    return outcome


def _judge_poison(outcome: Outcome, report: Report, poison: list[Sent], letters: list[dict[str, Any]]) -> None:
    """Set aside after three crashes, with a record that says so and keeps the request's text to itself."""
    records = [report.records[one.job_id] for one in poison]
    aside = sum(r.state == "dead_lettered" and r.crashes == CRASHES for r in records)
    outcome.add(f"poison jobs set aside after {CRASHES} crashes", len(poison), aside, str(len(poison)),
                aside == len(poison))  # fmt: skip
    told = sum(
        letter["reason"] == "job_poisoned" and _crashes(letter) == CRASHES and POISON not in str(letter)
        for letter in letters
    )
    outcome.add("with reason and history, without their text", len(poison), told, str(len(poison)),
                told == len(poison))  # fmt: skip


def _judge_others(outcome: Outcome, report: Report, sent: list[Sent], alone: int) -> None:
    """Everybody else got an answer; who was not on a dying worker, hardly later than before."""
    harmed = [one for one in sent if not one.accepted or one.error]
    report.expect("others were harmed", [f"{one.form} {one.job_id} {one.status} {one.error}" for one in harmed])
    outcome.none("other jobs that failed", len(sent), len(harmed))
    waited = [(i, one) for i, one in enumerate(sent) if one.form in ("chat", "stream") and one.complete]
    crashed = {i for i, one in waited if report.records[one.job_id].crashes}
    before = percentile([one.seconds for i, one in waited if i < alone and i not in crashed], 0.99)
    during = percentile([one.seconds for i, one in waited if i >= alone and i not in crashed], 0.99)
    bound = f"<= {SLOWER_AT_MOST:g} x {before:.2f} s"
    held = during <= SLOWER_AT_MOST * before
    outcome.add("others not on a dying worker, p99", len(waited) - len(crashed), f"{during:.2f} s", bound, held)
    slowest = max((one.seconds for i, one in waited if i in crashed), default=0.0)
    outcome.tell("others on a dying worker, slowest", len(crashed), f"{slowest:.2f} s")


async def _all_ended(b: Bench, jobs: list[Sent]) -> bool:
    states = [await b.stack.redis.hget(b.stack.keys.record(one.job_id), "s") for one in jobs]  # type: ignore[misc]
    return all(state is not None and state.decode() in ENDS for state in states)


async def _letter(b: Bench, job_id: str) -> dict[str, Any]:
    """The dead letter as an operator sees it."""
    url = f"{b.stack.gateways[0].url}/admin/dead-letters/{job_id}"
    async with b.stack.http.get(url) as response:
        response.raise_for_status()
        letter: dict[str, Any] = await response.json()
        return {name: value for name, value in letter.items() if name != "request"}


def _crashes(letter: dict[str, Any]) -> int:
    return sum(attempt["outcome"] == "crashed" for attempt in letter["attempts"])


async def _replay_twice(b: Bench, job_id: str) -> tuple[str, str]:
    """Ask for a replay, and again; the job each answer names."""
    url = f"{b.stack.gateways[0].url}/admin/dead-letters/{job_id}/replay"
    named = []
    for _ in range(2):
        async with b.stack.http.post(url, json={}) as response:
            response.raise_for_status()
            named.append((await response.json())["id"])
    return named[0], named[1]
