"""F10: the model server is gone, broken, busy, silent or slow, one after the other; at last it is gone for a minute.

Jobs come in all the time. A fault lasts a few seconds; then everything must flow again before the next one comes. How
many calls a fault may cost: the row of failures that opens a circuit, a call for each that may be under way when it
does, and one probe an open time. A busy server (429, 503) opens nothing; it is called less.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.errors import DeadlineUnreachable
from shared.resilience.breaker_store import ASK_LIMIT_S
from tests.chaos.campaign import Bench, Campaign, bench
from tests.chaos.checker import Report, check
from tests.chaos.client import Form, Sent, ask
from tests.chaos.load import LONGEST_TOKENS
from tests.chaos.outcome import Outcome
from tests.chaos.stack import until
from tests.chaos.upstream import (
    POLICY,
    Door,
    behave,
    calls_between,
    door,
    misbehave,
    opened_since,
    reset_circuits,
    troubled,
)

SLOTS = 4
PER_SECOND = 12.0
LIMIT_S = 1.5
"""First byte and gap."""
MIX: Mapping[Form, int] = {"job": 80, "embedding_job": 20}
TRIES = 3
CLOSED_WITHIN_S = 65.0
DRAINED_WITHIN_S = 30.0
DEADLINE_S = 3.0
DEADLINE_OFF_S = 1.0
BUSY_PAUSE_S = 1.0
DRIP_S = 1.0


@dataclass(slots=True, frozen=True, kw_only=True)
class Kind:
    """One way to misbehave. `fault` of None: the server's process is gone. `circuits`: how many of them it can open."""

    name: str
    fault: Mapping[str, Any] | None
    seconds: float = 3.0
    circuits: int = 2
    slow_s: float = 0.0
    """Until a failed call is judged; meanwhile every slot makes one call after the other, each up to its limit."""
    lingers_s: float = 0.0
    """How long a call that it has befallen may go on after its end, in a slot that others wait for."""
    opens: bool = True


KINDS = (
    Kind(name="process gone", fault=None, circuits=1),
    Kind(name="500 storm", fault={"kind": "status", "status": 500}),
    Kind(name="503 busy", fault={"kind": "status", "status": 503, "retry_after": BUSY_PAUSE_S}, opens=False),
    Kind(name="429 busy", fault={"kind": "status", "status": 429, "retry_after": BUSY_PAUSE_S}, opens=False),
    Kind(name="hang before headers", fault={"kind": "hang", "match": {"path": "/api/*"}}, seconds=8.0, circuits=1,
         slow_s=LIMIT_S + ASK_LIMIT_S),
    Kind(name="hang mid-stream", fault={"kind": "hang", "after_tokens": 5}, seconds=5.0, slow_s=LIMIT_S),
    Kind(name="drip, a token a second", fault={"kind": "drip", "delay_seconds": DRIP_S}, opens=False,
         lingers_s=LONGEST_TOKENS * DRIP_S),
)  # fmt: skip
SHORT = ("500 storm", "503 busy")


@dataclass(slots=True)
class Tally:
    """What one fault cost."""

    calls: int
    recovery_s: float
    opened: list[str]
    timed: list[Sent] = field(default_factory=list)
    """Jobs with a short deadline, sent as the fault began."""
    broken_off: int = 0
    """Calls under way that the fault ended, and that are among `calls`."""


async def run(campaign: Campaign) -> Outcome:
    outcome = Outcome("F10", "the model server refuses, fails, is busy, hangs, drips; then a total outage")
    workers = campaign.size(8, 3)
    outage_s = float(campaign.size(60, 8))
    kinds = [kind for kind in KINDS if not campaign.short or kind.name in SHORT]
    env = {"WORKER_CONCURRENCY": str(SLOTS), "OLLAMA_TIMEOUT": str(LIMIT_S), "OLLAMA_GAP_TIMEOUT": str(LIMIT_S)}
    tallies: dict[str, Tally] = {}
    async with bench(campaign, "F10", worker_env=env) as b, door(b.stack) as way:
        stack = b.stack
        through = {"OLLAMA_BASE_URL": f"http://127.0.0.1:{way.port}"}
        await asyncio.gather(stack.start_gateway(), stack.start_workers(workers, **through))
        async with b.load(PER_SECOND, mix=MIX):
            await asyncio.sleep(2.0)
            for kind in kinds:
                campaign.say(kind.name)
                tallies[kind.name] = await _fault(b, kind, way)
            campaign.say(f"everything is cut for {outage_s:g} s")
            known = len(b.sent)
            outage, called = await _outage(b, outage_s)
            met = {one.job_id for one in b.sent[known:] if one.accepted}
        report = await check(
            stack, b.sent, b.sampler, b.oracle, gateway_url=stack.gateways[0].url,
            may_end=frozenset({"succeeded", "dead_lettered", "expired"}),
        )  # fmt: skip
    timed = [one for tally in tallies.values() for one in tally.timed]
    report.expect("ended otherwise than by success or three failures", _odd_ends(report, {one.job_id for one in timed}))
    for kind in kinds:
        _judge(outcome, kind, tallies[kind.name], workers, report)
    bound = POLICY.failures + math.ceil(outage_s / POLICY.open_s) + workers
    what = f"total outage of {outage_s:g} s, {workers} workers"
    outcome.add(f"{what}: calls", workers, outage.calls, f"<= {bound}", 1 <= outage.calls <= bound)
    records = [record for record in report.records.values() if record.id in met]
    spent = sum(record.failures + (record.state == "dead_lettered") for record in records)
    outcome.none(f"{what}: tries spent without a call", len(records), abs(spent - sum(job in met for job in called)))
    outcome.none(f"{what}: jobs of that time not succeeded", len(records), sum(r.state != "succeeded" for r in records))
    outcome.within(f"{what}: healed to closed", 1, outage.recovery_s, CLOSED_WITHIN_S)
    dead = [r for r in report.records.values() if r.state == "dead_lettered"]
    outcome.tell("jobs that used up their three tries", len(report.records), len(dead))
    hopeless = [one for one in timed if one.error == DeadlineUnreachable.code]
    outcome.tell(f"refused as hopeless, of those with {DEADLINE_S:g} s to live", len(timed), len(hopeless))
    refused = Counter(f"{one.status} {one.error}" for one in b.sent if not one.accepted and one not in hopeless)
    what = "".join(f", {answer}" for answer in sorted(refused))
    outcome.none(f"submissions refused{what}", len(b.sent), refused.total())
    outcome.add_report(report)
    return outcome


