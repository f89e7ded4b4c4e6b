"""What the queue's scripts should do, said again in plain Python: the oracle of the state machine test.

Deliberately written from the design page, not from the Lua: one method an operation, no cleverness.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

CLASSES = ("high", "normal", "low")
SHARE = {"high": 1.0, "normal": 0.95, "low": 0.8}
STRIDE = {"high": 3, "normal": 8, "low": 24}
LIVE = ("scheduled", "queued", "running")
POISON = 3


@dataclass
class ModelJob:
    id: str
    priority: str
    fingerprint: str
    tenant: str
    deadline: int
    state: str
    alarm: int | None
    """When the job must be looked at next, ms; None once it is over."""
    tag: int = 0
    """Its place in line."""
    token: str = ""
    attempts: int = 0
    failures: int = 0
    crashes: int = 0
    cancel: bool = False
    handed_back: int = 0
    """The attempt that was last put back for later."""
    watchers: set[str] = field(default_factory=set)
    log: list[str] = field(default_factory=list)
    error: str = ""
    outcomes: dict[int, str] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        return self.state not in LIVE


class QueueModel:
    """The queue of one shard. Times in ms unless said otherwise."""

    def __init__(self, now_us: int, depth_limit: int) -> None:
        self.now_us = now_us
        self.depth_limit = depth_limit
        self.jobs: dict[str, ModelJob] = {}
        self.turns: dict[str, int] = dict.fromkeys(CLASSES, 0)
        self.virtual = 0
        self.served = dict.fromkeys(CLASSES, 0)
        """The furthest tag that was started, by class."""
        self.last: dict[tuple[str, str], int] = {}
        """The last tag that a tenant was given in a class, while somebody waits there."""
        self.totals: dict[str, int] = {}

    @property
    def now(self) -> int:
        return self.now_us // 1000

    def _count(self, name: str, by: int = 1) -> None:
        self.totals[name] = self.totals.get(name, 0) + by

    def ready(self, priority: str) -> list[ModelJob]:
        waiting = [job for job in self.jobs.values() if job.state == "queued" and job.priority == priority]
        return sorted(waiting, key=lambda job: (job.tag, job.id))

    # -- moves ------------------------------------------------------------------------------------------------------

    def _end(self, job: ModelJob, state: str, error: str = "") -> None:
        assert not job.is_over
        job.state, job.alarm, job.error = state, None, error
        self._tidy(job.priority)

    def _requeue(self, job: ModelJob, tag: int) -> None:
        job.state, job.token, job.tag, job.alarm = "queued", "", tag, job.deadline

    def _tidy(self, priority: str) -> None:
        """An empty line forgets who stood where."""
        if not self.ready(priority):
            self.last = {key: tag for key, tag in self.last.items() if key[0] != priority}

    def _next_tag(self, priority: str, tenant: str) -> int:
        tag = max(self.served[priority], self.last.get((priority, tenant), 0)) + 1
        self.last[priority, tenant] = tag
        return tag

    def _ring(self) -> None:
        """Everything that is due: scheduled jobs, deadlines, lapsed leases."""
        due = sorted(
            (job for job in self.jobs.values() if job.alarm is not None and job.alarm <= self.now),
            key=lambda job: (job.alarm, job.id),
        )
        for job in due:
            expired = job.deadline <= self.now
            if job.state == "running":
                job.crashes += 1
                job.outcomes[job.attempts] = "crashed"
                job.token = ""
                self._count("crashed")
                if job.cancel:
                    self._end(job, "cancelled", "@job_cancelled")
                elif job.crashes >= POISON:
                    self._end(job, "dead_lettered", "@job_poisoned")
                elif expired:
                    self._end(job, "expired", "@job_timeout")
                else:
                    self._requeue(job, job.tag)
            elif expired:
                self._end(job, "expired", "@job_timeout")
            else:
                assert job.state == "scheduled"
                keeps_its_place = job.handed_back and job.handed_back == job.attempts
                self._requeue(job, job.tag if keeps_its_place else self._next_tag(job.priority, job.tenant))

    # -- operations -------------------------------------------------------------------------------------------------

    def enqueue(
        self, job_id: str, priority: str, tenant: str, fingerprint: str, timeout: int, delay: int, watcher: str
    ) -> str:
        known = self.jobs.get(job_id)
        if known is not None:
            return f"={known.state}" if known.fingerprint == fingerprint else "!"
        if sum(job.state == "queued" for job in self.jobs.values()) >= math.ceil(self.depth_limit * SHARE[priority]):
            self._count("refused")
            return "#queue_full"
        deadline = self.now + timeout
        job = ModelJob(
            id=job_id,
            priority=priority,
            fingerprint=fingerprint,
            tenant=tenant,
            tag=0 if delay else self._next_tag(priority, tenant),
            deadline=deadline,
            state="scheduled" if delay else "queued",
            alarm=min(self.now + delay, deadline) if delay else deadline,
            watchers={watcher} if watcher else set(),
        )
        self.jobs[job_id] = job
        self._count("accepted")
        return job.state

    def claim(self, want: int, seed: str, lease: int, horizon: int) -> tuple[int, list[tuple[str, str, int, int]]]:
        """(ms until the next alarm, (id, token, attempt, failures) of each job handed out)."""
        alarms = [job.alarm for job in self.jobs.values() if job.alarm is not None and job.alarm > self.now]
        wait = min([horizon, *(alarm - self.now for alarm in alarms)])
        self._ring()
        claimed = []
        for n, job in enumerate(self._choose(want), start=1):
            assert job.deadline > self.now
            job.state, job.token, job.alarm = "running", f"{seed}{n}", self.now + lease
            job.attempts += 1
            job.log.append(f"{job.attempts}-0")
            claimed.append((job.id, job.token, job.attempts, job.failures))
            self.served[job.priority] = max(self.served[job.priority], job.tag)
            self._tidy(job.priority)
        self._count("claimed", len(claimed))
        return wait, claimed

    def _choose(self, want: int) -> list[ModelJob]:
        lines = {priority: self.ready(priority) for priority in CLASSES}
        waiting = [priority for priority in CLASSES if lines[priority]]
        if len(waiting) < 2:
            return [job for priority in waiting for job in lines[priority][:want]]
        passes = {priority: max(self.turns[priority], self.virtual) for priority in CLASSES}
        taken = dict.fromkeys(CLASSES, 0)
        for _ in range(want):
            open_classes = [p for p in CLASSES if taken[p] < len(lines[p])]
            if not open_classes:
                break
            best = min(open_classes, key=lambda p: (passes[p], CLASSES.index(p)))
            self.virtual = passes[best]
            passes[best] += STRIDE[best]
            taken[best] += 1
        self.turns = passes
        return [job for priority in CLASSES for job in lines[priority][: taken[priority]]]

    def renew(self, held: list[tuple[str, str]], lease: int) -> tuple[list[str], list[str]]:
        lost, cancelled = [], []
        for job_id, token in held:
            job = self.jobs.get(job_id)
            if job is None or job.token != token or job.state != "running":
                lost.append(job_id)
                continue
            job.alarm = self.now + lease
            if job.cancel:
                cancelled.append(job_id)
        self._ring()
        return lost, cancelled

    def publish(self, job_id: str, token: str, attempt: int, seq: int) -> str:
        job = self.jobs.get(job_id)
        if job is None or job.token != token or job.state != "running":
            self._count("stale_writes")
            return "!"
        entry = f"{attempt}-{seq}"
        if _position(entry) > _position(job.log[-1]):
            job.log.append(entry)
        return "c" if job.cancel else ""

    def settle(self, job_id: str, token: str, verdict: str, error: str, delay: int) -> str:
        job = self.jobs.get(job_id)
        if job is None or job.token != token:
            self._count("stale_writes")
            return "!"
        if job.state != "running":
            return f"={job.state}"
        later = verdict == "released" and delay > 0
        outcome = {"dead_lettered": "failed", "released": "handed_back" if later else "drained"}.get(verdict, verdict)
        job.outcomes[job.attempts] = outcome
        if verdict in ("retried", "released") and job.cancel:
            self._end(job, "cancelled", "@job_cancelled")
        elif verdict == "released":
            self._count("released")
            if later:
                if job.handed_back:
                    del job.outcomes[job.handed_back]
                job.handed_back = job.attempts
                job.state, job.token, job.alarm = "scheduled", "", min(self.now + delay, job.deadline)
            else:
                self._requeue(job, job.tag)
        elif verdict == "retried":
            self._count("retried")
            job.failures += 1
            if job.deadline <= self.now + delay:
                self._end(job, "dead_lettered", error)
            elif delay:
                job.state, job.token, job.alarm = "scheduled", "", self.now + delay
            else:
                self._requeue(job, self._next_tag(job.priority, job.tenant))
        else:
            self._end(job, verdict, error)
        return job.state

    def cancel(self, job_id: str) -> str:
        job = self.jobs.get(job_id)
        if job is None:
            return ""
        if job.state in ("queued", "scheduled"):
            self._end(job, "cancelled", "@job_cancelled")
        elif job.state == "running":
            job.cancel = True
        return job.state

    def disown(self, seed: str, lease: int) -> int:
        mine = [
            job
            for job in self.jobs.values()
            if job.state == "running" and job.token.startswith(seed) and (job.alarm or 0) <= self.now + lease
        ]
        for job in mine:
            job.outcomes[job.attempts] = "drained"
            if job.cancel:
                self._end(job, "cancelled", "@job_cancelled")
            else:
                self._requeue(job, job.tag)
        return len(mine)

    def attach(self, job_id: str, watcher: str, after: str) -> list[str] | None:
        """Event ids after `after`; None when there is no such job."""
        job = self.jobs.get(job_id)
        if job is None:
            return None
        if not job.is_over:
            job.watchers.add(watcher)
        return [entry for entry in job.log if not after or _position(entry) > _position(after)]

    def sweep(self) -> None:
        self._ring()


def _position(entry: str) -> tuple[int, int]:
    attempt, _, seq = entry.partition("-")
    return int(attempt), int(seq)
