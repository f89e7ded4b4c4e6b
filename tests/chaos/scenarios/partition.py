"""F4: workers are cut off from Redis for longer than a lease; clients, gateway and model server see nothing of it.

One worker hears nothing and is not heard: its last commands arrive when the partition is over. The other is heard but
hears nothing. Half of their runs end meanwhile and are to be settled afterwards, the other half go on for ever.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from tests.chaos.campaign import Bench, Campaign, bench
from tests.chaos.checker import check
from tests.chaos.client import Form, Sent, ask
from tests.chaos.outcome import Outcome
from tests.chaos.proxy import Toxics
from tests.chaos.stack import Worker, until

CUT_S = (15.0, 12.0)
"""Full and short; a lease is 6 s."""
SLOTS = 6
HELD = 2 * SLOTS
TOKENS = 300
"""1.5 s: the runs that do not hang are over long before the partition is."""
FURTHER = 20
STOPS_WITHIN_S = 6.0
"""One lease, counted from when a worker can hear that it has lost it."""
SILENCE = Toxics(blackhole=True)
IN_FLIGHT = "llm_worker_jobs_in_flight"


async def run(campaign: Campaign) -> Outcome:
    cut_s = CUT_S[campaign.short]
    outcome = Outcome("F4", f"two workers cut off from Redis for {cut_s:g} s")
    async with bench(campaign, "F4", worker_env={"WORKER_CONCURRENCY": str(SLOTS)}) as b:
        stack = b.stack
        (both, through_both), (answers, through_answers) = await stack.proxy_redis(), await stack.proxy_redis()
        gateway, *cut_off = await asyncio.gather(
            stack.start_gateway(), stack.start_worker(**through_both), stack.start_worker(**through_answers)
        )
        async with stack.http.post(
            stack.simulator_url + "/_sim/faults", json={"kind": "hang", "count": SLOTS}
        ) as response:
            response.raise_for_status()
        clients = _submit(b, "held", HELD, TOKENS)
        await until(lambda: _calls(b, HELD), 15.0, "every slot is taken")

        campaign.say("partition")
        both.poison(up=SILENCE, down=SILENCE)
        answers.poison(down=SILENCE)
        began = time.monotonic()
        await stack.start_worker(WORKER_CONCURRENCY=str(HELD))
        clients += _submit(b, "further", FURTHER, 20)
        await asyncio.sleep(cut_s - (time.monotonic() - began))
        ended = await stack.counter("succeeded")
        going_on = round(sum([await stack.metric(worker, IN_FLIGHT) for worker in cut_off]))
        both.heal()
        answers.heal()
        began = time.monotonic()
        await until(lambda: _idle(b, cut_off), 30.0, "the workers stop what they lost")
        stopped_s = time.monotonic() - began
        refused = round(sum([await _refusals(b, worker) for worker in cut_off]))
        await asyncio.gather(*clients)

        campaign.say("after the partition")
        await asyncio.gather(*_submit(b, "later", 2 * HELD, 40))
        report = await check(stack, b.sent, b.sampler, b.oracle, gateway_url=gateway.url)
        later = {one.job_id for one in b.sent[-2 * HELD :]}
        serving = {int(w.split(".")[1]) for r in report.records.values() if r.id in later for w, *_ in r.attempts}
        again = sum(worker.process.pid in serving for worker in cut_off)
    crashed = sum(record.crashes for record in report.records.values())
    outcome.some("leases that ended during the partition", HELD, crashed)
    outcome.add("jobs that ended meanwhile, elsewhere", HELD + FURTHER, ended, f">= {HELD}", ended >= HELD)
    # By design: it cannot tell a partition from an outage of Redis, after which its leases can be revived.
    outcome.tell("runs that went on past their lease, unheard", HELD, going_on)
    outcome.some("late writes refused, leases found lost", HELD, refused)
    outcome.within("partition's end to the last lost run stopped", HELD, stopped_s, STOPS_WITHIN_S)
    outcome.add("workers that serve again", len(cut_off), again, str(len(cut_off)), again == len(cut_off))
    outcome.add_report(report)
    return outcome


def _submit(b: Bench, what: str, count: int, tokens: int) -> list[asyncio.Task[Sent]]:
    forms: tuple[Form, ...] = ("chat", "stream", "job")
    batch = [
        Sent(form=forms[i % 3], prompt=f"F4 {what} question {i} about rivers [tokens={tokens}]") for i in range(count)
    ]
    b.sent += batch
    return [asyncio.create_task(ask(b.stack.http, b.stack.gateways[0].url, one)) for one in batch]


async def _calls(b: Bench, count: int) -> bool:
    return len(await b.stack.call_log()) >= count


async def _idle(b: Bench, workers: Sequence[Worker]) -> bool:
    return not any([await b.stack.metric(worker, IN_FLIGHT) for worker in workers])


async def _refusals(b: Bench, worker: Worker) -> float:
    names = ("llm_worker_stale_writes_total", "llm_worker_lost_leases_total")
    return sum([await b.stack.metric(worker, name) for name in names])
