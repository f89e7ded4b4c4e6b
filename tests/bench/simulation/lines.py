"""The waiting jobs and the claim, as `shared/queue/lua/claim.lua` and its includes have them, in memory.

Left out: tenures (a plan is made anew at once when a job makes a host load a model), batches, expiry, and the workers'
own slots, of which there are enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush

from shared.jobs import Priority
from shared.queue.lines import line_named
from shared.queue.plans import Place, Row, WaitingLine
from tests.bench.simulation.hosts import Host, Job

STRIDE = {Priority.HIGH: 3, Priority.NORMAL: 8, Priority.LOW: 24}
"""As in claim.lua."""
SHOWN_LINES = 64
"""Of each class, as in includes/view.lua."""

Line = list[tuple[float, int, Job]]
"""A heap by tag."""
Key = tuple[Priority, str]


@dataclass(slots=True)
class Lines:
    """`sees_classes`: False for one line of all jobs in the order in which they came."""

    sees_classes: bool = True
    waiting: int = 0
    joined: int = 0
    by_key: dict[Key, Line] = field(default_factory=dict)
    """No empty ones."""
    depth: dict[Priority, int] = field(default_factory=lambda: dict.fromkeys(Priority, 0))
    _tags: dict[Priority, dict[str, float]] = field(default_factory=lambda: {p: {} for p in Priority})
    _served: dict[Priority, float] = field(default_factory=lambda: dict.fromkeys(Priority, 0.0))
    _passes: dict[Priority, float] = field(default_factory=lambda: dict.fromkeys(Priority, 0.0))
    _virtual: float = 0.0

    def join(self, job: Job) -> Key:
        """One more job waits; its line."""
        self.joined += 1
        if self.sees_classes:
            key = job.priority, line_named("chat", job.unit)
            tags = self._tags[job.priority]
            job.tag = tags[job.tenant] = max(tags.get(job.tenant, 0.0), self._served[job.priority]) + 1
        else:
            key = Priority.NORMAL, line_named("chat", job.unit)
            job.tag = self.joined
        heappush(self.by_key.setdefault(key, []), (job.tag, self.joined, job))
        self.depth[key[0]] += 1
        self.waiting += 1
        return key

    def view(self) -> list[WaitingLine]:
        """What a claim shows to the planner: of each class the lines that are furthest behind."""
        shown: list[WaitingLine] = []
        for priority in Priority:
            heads = sorted((line[0][0], name) for (p, name), line in self.by_key.items() if p is priority)
            for _, name in heads[:SHOWN_LINES]:
                line = self.by_key[priority, name]
                shown.append(WaitingLine(priority, name, len(line), int(line[0][2].arrives_s * 1000)))
        return shown

    def claim(
        self, candidates: Iterable[Key], rows: Mapping[str, Row], hosts: Mapping[str, Host], now: float, most: int,
        *, may_load: bool,
    ) -> bool:  # fmt: skip
        """Start what can start of these lines; `most` calls at once on a host. Whether a host is to load something."""
        by_class: dict[Priority, list[str]] = {}
        for priority, name in candidates:
            if (priority, name) in self.by_key and name in rows:
                by_class.setdefault(priority, []).append(name)
        present = [p for p in Priority if p in by_class and self._next(p, by_class[p], rows, hosts, most, may_load)]
        passes = {p: max(self._passes[p], self._virtual) for p in present}
        virtual, loads = self._virtual, False
        able = list(present)
        while able:
            priority = min(able, key=lambda p: passes[p])
            choice = self._next(priority, by_class[priority], rows, hosts, most, may_load)
            if choice is None:
                able.remove(priority)
                continue
            name, place = choice
            virtual = passes[priority]
            passes[priority] = virtual + STRIDE[priority]
            loads = loads or place.is_cold
            hosts[place.host].start(self._pop(priority, name), now)
        if len(present) > 1:
            self._passes.update(passes)
            self._virtual = virtual
        return loads

    def _next(
        self, priority: Priority, names: Iterable[str], rows: Mapping[str, Row], hosts: Mapping[str, Host], most: int,
        may_load: bool,
    ) -> tuple[str, Place] | None:  # fmt: skip
        """The line of a class whose first job has the least tag, of those that have a place, and that place."""
        heads = sorted((line[0][0], name) for name in names if (line := self.by_key.get((priority, name))))
        for _, name in heads:
            place = _place(rows[name].places, hosts, most, priority is Priority.HIGH, may_load)
            if place is not None:
                return name, place
        return None

    def _pop(self, priority: Priority, name: str) -> Job:
        line = self.by_key[priority, name]
        tag, _, job = heappop(line)
        self._served[priority] = max(self._served[priority], tag)
        if not line:
            del self.by_key[priority, name]
        self.waiting -= 1
        self.depth[priority] -= 1
        if not self.depth[priority]:
            self._tags[priority].clear()
        return job


def _place(
    places: Iterable[Place], hosts: Mapping[str, Host], most: int, is_high: bool, may_load: bool
) -> Place | None:
    """Of the places with room those of the least tier, and of them the one expected to be done first."""
    best, least = None, (0, 0.0)
    for place in places:
        host = hosts[place.host]
        if host.under_way >= most or (place.is_cold and not may_load):
            continue
        if host.calls.get(place.unit, 0) >= (place.calls if is_high else place.shared_calls):
            continue
        rank = place.tier, (host.under_way + 1) * place.weight
        if best is None or rank < least:
            best, least = place, rank
    return best
