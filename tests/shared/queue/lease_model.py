"""The lease protocol, small enough to look at every state it can reach: two workers, two jobs, one Redis.

Every order of steps is tried, breadth first, so a counterexample is a shortest one. There is no clock: a lease may end
at any moment, which is more than can happen. A worker that hangs is one that takes no step while others do, so every
pause at every point is among the orders. What a worker remembers is its own: a crash loses it, a loss of Redis' tail
does not. `Rules` switches single ideas of the protocol off.

Invariants: a job ends once and its end stays; no run ends a job but the one that holds it by Redis' own account; what
was accepted stays accepted, unless its client was not told yet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, TypeVar

T = TypeVar("T")
JOBS, WORKERS = ("a", "b"), ("w1", "w2")
POISON = 2
"""Crashes that set a job aside; one fewer than in earnest, for the sake of size."""
MOST_FAILURES = 1
MOST_RUNS = 3
"""Claims in all: beyond, nothing new happens."""
LIVE = frozenset({"queued", "running"})
NOBODY = -1


class Token(StrEnum):
    """Where a claim's token comes from."""

    DRAWN = "drawn at random, never seen before"
    KEPT = "kept over the end of a lease"
    COUNTED = "counted in the job's record"


@dataclass(frozen=True, slots=True)
class Rules:
    """What the protocol does; as it stands, or with an idea left out."""

    fence: bool = True
    """A write is compared with the record's token."""
    token: Token = Token.DRAWN
    one_end: bool = True
    """Only a running job can be settled."""


class Job(NamedTuple):
    """A record in Redis. `holder` is the worker of the latest claim; the protocol itself never looks at it."""

    state: str = ""
    token: int = 0
    holder: int = NOBODY
    runs: int = 0
    crashes: int = 0
    failures: int = 0
    cancel: bool = False
    ends: int = 0


class Worker(NamedTuple):
    """What a worker remembers: the job it runs, and under which token."""

    job: int = NOBODY
    token: int = 0


IDLE = Worker()


class World(NamedTuple):
    """Everything. `disk` is the state of Redis that a loss of its tail goes back to, once it has been chosen."""

    jobs: tuple[Job, ...] = (Job(),) * len(JOBS)
    workers: tuple[Worker, ...] = (IDLE,) * len(WORKERS)
    told: tuple[bool, ...] = (False,) * len(JOBS)
    """Clients that know their job to be accepted."""
    drawn: int = 0
    disk: tuple[Job, ...] | None = None
    lost: bool = False
    fault: str = ""


Step = tuple[str, World]


def put(items: tuple[T, ...], at: int, item: T) -> tuple[T, ...]:
    return (*items[:at], item, *items[at + 1 :])


def steps(world: World, rules: Rules) -> Iterator[Step]:
    """Everything that can happen next."""
    yield from _clients(world)
    yield from _redis(world)
    for w, worker in enumerate(world.workers):
        if worker.job == NOBODY:
            yield from _claims(world, w, rules)
        else:
            yield from _runs(world, w, worker, rules)


def _clients(world: World) -> Iterator[Step]:
    for j, job in enumerate(world.jobs):
        if not job.state and not world.told[j]:
            # Between the last write to disk and a crash, the answer has not been given: it waits for the disk.
            told = put(world.told, j, world.disk is None)
            yield f"{JOBS[j]} is accepted", world._replace(jobs=put(world.jobs, j, Job("queued")), told=told)
        elif job.state == "queued":
            yield f"{JOBS[j]} is cancelled in line", _ended(world, j, "cancelled")
        elif job.state == "running" and not job.cancel:
            yield f"a cancel of {JOBS[j]} is noted", _with(world, j, job._replace(cancel=True))


def _redis(world: World) -> Iterator[Step]:
    for j, job in enumerate(world.jobs):
        if job.state == "running":
            yield f"the lease of {JOBS[j]} ends", _lapsed(world, j, job)
    if world.disk is not None:
        yield "Redis crashes and loses its tail", world._replace(jobs=world.disk, disk=None, lost=True)
    elif not world.lost:
        yield "Redis writes to disk, for the last time before a crash", world._replace(disk=world.jobs)


