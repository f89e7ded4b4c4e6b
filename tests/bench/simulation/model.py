"""One shard through simulated time: arrivals, ends and loads are events, and after each the queue starts what it can.

A plan is made from what waits and what the hosts have in memory, as the workers do: when jobs wait in vain, at most
every `replan_s` (0: after each event), else every `VIEW_S`. Loads are decided on plans younger than `FRESH_S` only.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count

from shared.queue.plans import CALL, Row
from tests.bench.simulation.hosts import Host, Job, Runner
from tests.bench.simulation.lines import Key, Lines
from tests.bench.simulation.policies import Policy
from worker.scheduling.facts import HostFacts
from worker.scheduling.planner import FRESH_S, KNOWN_LINES, VIEW_S
from worker.scheduling.policy import Knobs

_STEP_S = 1e-6
"""The policy reckons in ms, and what is due must be past."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Fleet:
    """Hosts of one shard, all alike. `room`: models that one holds; `parallel`: calls of one model at once."""

    hosts: int
    room: int
    parallel: int
    load_s: float


@dataclass(slots=True, frozen=True, kw_only=True)
class Outcome:
    """What one shard did until `now_s`."""

    hosts: list[Host]
    now_s: float
    plans: int


@dataclass(slots=True)
class Shard:
    """`run` it once."""

    fleet: Fleet
    policy: Policy
    knobs: Knobs
    replan_s: float = 0.0
    _events: list[tuple[float, int, Host | None, object]] = field(default_factory=list)
    _order: count[int] = field(default_factory=count)
    _known: dict[str, None] = field(default_factory=dict)
    _rows: dict[str, Row] = field(default_factory=dict)
    _at_host: dict[str, list[str]] = field(default_factory=dict)
    """The lines that have a place there."""
    _planned_s: float = -math.inf
    _alarm_s: float = math.inf
    _plans: int = 0

    def run(
        self, jobs: Iterable[Job], until_s: float = math.inf, *, warm: Sequence[Sequence[str]] = ()
    ) -> Outcome:  # fmt: skip
        """Jobs in the order of their arrival. Without `until_s` until all have ended. `warm`: what each host has in
        memory at the start.
        """
        fleet, lines, decide = self.fleet, Lines(self.policy.sees_classes), self.policy.new()
        hosts = {
            name: Host(name, fleet.room, fleet.parallel, fleet.load_s, self._note)
            for name in (f"host-{number}" for number in range(fleet.hosts))
        }
        for each, units in zip(hosts.values(), warm, strict=False):
            each.loaded = {unit: Runner(0.0, 0.0) for unit in units}
        most, now = self.knobs.host_calls, 0.0

        def plan() -> None:
            view = lines.view()
            for line in view:
                self._known.pop(line.name, None)
                self._known[line.name] = None
            while len(self._known) > KNOWN_LINES:
                del self._known[next(iter(self._known))]
            decision = decide(view, self._known, [_facts(host) for host in hosts.values()], now * 1000, self.knobs)
            self._planned_s = now
            self._plans += 1
            self._rows = {row.line: row for row in decision.rows}
            self._at_host = defaultdict(list)
            for row in decision.rows:
                for place in row.places:
                    self._at_host[place.host].append(row.line)
            if decision.changes_ms < math.inf:
                self._wake(max(now, decision.changes_ms / 1000) + _STEP_S)

        def claim(candidates: Iterable[Key]) -> bool:
            may_load = now - self._planned_s <= FRESH_S
            return lines.claim(candidates, self._rows, hosts, now, most, may_load=may_load)

        def serve(candidates: Iterable[Key]) -> None:
            """After an event that concerns these lines only."""
            if now - self._planned_s > VIEW_S:
                plan()
                candidates = tuple(lines.by_key)
            loads = claim(candidates)
            while lines.waiting and (loads or now >= self._planned_s + self.replan_s):
                waiting = lines.waiting
                plan()
                loads = claim(tuple(lines.by_key))
                if lines.waiting == waiting or (self.replan_s and not loads):
                    return
            if lines.waiting:
                self._wake(self._planned_s + self.replan_s)

        arrivals = iter(jobs)
        coming = next(arrivals, None)
        while True:
            if coming is not None and (not self._events or coming.arrives_s <= self._events[0][0]):
                if coming.arrives_s > until_s:
                    break
                now = coming.arrives_s
                key = lines.join(coming)
                serve((key,) if len(lines.by_key[key]) == 1 else ())
                coming = next(arrivals, None)
                continue
            if not self._events or self._events[0][0] > until_s:
                break
            now, _, host, subject = heappop(self._events)
            if host is None:
                if now >= self._alarm_s:
                    self._alarm_s = math.inf
                    serve(())
                continue
            if isinstance(subject, Job):
                host.end(subject, now)
            else:
                host.has_loaded(str(subject), now)
            serve([(priority, name) for name in self._at_host.get(host.name, ()) for priority in lines.depth])
        return Outcome(hosts=list(hosts.values()), now_s=now if until_s == math.inf else until_s, plans=self._plans)

    def _note(self, at_s: float, host: Host | None, subject: object) -> None:
        heappush(self._events, (at_s, next(self._order), host, subject))

    def _wake(self, at_s: float) -> None:
        """Look at the queue then, unless that is to happen sooner anyway."""
        if at_s < self._alarm_s:
            self._alarm_s = at_s
            self._note(at_s, None, None)


def _facts(host: Host) -> HostFacts:
    return HostFacts(
        name=host.name,
        room=host.room,
        resident={unit: int(runner.since_s * 1000) for unit, runner in host.loaded.items()},
        calls={unit: calls * CALL for unit, calls in host.calls.items()},
    )
