"""F30, `python -m tests.chaos.soak`: half an hour of everything at once, the same checker, and what memory and latency
do meanwhile.

One gateway and two workers are left alone by the kills, so that there are processes old enough to leak; they still
live through every outage of Redis and of the model server.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.chaos.__main__ import console, show
from tests.chaos.campaign import Bench, Campaign, bench
from tests.chaos.checker import Report, check
from tests.chaos.client import Form, Sent, answer_of, job
from tests.chaos.document import render, write
from tests.chaos.load import Load
from tests.chaos.mischief import Mischief
from tests.chaos.outcome import Outcome, percentile
from tests.chaos.processes import Process
from tests.chaos.resources import MIB, MemoryLog, slope
from tests.chaos.stack import Stack
from tests.house.requirements import ROOT

PAGE = ROOT / "docs" / "results" / "soak.md"
HEAD = """\
# Results: half an hour of everything at once

Written by `make soak` (`python -m tests.chaos.soak`); do not edit. Real processes under a steady load: workers killed,
hung and told to go, Redis and gateways killed, a faulty model server, clients that leave, each in a rhythm of its own.
The invariants are those of `docs/results/chaos.md`. Memory and latency are of the one gateway and two workers that
were never killed. No loss in n kills means, with 95 % confidence, a loss in fewer than 3/n of them.
"""
FULL_MINUTES = 30.0
ELDERS, VICTIMS = 2, 3
PER_SECOND, JOBS_PER_SECOND = 7.0, 3.0
JOBS: dict[Form, int] = {"job": 2, "embedding_job": 1}
TURN_S = 15.0
WARM_UP = 0.2
"""Share of the run after which memory and latency count."""
LEAK_MIB_PER_10_MIN = 1.0
DRIFT = 0.10
KILLS = {"worker killed": 270, "Redis killed": 90}
"""Least in a full run."""
MAY_END = frozenset({"succeeded", "dead_lettered", "cancelled"})


@dataclass(slots=True)
class Ledger:
    """What was accepted, checked as the run goes on and then forgotten but for its id: half an hour of answers would
    fill the memory of the rig itself.
    """

    bench: Bench
    checked: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)
    latencies: list[tuple[float, float]] = field(default_factory=list)
    """(monotonic time of the answer, seconds) of each chat."""
    broken_streams: set[str] = field(default_factory=set)
    refused: int = 0
    unforeseen: list[str] = field(default_factory=list)

    async def keep(self) -> None:
        """Check what is over, again and again, until cancelled."""
        while True:
            await asyncio.sleep(TURN_S)
            await self.turn()

    async def turn(self) -> None:
        """Check everything that is over by now."""
        over = [one for one in self.bench.sent if one.ended]
        done = {id(one) for one in over if await self._settled(one)}
        self.bench.sent[:] = [one for one in self.bench.sent if id(one) not in done]

    async def _settled(self, one: Sent) -> bool:
        """Whether this one needs no further look."""
        if not one.accepted:
            self.refused += 1
            if one.error not in ("job_poisoned", "") and one.status not in (429, 502, 503, 504):
                self.unforeseen.append(f"{one.form} {one.status} {one.error}")
            return True
        if one.status == 202 and not await self._fetched(one):
            return False
        if one.form == "chat":
            self.latencies.append((one.ended, one.seconds))
        if (one.complete or one.form == "stream") and (fault := await self.bench.oracle.fault(one)):
            self.faults.append(f"{one.form} {one.job_id}: {fault}")
        if one.form == "stream" and one.error:
            self.broken_streams.add(one.job_id)
        self.checked.add(one.job_id)
        return True

    async def _fetched(self, one: Sent) -> bool:
        """Whether a submitted job has ended; its answer is read."""
        if one.job_id not in self.bench.sampler.ends:
            return False
        with suppress(KeyError):  # without Redis there is no job to be read; another turn
            body = await job(self.bench.stack.http, self.bench.stack.gateways[0].url, one.job_id)
            if body["status"] in MAY_END:
                if body.get("result"):
                    one.text, one.vector = answer_of(body["result"])
                    one.complete = True
                return True
        return False

    def add_to(self, report: Report) -> None:
        """Add what was forgotten to the checker's findings."""
        report.accepted += len(self.checked)
        missing = [job_id for job_id in self.checked if job_id not in report.records]
        report.lost += len(missing)
        report.expect("I1 accepted, but unknown", missing)
        report.expect("I5 answers", self.faults)
        report.expect("neither an answer nor a refusal in words", self.unforeseen)