def _lapsed(world: World, j: int, job: Job) -> World:
    crashed = job._replace(crashes=job.crashes + 1)
    if job.cancel:
        return _ended(_with(world, j, crashed), j, "cancelled")
    if crashed.crashes >= POISON:
        return _ended(_with(world, j, crashed), j, "dead_lettered")
    return _with(world, j, crashed._replace(state="queued"))


def _claims(world: World, w: int, rules: Rules) -> Iterator[Step]:
    for j, job in enumerate(world.jobs):
        if job.state != "queued" or world.drawn == MOST_RUNS:
            continue
        token = {
            Token.DRAWN: world.drawn + 1,
            Token.KEPT: job.token or world.drawn + 1,
            Token.COUNTED: job.runs + 1,
        }[rules.token]
        claimed = job._replace(state="running", token=token, holder=w, runs=job.runs + 1)
        after = _with(world, j, claimed)._replace(drawn=world.drawn + 1)
        yield f"{WORKERS[w]} claims {JOBS[j]} under token {token}", _now(after, w, Worker(j, token))


def _runs(world: World, w: int, worker: Worker, rules: Rules) -> Iterator[Step]:
    name, job, of = WORKERS[w], world.jobs[worker.job], JOBS[worker.job]
    yield f"{name} crashes", _now(world, w, IDLE)
    owns = not rules.fence or job.token == worker.token
    if not (owns and job.state == "running"):
        yield f"{name} renews and learns that it has lost {of}", _now(world, w, IDLE)
    elif job.cancel:
        yield f"{name} renews, learns of the cancel and ends {of}", _settled(world, w, worker, rules, "cancelled")
    yield f"{name} finishes {of} under token {worker.token}", _settled(world, w, worker, rules, "succeeded")
    if job.failures < MOST_FAILURES:
        yield f"{name} hands {of} back for a retry", _settled(world, w, worker, rules, "queued")


def _settled(world: World, w: int, worker: Worker, rules: Rules, verdict: str) -> World:
    """settle.lua: refused without the token, or when the job has ended; the worker is free either way."""
    j, job = worker.job, world.jobs[worker.job]
    free = _now(world, w, IDLE)
    if rules.fence and job.token != worker.token:
        return free
    if rules.one_end and job.state != "running":
        return free
    if job.holder != w or job.state == "queued":
        return free._replace(fault=f"{WORKERS[w]} settled {JOBS[j]}, which it did not hold")
    if verdict == "queued":
        if job.cancel:
            return _ended(free, j, "cancelled")
        return _with(free, j, job._replace(state="queued", failures=job.failures + 1))
    return _ended(free, j, verdict)


def _with(world: World, j: int, job: Job) -> World:
    return world._replace(jobs=put(world.jobs, j, job))


def _now(world: World, w: int, worker: Worker) -> World:
    return world._replace(workers=put(world.workers, w, worker))


def _ended(world: World, j: int, state: str) -> World:
    job = world.jobs[j]
    return _with(world, j, job._replace(state=state, ends=job.ends + 1))


def broken(world: World) -> str:
    """The invariant that this state breaks; empty if none."""
    if world.fault:
        return world.fault
    for name, job, told in zip(JOBS, world.jobs, world.told, strict=True):
        if job.ends > 1:
            return f"{name} has ended {job.ends} times"
        if told and not job.state:
            return f"{name} was accepted, and is gone"
    return ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a search found: how many states there are, or the way to the first that breaks an invariant."""

    states: int
    fault: str = ""
    trace: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.fault:
            return f"{self.states} states, every invariant holds in each"
        return "\n".join([f"{self.fault}:", *(f"{n:3d}. {step}" for n, step in enumerate(self.trace, 1))])


def search(rules: Rules = Rules()) -> Verdict:
    """Look at every reachable state, nearest first."""
    start = World()
    came: dict[World, tuple[World, str] | None] = {start: None}
    waiting = deque([start])
    while waiting:
        world = waiting.popleft()
        for label, following in steps(world, rules):
            if following in came:
                continue
            came[following] = (world, label)
            if fault := broken(following):
                return Verdict(len(came), fault, _way_to(following, came))
            waiting.append(following)
    return Verdict(len(came))


def _way_to(world: World, came: dict[World, tuple[World, str] | None]) -> tuple[str, ...]:
    labels = []
    while (before := came[world]) is not None:
        world, label = before
        labels.append(label)
    return tuple(reversed(labels))
