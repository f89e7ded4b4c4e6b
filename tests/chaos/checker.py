"""The invariants, checked once everything is quiet: what clients were told, what the model server was asked, what
Redis holds.

I1 every accepted job has ended   I2 one end each, never changed   I4 executions are bounded by what went wrong
I5 answers are the right ones     I6 nothing is left over          I7 counters agree with the records
I8 no process ended unasked
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from shared.jobs import State
from shared.queue.plans import CALL
from tests.chaos.client import Sent, answer_of, job
from tests.chaos.oracle import Oracle
from tests.chaos.sampler import Sampler
from tests.chaos.stack import Stack

ENDS = frozenset(state for state in State if state.is_terminal)
READERS = 8
SHOWN = 5


@dataclass(slots=True, frozen=True)
class Record:
    """What the checker needs of a job's record."""

    id: str
    state: str
    failures: int
    crashes: int
    error: bytes
    attempts: tuple[tuple[str, int, str], ...]
    """(worker, start in Redis' ms, outcome or '') of each; of those that were handed back only the latest is kept."""
    runs: int
    """How often it was claimed."""
    lived_s: float
    """From its acceptance to its end, by Redis' clock; 0 before."""

    def count(self, outcome: str) -> int:
        return sum(found == outcome for _, _, found in self.attempts)

    @property
    def handed_back(self) -> int:
        """Runs that ended because nothing could be called just then."""
        return self.runs - len(self.attempts) + self.count("handed_back")


@dataclass(slots=True)
class Report:
    """What the checker found. `breaches` is empty when every invariant held."""

    breaches: list[str] = field(default_factory=list)
    records: dict[str, Record] = field(default_factory=dict)
    calls: dict[str, list[float]] = field(default_factory=dict)
    accepted: int = 0
    lost: int = 0

    def expect(self, invariant: str, broken: Sequence[str]) -> None:
        """Note a breach if there is anything in `broken`."""
        if broken:
            more = f" and {len(broken) - SHOWN} more" if len(broken) > SHOWN else ""
            self.breaches.append(f"{invariant} ({len(broken)}): {'; '.join(broken[:SHOWN])}{more}")

    def expect_refusals(self, sent: Sequence[Sent]) -> int:
        """What is not accepted is refused with 503 and Retry-After. How many met something else than a 503."""
        odd = [one for one in sent if not one.accepted and one.status != 503]
        self.expect("answers other than 503", [f"{one.form} {one.status} {one.error}" for one in odd])
        bare = [one for one in sent if one.status == 503 and not one.retry_after.isdigit()]
        self.expect("503 without Retry-After", [f"{one.form} {one.error}" for one in bare])
        return len(odd)


def read_record(job_id: str, fields: dict[bytes, bytes]) -> Record:
    attempts = []
    runs = int(fields.get(b"n", 0))
    for number in range(1, runs + 1):
        if b"a%d" % number not in fields:
            continue
        worker, _, started = fields[b"a%d" % number].decode().rpartition("|")
        outcome = fields.get(b"z%d" % number, b"").split(b"|", 1)[0].decode()
        attempts.append((worker, int(started), outcome))
    return Record(
        id=job_id,
        state=fields[b"s"].decode(),
        failures=int(fields.get(b"f", 0)),
        crashes=int(fields.get(b"x", 0)),
        error=fields.get(b"er", b""),
        attempts=tuple(attempts),
        runs=runs,
        lived_s=max(0, int(fields.get(b"ea", 0)) - int(fields[b"ct"])) / 1000,
    )


async def records_of(stack: Stack) -> dict[str, Record]:
    """Every job there is, by the tenants' indexes."""
    tenants = sorted(raw.decode() for raw in await stack.redis.smembers(stack.keys.tenants))  # type: ignore[misc]  # redis-py 5
    indexes = [await stack.redis.zrange(stack.keys.tenant(name), 0, -1) for name in tenants]
    ids = [raw.decode() for index in indexes for raw in index]
    pipe = stack.redis.pipeline(transaction=False)
    for job_id in ids:
        pipe.hgetall(stack.keys.record(job_id))
    return {job_id: read_record(job_id, f) for job_id, f in zip(ids, await pipe.execute(), strict=True) if f}


async def quiet(stack: Stack, timeout_s: float) -> dict[str, Record]:
    """The records once every job has ended, or after `timeout_s` as they are."""
    give_up_at = time.monotonic() + timeout_s
    while True:
        records = await records_of(stack)
        if all(record.state in ENDS for record in records.values()) or time.monotonic() > give_up_at:
            return records
        await asyncio.sleep(0.2)