async def run(campaign: Campaign, minutes: float) -> Outcome:
    """The soak. Its length is real: `campaign.short` changes nothing."""
    outcome = Outcome("F30", f"{minutes:g} minutes of everything at once")
    gateways = {"SYNC_RESULT_TTL": "10800s"}  # so that every record is still there in the end
    async with bench(campaign, "F30", gateway_env=gateways, worker_env={"WORKER_DRAIN_TIMEOUT": "2"}) as b:
        stack = b.stack
        elder, _ = await asyncio.gather(stack.start_gateway(), stack.start_workers(ELDERS + VICTIMS))
        mischief = Mischief(stack, b.draw, stack.workers[ELDERS:], [await stack.start_gateway()])
        old = [elder.process, *(worker.process for worker in stack.workers[:ELDERS])]
        ledger = Ledger(b)
        began = time.monotonic()
        own = _own_mib()
        async with MemoryLog(stack.processes, period_s=5.0) as memory:
            jobs = Load(
                stack.http, lambda: mischief.gateways[-1].url if mischief.gateways else elder.url,
                name="F30 jobs", numbers=b.numbers, per_second=JOBS_PER_SECOND, draw=b.draw, mix=JOBS,
            )  # fmt: skip
            jobs.sent = b.sent
            async with b.load(PER_SECOND), jobs:
                await _for(minutes * 60, campaign, mischief, ledger)
            growth = _own_mib() - own
        await ledger.turn()
        report = await check(
            stack, b.sent, b.sampler, b.oracle, gateway_url=elder.url, may_end=MAY_END, quiet_within_s=120.0
        )
    ledger.add_to(report)
    # A stream that its client has begun to read is not tried again after a failure.
    early = ledger.broken_streams | mischief.left
    dead = [r for r in report.records.values() if r.state == "dead_lettered"]
    # The failure that ends a job is not among those it was retried after.
    unjust = [r.id for r in dead if r.crashes < 3 and r.failures < 2 and r.id not in early]
    report.expect("dead without three crashes or failures", unjust)
    outcome.tell("dead letters, all with a reason", len(report.records), len(dead))
    _judge_faults(outcome, mischief, report, full=minutes >= FULL_MINUTES)
    outcome.add_report(report)
    _judge_age(outcome, memory, ledger, old, began, minutes)
    outcome.tell("requests refused in words", report.accepted + ledger.refused, ledger.refused)
    outcome.tell("the rig's own memory, growth", 1, f"{growth:.1f} MiB")
    return outcome


async def _for(seconds: float, campaign: Campaign, mischief: Mischief, ledger: Ledger) -> None:
    """Let the faults rage for so long, then put everything right again."""
    rage, keep = asyncio.create_task(mischief.rage()), asyncio.create_task(ledger.keep())
    until = time.monotonic() + seconds
    while time.monotonic() < until and not rage.done() and not keep.done():
        done = ", ".join(f"{count} x {name}" for name, count in mischief.done.items())
        campaign.say(f"{(until - time.monotonic()) / 60:.0f} min left; {done}")
        await asyncio.sleep(1.0)
    for task in (rage, keep):
        if task.done():
            await task
        task.cancel()
    await asyncio.gather(rage, keep, return_exceptions=True)
    await _mend(mischief.stack)