async def _fault(b: Bench, kind: Kind, way: Door) -> Tally:
    stack = b.stack
    failed_before = await _failures(b)
    began = time.time()
    broken_off = 0
    if kind.fault is None:
        broken_off = await stack.counter("running")
        await way.shut()
    else:
        await misbehave(stack, **kind.fault)
    timed = [Sent(form="job", prompt=f"F10 {kind.name} timed {i} [tokens=60]") for i in range(4)]
    b.sent += timed
    headers = {"x-arriero-deadline-seconds": f"{DEADLINE_S:g}"}
    await asyncio.gather(*(ask(stack.http, stack.gateways[0].url, one, headers) for one in timed))
    await asyncio.sleep(began + kind.seconds - time.time())
    opened = await opened_since(stack, began)
    healed = time.time()
    if kind.fault is None:
        await way.open()
        calls = await _failures(b) - failed_before
    else:
        await behave(stack)
        calls = len(await calls_between(stack, began, healed))
    recovery_s = await _flows(b, healed, kind.lingers_s)
    await reset_circuits(stack)
    return Tally(calls, recovery_s, opened, timed, broken_off)


async def _outage(b: Bench, seconds: float) -> tuple[Tally, list[str]]:
    """Its tally, and the jobs of its calls."""
    stack = b.stack
    began = time.time()
    await misbehave(stack, "refuse", match={"path": "*"})
    await asyncio.sleep(seconds)
    healed = time.time()
    await behave(stack)
    opened = await opened_since(stack, began)
    calls = await calls_between(stack, began, healed)
    return Tally(len(calls), await _flows(b, healed), opened), [call["request_id"] for call in calls]


async def _failures(b: Bench) -> int:
    """Calls that counted as a try, over all jobs so far."""
    return await b.stack.counter("retried") + await b.stack.counter("dead_lettered")


async def _flows(b: Bench, healed: float, lingers_s: float = 0.0) -> float:
    """Wait until all circuits are closed and nothing waits. Seconds from the healing to the former.

    `lingers_s`: so long calls from before the healing may still hold their slots, all of them if it comes to that.
    """

    async def all_closed() -> bool:
        return not await troubled(b.stack)

    await until(all_closed, CLOSED_WITHIN_S + 5.0, "circuits close")
    recovery_s = time.time() - healed

    async def drained() -> bool:
        waiting = [await b.stack.counter(state) for state in ("queued", "scheduled")]
        return sum(waiting) <= PER_SECOND

    try:
        await until(drained, lingers_s + DRAINED_WITHIN_S, "the backlog drains")
    except TimeoutError as late:
        held = {state: await b.stack.counter(state) for state in ("queued", "scheduled", "running")}
        raise TimeoutError(f"{late}; jobs: {held}") from None
    return recovery_s


def _odd_ends(report: Report, timed: set[str]) -> list[str]:
    return [
        f"{record.id} {record.state} after {record.failures} failures"
        for record in report.records.values()
        if not (
            record.state == "succeeded"
            or (record.state == "dead_lettered" and record.failures + 1 >= TRIES)
            or record.id in timed
        )
    ]


def _judge(outcome: Outcome, kind: Kind, tally: Tally, workers: int, report: Report) -> None:
    name = kind.name
    if kind.opens:
        under_way = workers * (SLOTS * math.ceil(kind.slow_s / LIMIT_S) if kind.slow_s else kind.circuits)
        probes = kind.circuits * math.ceil(kind.seconds / POLICY.open_s)
        bound = tally.broken_off + kind.circuits * POLICY.failures + under_way + probes
        outcome.add(f"{name}: calls", workers, tally.calls, f"<= {bound}", 1 <= tally.calls <= bound)
        outcome.some(f"{name}: circuits opened", 1, len(tally.opened))
        outcome.within(f"{name}: healed to closed", 1, tally.recovery_s, CLOSED_WITHIN_S)
    else:
        outcome.none(f"{name}: circuits opened", 1, len(tally.opened))
    if "busy" in name:
        # At the start all slots may be under way; from then on one call a pause and worker comes back to ask.
        bound = workers * SLOTS + workers * math.ceil(kind.seconds / BUSY_PAUSE_S)
        outcome.add(f"{name}: calls", workers, tally.calls, f"<= {bound}", 1 <= tally.calls <= bound)
    # Some are refused at the door: they would not have been run in time.
    accepted = [one for one in tally.timed if one.accepted]
    late = [s for one in accepted if (s := _overrun_s(report, one)) > DEADLINE_OFF_S]
    outcome.none(f"{name}: ended later than 1 s after their deadline", len(accepted), len(late))


def _overrun_s(report: Report, one: Sent) -> float:
    return report.records[one.job_id].lived_s - DEADLINE_S