async def check(
    stack: Stack,
    sent: Sequence[Sent],
    sampler: Sampler,
    oracle: Oracle,
    *,
    gateway_url: str,
    may_end: frozenset[str] = frozenset({"succeeded"}),
    quiet_within_s: float = 40.0,
    forgotten: Set[str] = frozenset(),
) -> Report:
    """Wait for quiet, then check everything. `may_end` are the ends that the scenario allows an accepted job.

    Of the jobs in `forgotten` Redis' last news was destroyed: they may be unknown, or have gone back and run again.
    """
    report = Report()
    report.records = await quiet(stack, quiet_within_s)
    report.calls = await stack.calls()
    await _read_jobs(stack, sent, gateway_url)
    accepted = [one for one in sent if one.accepted]
    report.accepted = len(accepted)

    lost = [one for one in accepted if one.job_id not in report.records and one.job_id not in forgotten]
    report.lost = len(lost)
    report.expect("I1 accepted, but unknown", [f"{one.form} {one.job_id or one.prompt}" for one in lost])
    records = report.records.values()
    report.expect("I1 not ended", [f"{r.id} is {r.state}" for r in records if r.state not in ENDS])
    ends = {one.job_id: report.records[one.job_id].state for one in accepted if one.job_id in report.records}
    report.expect("I1 ended otherwise", [f"{i} {s}" for i, s in ends.items() if s not in may_end])

    for record in records:
        sampler.note(record.id, record.state)
    report.expect("I2 an end that changed", [line for line in sampler.changed if line.split(" ")[0] not in forgotten])
    known = [record for record in records if record.id not in forgotten]
    report.expect("I4 executions", [fault for r in known if (fault := _executions(r, report.calls.get(r.id, [])))])
    answered = [one for one in accepted if ends.get(one.job_id) == "succeeded"]
    faults = [(one, await oracle.fault(one)) for one in answered]
    report.expect("I5 answers", [f"{one.form} {one.job_id}: {fault}" for one, fault in faults if fault])
    report.expect("I6 left over", await _left_over(stack, report.records))
    report.expect("I7 counters", await _counters(stack, report.records))
    report.expect("I8 ended unasked", stack.processes.died_unasked())
    return report


async def _read_jobs(stack: Stack, sent: Sequence[Sent], gateway_url: str) -> None:
    """Fetch the answers of those that were submitted as jobs, as their clients would."""
    waiting = [one for one in sent if one.status == 202 and not one.complete]

    async def read() -> None:
        while waiting:
            one = waiting.pop()
            body: dict[str, Any] = await job(stack.http, gateway_url, one.job_id)
            if body.get("result"):
                one.text, one.vector = answer_of(body["result"])
                one.complete = True

    await asyncio.gather(*(read() for _ in range(READERS)))


def _executions(record: Record, calls: list[float]) -> str:
    """Executions are at most one, and one more for each thing that went wrong and is on record. A run that was handed
    back called nothing."""
    interrupted = record.crashes + record.failures + record.count("drained")
    allowed = 1 + interrupted
    runs = record.runs - record.handed_back
    if len(calls) > allowed or runs > allowed:
        return f"{record.id}: {len(calls)} calls, {runs} runs, {interrupted} interruptions"
    if record.state == "succeeded" and not calls:
        return f"{record.id}: succeeded without a call"
    return ""


async def _left_over(stack: Stack, records: dict[str, Record]) -> list[str]:
    keys, redis = stack.keys, stack.redis
    zsets = [keys.alarms, *(keys.lines(name) for name in ("high", "normal", "low"))]
    found = [f"{size} in {name}" for name in zsets if (size := await redis.zcard(name))]
    calls: Any = await redis.hgetall(keys.slots)  # type: ignore[misc]  # redis-py 5
    found += [f"{int(held) / CALL:g} calls in {keys.slots} of {name.decode()}" for name, held in calls.items()]
    payloads = {name.decode() async for name in redis.scan_iter(match=keys.payload_root + "*", count=1000)}
    # A dead letter keeps its payload, so that it can be replayed.
    payloads -= {keys.payload_root + r.id for r in records.values() if r.state == State.DEAD_LETTERED}
    if payloads:
        found.append(f"{len(payloads)} payloads")
    return found


async def _counters(stack: Stack, records: dict[str, Record]) -> list[str]:
    raw = await stack.redis.hgetall(stack.keys.counters)  # type: ignore[misc]  # redis-py 5
    counters = {name.decode(): int(value) for name, value in raw.items()}
    wanted = {state.value: sum(r.state == state for r in records.values()) for state in State}
    wanted["accepted"] = len(records)
    wanted["claimed"] = sum(r.runs for r in records.values())
    wanted["crashed"] = sum(r.crashes for r in records.values())
    seen = {name: counters.get(name, 0) for name in wanted}
    return [f"{name} is {seen[name]}, records say {n}" for name, n in wanted.items() if seen[name] != n]