async def _mend(stack: Stack) -> None:
    """Whatever the last fault was in the middle of."""
    assert stack.redis_process is not None
    if not stack.redis_process.is_running:
        await stack.start_redis()
    for worker in stack.workers:
        if worker.process.is_running:
            worker.process.go_on()
    async with stack.http.delete(stack.simulator_url + "/_sim/faults") as response:
        response.raise_for_status()


def _judge_faults(outcome: Outcome, mischief: Mischief, report: Report, *, full: bool) -> None:
    for name, count in sorted(mischief.done.items()):
        least = KILLS.get(name, 1) if full else 1
        outcome.add(name, count, count, f">= {least}", count >= least)
    for name in KILLS:
        n = mischief.done[name]
        outcome.tell(f"{name}: losses, 95 % bound on the rate", n, f"{report.lost} in {n}, < {3 / max(n, 1):.1%}")
    codes = [code for code in mischief.exit_codes if code != 0]
    outcome.none("told to go: exit codes other than 0", len(mischief.exit_codes), len(codes))


def _judge_age(
    outcome: Outcome, memory: MemoryLog, ledger: Ledger, old: Sequence[Process], began: float, minutes: float
) -> None:
    """Memory and latency from the end of the warm-up on; bounds only for a run long enough to tell a trend."""
    warm = began + WARM_UP * minutes * 60
    end = began + minutes * 60
    bounded = minutes >= FULL_MINUTES / 2
    for process in old:
        points = [point for point in memory.points[process] if warm <= point[0] <= end]
        rise = slope(points) * 600
        figure = f"{rise:+.2f} MiB in 10 min, {memory.peak(process):.0f} MiB at most"
        if bounded:
            outcome.add(f"memory of {process.name}", len(points), figure, f"< {LEAK_MIB_PER_10_MIN:g} MiB in 10 min",
                        rise < LEAK_MIB_PER_10_MIN)  # fmt: skip
        else:
            outcome.tell(f"memory of {process.name}", len(points), figure)
    third = (end - warm) / 3
    first = [s for at, s in ledger.latencies if warm <= at < warm + third]
    last = [s for at, s in ledger.latencies if end - third <= at < end]
    early, late = percentile(first, 0.5), percentile(last, 0.5)
    drift = late / early - 1 if early else 0.0
    figure = f"{early:.3f} s, then {late:.3f} s: {drift:+.1%}"
    if bounded:
        outcome.add("chats, p50, first and last third", len(first) + len(last), figure, f"< {DRIFT:+.0%}",
                    drift < DRIFT)  # fmt: skip
    else:
        outcome.tell("chats, p50, first and last third", len(first) + len(last), figure)


def _own_mib() -> float:
    return float(psutil.Process(os.getpid()).memory_info().rss) / MIB


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description="Every kind of fault, for long.")
    parser.add_argument("--minutes", type=float, default=FULL_MINUTES, help="how long (default 30)")
    parser.add_argument("--seed", type=int, default=1, help="of the instants and the load (default 1)")
    parser.add_argument("--out", type=Path, help="page to write (a full run's default: docs/results/soak.md)")
    parser.add_argument("--logs", type=Path, help="folder that keeps every process's log")
    options = parser.parse_args(argv)
    if options.out is None and options.minutes >= FULL_MINUTES:
        options.out = PAGE
    return options


def main() -> int:
    options = parse(sys.argv[1:])
    began = time.monotonic()
    with console.status("starting") as status:
        campaign = Campaign(seed=options.seed, logs=options.logs, say=status.update)
        try:
            outcome = asyncio.run(run(campaign, options.minutes))
        except KeyboardInterrupt:
            console.print("Interrupted; every process this run started has been ended.")
            return 130
    seconds = time.monotonic() - began
    show([outcome])
    if options.out is not None:
        short = options.minutes < FULL_MINUTES
        write(options.out, render([outcome], seed=options.seed, seconds=seconds, short=short, head=HEAD))
        console.print(f"Written: {options.out}")
    return 0 if outcome.held else 1


if __name__ == "__main__":
    sys.exit(main())
