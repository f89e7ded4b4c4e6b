"""A discrete-event simulation of the scheduling: the real policy (`worker.scheduling.policy`), hosts that load models.

python -m tests.bench.simulate --hosts 1 --models 4 --room 1 --load-seconds 2 --job-seconds 0.5 --jobs 500
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from shared.jobs import Priority
from shared.queue.plans import CALL, WaitingLine
from worker.scheduling.policy import HostFacts, Knobs, decide

STRIDE = {Priority.HIGH: 3, Priority.NORMAL: 8, Priority.LOW: 24}


@dataclass(slots=True, eq=False)
class Job:
    model: str
    priority: Priority
    arrives: float
    seconds: float
    started: float = -1.0
    ended: float = -1.0


@dataclass(slots=True)
class Host:
    """Evicts idle models, the least recently used first; a model being loaded waits for victims that are busy."""

    name: str
    room: int
    load_s: float
    resident: dict[str, float] = field(default_factory=dict)
    used: dict[str, float] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    ready: dict[str, float] = field(default_factory=dict)
    free_at: dict[str, float] = field(default_factory=dict)
    loads: int = 0

    def start(self, job: Job, now: float) -> float:
        """When the call ends."""
        model = job.model
        if model not in self.ready:
            begin = now
            while len(self.ready) >= self.room:
                victim = min(self.ready, key=lambda m: (self.free_at.get(m, 0.0), self.used.get(m, 0.0)))
                begin = max(begin, self.free_at.get(victim, 0.0))
                del self.ready[victim]
                self.resident.pop(victim, None)
            self.ready[model] = begin + self.load_s
            self.resident[model] = begin
            self.loads += 1
        end = max(now, self.ready[model]) + job.seconds
        self.calls[model] += 1
        self.used[model] = now
        self.free_at[model] = max(self.free_at.get(model, 0.0), end)
        return end


def simulate(jobs: Sequence[Job], hosts: Sequence[Host], knobs: Knobs) -> None:
    """Run to the end; times go into the jobs, loads into the hosts."""
    events: list[tuple[float, int, str, object]] = []
    tick = itertools.count()
    for job in jobs:
        heapq.heappush(events, (job.arrives, next(tick), "job", job))
    lines: dict[tuple[Priority, str], list[Job]] = defaultdict(list)
    by_name = {host.name: host for host in hosts}
    passes = dict.fromkeys(Priority, 0.0)
    virtual = 0.0
    alarm = float("inf")
    while events:
        now, _, what, which = heapq.heappop(events)
        if what == "job":
            assert isinstance(which, Job)
            lines[which.priority, which.model].append(which)
        elif what == "end":
            assert isinstance(which, tuple)
            host, job = which
            host.calls[job.model] -= 1
            job.ended = now
        elif now != alarm:
            continue
        while True:
            waiting = [
                WaitingLine(priority, f"t:{model}", len(queue), int(queue[0].arrives * 1000))
                for (priority, model), queue in lines.items() if queue
            ]  # fmt: skip
            if not waiting:
                break
            facts = [
                HostFacts(
                    name=h.name, room=h.room, resident={m: int(at * 1000) for m, at in h.resident.items()},
                    calls={m: n * CALL for m, n in h.calls.items() if n},
                )
                for h in hosts
            ]  # fmt: skip
            decision = decide(waiting, (), facts, now * 1000, knobs)
            chosen = None
            rows = {row.line: row for row in decision.rows}
            for priority in sorted(Priority, key=lambda p: (max(passes[p], virtual), list(Priority).index(p))):
                heads = sorted(
                    ((queue[0].arrives, model) for (p, model), queue in lines.items() if queue and p is priority)
                )
                for _, model in heads:
                    row = rows.get(f"t:{model}")
                    for place in (
                        sorted(row.places, key=lambda p: (p.tier, sum(by_name[p.host].calls.values()))) if row else ()
                    ):
                        host = by_name[place.host]
                        limit = place.calls if priority is Priority.HIGH else place.shared_calls
                        if host.calls[model] < limit and sum(host.calls.values()) < knobs.host_calls:
                            chosen = priority, model, host
                            break
                    if chosen:
                        break
                if chosen:
                    break
            if not chosen:
                if decision.changes_ms < float("inf"):
                    alarm = max(now + 1e-6, decision.changes_ms / 1000 + 1e-6)
                    heapq.heappush(events, (alarm, next(tick), "alarm", None))
                break
            priority, model, host = chosen
            virtual = max(passes[priority], virtual)
            passes[priority] = virtual + STRIDE[priority]
            job = lines[priority, model].pop(0)
            job.started = now
            heapq.heappush(events, (host.start(job, now), next(tick), "end", (host, job)))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--hosts", type=int, default=1)
    parser.add_argument("--models", type=int, default=4)
    parser.add_argument("--room", type=int, default=1)
    parser.add_argument("--load-seconds", type=float, default=2.0)
    parser.add_argument("--job-seconds", type=float, default=0.5)
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--load", type=float, default=0.7)
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--residency", type=float, default=5.0)
    parser.add_argument("--patience", type=float, default=20.0)
    parser.add_argument("--high", type=float, default=0.0)
    args = parser.parse_args()
    for seed in range(3):
        for by_affinity in (False, True):
            rng = random.Random(seed)
            now, jobs = 0.0, []
            for _ in range(args.jobs):
                now += rng.expovariate(args.load * args.hosts * args.parallel / args.job_seconds)
                priority = Priority.HIGH if rng.random() < args.high else Priority.LOW
                jobs.append(Job(f"m{rng.randrange(args.models)}", priority, now, args.job_seconds))
            hosts = [Host(f"h{n}", args.room, args.load_seconds) for n in range(args.hosts)]
            knobs = Knobs(
                by_affinity=by_affinity, host_calls=args.parallel, unit_calls=args.parallel, reserved=0,
                residency_s=args.residency,
                patience_s={Priority.HIGH: 2.0, Priority.NORMAL: args.patience, Priority.LOW: args.patience},
            )  # fmt: skip
            simulate(jobs, hosts, knobs)
            waits = {p: max((j.started - j.arrives for j in jobs if j.priority is p), default=0) for p in Priority}
            print(
                f"seed {seed} {'affinity' if by_affinity else 'fifo':9} loads {sum(h.loads for h in hosts):4} "
                f"total {max(j.ended for j in jobs):7.1f} s  last arrival {now:6.1f}  longest wait "
                + " ".join(f"{p}:{w:.1f}" for p, w in waits.items())
                + f" mean {sum(j.started - j.arrives for j in jobs) / len(jobs):.1f}"
            )


if __name__ == "__main__":
    main()
