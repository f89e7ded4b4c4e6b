"""A host as the simulator of `infra/simulator` has it, in simulated time: Ollama's two waits.

A call whose model is not loaded joins one first-in-first-out line: one load at a time, and while it loads or waits for
a busy victim, everything behind it waits too. A call whose model is loaded starts, or waits for one of its slots.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from shared.jobs import Priority


@dataclass(slots=True, eq=False)
class Job:
    """Times in seconds of simulated time; -1: not yet. Without loads its call takes `takes_s`."""

    unit: str
    priority: Priority
    tenant: str
    arrives_s: float
    takes_s: float
    tag: float = 0.0
    started_s: float = -1.0
    """When it left the queue for a host."""
    served_s: float = -1.0
    """When the host began with it: its model is in memory, and a slot is free."""
    ended_s: float = -1.0


@dataclass(slots=True)
class Runner:
    """A model in memory, and its calls."""

    since_s: float
    used_s: float
    running: int = 0
    waiting: deque[Job] = field(default_factory=deque)


At = Callable[[float, "Host", object], None]
"""Notes an event of a host: when, and the job that ends or the model that is in memory then."""


@dataclass(slots=True, eq=False)
class Host:
    """`room` models fit into its memory, and each runs `parallel` calls at once."""

    name: str
    room: int
    parallel: int
    load_s: float
    at: At
    loaded: dict[str, Runner] = field(default_factory=dict)
    loading: str = ""
    pending: deque[Job] = field(default_factory=deque)
    calls: dict[str, int] = field(default_factory=dict)
    """Calls under way by unit, those that wait here included: what the queue's slots say."""
    under_way: int = 0
    loads_at_s: list[float] = field(default_factory=list)

    def start(self, job: Job, now: float) -> None:
        """A call comes in."""
        job.started_s = now
        self.calls[job.unit] = self.calls.get(job.unit, 0) + 1
        self.under_way += 1
        runner = self.loaded.get(job.unit)
        if runner is not None:
            self._run(job, runner, now)
        else:
            self.pending.append(job)
            self._load_next(now)

    def end(self, job: Job, now: float) -> None:
        """Its call is over."""
        job.ended_s = now
        self.calls[job.unit] -= 1
        if not self.calls[job.unit]:
            del self.calls[job.unit]
        self.under_way -= 1
        runner = self.loaded[job.unit]
        runner.running -= 1
        if runner.waiting:
            self._serve(runner.waiting.popleft(), runner, now)
        self._load_next(now)

    def has_loaded(self, unit: str, now: float) -> None:
        self.loading = ""
        self.loaded[unit] = Runner(now, now)
        self._load_next(now)

    def _run(self, job: Job, runner: Runner, now: float) -> None:
        if runner.running < self.parallel:
            self._serve(job, runner, now)
        else:
            runner.waiting.append(job)

    def _serve(self, job: Job, runner: Runner, now: float) -> None:
        runner.running += 1
        runner.used_s = now
        job.served_s = now
        self.at(now + job.takes_s, self, job)

    def _load_next(self, now: float) -> None:
        while self.pending and not self.loading:
            unit = self.pending[0].unit
            runner = self.loaded.get(unit)
            if runner is not None:
                self._run(self.pending.popleft(), runner, now)
            elif len(self.loaded) < self.room or self._make_room():
                self.loading = unit
                self.loads_at_s.append(now)
                self.at(now + self.load_s, self, unit)
            else:
                return

    def _make_room(self) -> bool:
        """Drop the model that was idle for longest; False when all are busy."""
        idle = [unit for unit, runner in self.loaded.items() if not runner.running]
        if not idle:
            return False
        del self.loaded[min(idle, key=lambda unit: self.loaded[unit].used_s)]
        return True
