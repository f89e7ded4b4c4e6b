"""How long a waiting job is expected to wait, and for what. Pure.

A job starts once it has got through three gates, each with so many calls at a time: its model's slots, its hosts' and
the workers'. At each it waits for the calls before it that the gate cannot take at once; the narrowest gate decides. A
model that no host has in memory adds the time until one has.

What stands before a job in other lines counts only where both meet: jobs of a model on other hosts do not.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache, cached_property

from msgspec import Struct

from shared.jobs import Priority
from shared.queue.fleet import Fleet, Standing
from shared.queue.lines import HOME, TEXTS, service_in, takes_batches, unit_in
from shared.queue.plans import turns_each
from shared.usage.estimates import Estimates

SHARES = {Priority.HIGH: 8, Priority.NORMAL: 3, Priority.LOW: 1}
"""How the classes share the starts, as `claim.lua` does."""
UNLIMITED = 10**9


class Reason(StrEnum):
    """What a job waits for."""

    SLOT = "waiting_for_slot"
    MODEL = "waiting_for_model"
    """No host has the model in memory yet."""
    LOADING = "loading_model"
    WORKER = "no_worker"


class Outlook(Struct, frozen=True):
    """What a client is told while its job has not begun. `position` is None once it has a slot, `wait_s` when nothing
    is known. `host`: where its model is being loaded.
    """

    position: int | None = None
    wait_s: float | None = None
    reason: Reason = Reason.SLOT
    model: str = ""
    host: str = ""

    @property
    def text(self) -> str:
        """In a few words, for a comment on a stream."""
        words = ["queued" if self.position else "running"]
        if self.position:
            words.append(f"position={self.position}")
        if self.wait_s is not None:
            words.append(f"expected_wait_seconds={self.wait_s:g}")
        if self.reason is not Reason.SLOT:
            words.append(f"reason={self.reason}")
        if self.reason is Reason.LOADING:
            words.append(f"model={self.model} host={self.host}")
        return " ".join(words)


@dataclass(slots=True, frozen=True)
class _Crowd:
    """The calls of one unit at a gate: those before the job, those under way, and the most that may be so at once."""

    ahead: float
    running: float
    most: float
    call_s: float

    def __mul__(self, share: float) -> _Crowd:
        return _Crowd(self.ahead * share, self.running * share, self.most * share, self.call_s)


def by_drain_s(position: int, free_slots: int, drain_per_s: float | None) -> float | None:
    """The same from the rate at which jobs of all kinds ended of late; None without one."""
    ends_needed = position - max(0, free_slots)
    if ends_needed <= 0:
        return 0.0
    return round(ends_needed / drain_per_s, 1) if drain_per_s else None


def _gate_s(slots: float, crowds: Iterable[_Crowd], running: float = 0.0) -> float:
    """Seconds until a gate with so many slots has room for one more call after those before it."""
    crowds = list(crowds)
    busy = sum(min(crowd.ahead + crowd.running, crowd.most) for crowd in crowds)
    if max(busy, running) < slots:
        return 0.0
    ahead = sum(crowd.ahead for crowd in crowds)
    running = max(running, sum(crowd.running for crowd in crowds))
    weights = [(crowd.ahead or crowd.running, crowd.call_s) for crowd in crowds]
    total = sum(weight for weight, _ in weights)
    call_s = sum(weight * seconds for weight, seconds in weights) / total if total else 0.0
    return max(0.0, ahead + running + 1 - slots) * call_s / slots


class Waits:
    """Outlooks on the fleet as it was seen at one moment."""

    def __init__(self, fleet: Fleet, estimates: Estimates) -> None:
        self._fleet = fleet
        self._estimates = estimates
        self._hosts = {host: capacity for capacity in fleet.capacities for host in capacity.hosts}
        """Each host that a worker serves, with what it gives it."""
        self._batch = max((capacity.batch for capacity in fleet.capacities), default=1)
        # Thousands of streams and new jobs may ask while hundreds of lines wait, so what holds for several is kept.
        self._kept_wait_s = cache(self.wait_s)
        self._reason_for = cache(self._find_reason)
        self._call_s = cache(estimates.call_s)
        self._homes_of = cache(self._find_homes)
        self._most = cache(self._limit)
        self._meets = cache(self._overlap)
        self._in_class = {p: [line for line in fleet.lines if line.priority is p] for p in Priority}
        self._running: dict[str, float] = defaultdict(float)
        for slot, under_way in fleet.calls.items():
            _, bar, unit = slot.partition("|")
            if bar:
                self._running[unit] += under_way

    def outlook(self, at: Standing) -> Outlook | None:
        """What to tell of a job; None for one that neither waits for a slot nor for its model to be loaded."""
        if not at.position:
            loads = bool(at.unit) and at.host in self._fleet.hosts and not self._has(at.host, at.unit)
            return Outlook(reason=Reason.LOADING, model=_model(at.unit), host=at.host) if loads else None
        about = Standing(
            priority=at.priority,
            line=at.line,
            position=_about(at.position),
            in_class=_about(at.in_class),
            in_line=_about(at.in_line),
        )
        return Outlook(at.position, self._kept_wait_s(about), *self._reason_for(at.line))

    def _find_reason(self, line: str) -> tuple[Reason, str, str]:
        """What jobs of a line wait for, its model, and the host where that is being loaded."""
        unit = unit_in(line)
        homes = self._homes_of(unit)
        loading = [host for host in homes if not self._has(host, unit)]
        reason, host = Reason.SLOT, ""
        if not self._fleet.workers:
            reason = Reason.WORKER
        elif homes and len(loading) == len(homes):
            reason, host = Reason.LOADING, loading[0]
        elif not homes and self._is_loaded_on_demand(unit):
            reason = Reason.MODEL
        return reason, _model(unit), host

    def wait_s(self, at: Standing) -> float | None:
        """Seconds until a waiting job starts; None when nothing can be said."""
        fleet = self._fleet
        if not fleet.workers:
            return None
        if not self._estimates.known:
            return by_drain_s(at.position, fleet.slots - fleet.running, fleet.drain_per_s)
        crowds = self._crowds(at)
        if not self._hosts:
            return round(_gate_s(fleet.slots, crowds.values(), fleet.running), 1)
        unit = unit_in(at.line)
        homes = self._homes_of(unit)
        cold_s, cleared = self._cold(at, homes)
        # What is used on a host that makes room starts nothing there meanwhile.
        rivals = [crowds[unit], *(c * (1 - self._meets(u, cleared)) for u, c in crowds.items() if u != unit)]
        gates = [
            _gate_s(fleet.slots, rivals),
            _gate_s(max(1, len(homes)) * self._most(at.line, at.priority), [crowds[unit]]),
        ]
        if homes:
            host_calls = sum(self._hosts[host].host_calls for host in homes)
            gates.append(_gate_s(host_calls, self._meeting(crowds, homes)))
        return round(max(gates) + cold_s, 1)

    @cached_property
    def _turns(self) -> int:
        """How many models each host would have to take in turn."""
        units = {unit_in(line.name) for line in self._fleet.lines}
        cold = sum(self._is_loaded_on_demand(unit) and not self._homes_of(unit) for unit in units)
        return turns_each(cold, len(self._hosts))

    @property
    def drain_per_s(self) -> float:
        """Jobs that would end a second with all slots busy; 0 when not known."""
        if not self._estimates.known:
            return 0.0
        calls = self._fleet.slots
        if self._hosts:
            calls = min(calls, sum(capacity.host_calls for capacity in self._hosts.values()))
        return calls / self._estimates.call_s("")

    # -- the hosts ----------------------------------------------------------------------------------------------------

    def _is_loaded_on_demand(self, unit: str) -> bool:
        """Whether hosts take the unit into a memory that anybody looked into."""
        return service_in(unit) == HOME and not self._fleet.hosts.keys().isdisjoint(self._hosts)

    def _find_homes(self, unit: str) -> tuple[str, ...]:
        """Hosts that have the unit in memory, or take it in."""
        calls = self._fleet.calls
        return tuple(host for host in self._hosts if f"{host}|{unit}" in calls or self._has(host, unit))

    def _overlap(self, unit: str, homes: tuple[str, ...]) -> float:
        """The share of a unit's homes that are among these."""
        theirs = self._homes_of(unit)
        return len(set(theirs) & set(homes)) / max(1, len(theirs))

    def _has(self, host: str, unit: str) -> bool:
        """Whether the unit was seen in the host's memory."""
        model, _, context = unit.partition("#")
        sighting = self._fleet.hosts.get(host)
        return sighting is not None and any(
            here.model == model
            and (not context or str(here.context) in (context, "0"))
            and not 0 < here.until * 1000 <= self._fleet.now_ms
            for here in sighting.residents
        )

    def _limit(self, line: str, priority: Priority) -> int:
        """Calls of a line at once on one host that a class may have."""
        limits = []
        for capacity in self._fleet.capacities:
            calls = min(capacity.embedding_calls if takes_batches(line) else capacity.unit_calls, capacity.host_calls)
            limits.append(calls if priority is Priority.HIGH else max(1, calls - capacity.reserved))
        return max(limits, default=UNLIMITED)

    def _calls_of(self, line: str, jobs: float) -> float:
        """Calls that serve so many jobs of a line."""
        return math.ceil(jobs / self._batch) if takes_batches(line) and self._batch > 1 else jobs

    def _ahead(self, at: Standing) -> dict[str, float]:
        """Jobs that start before this one, by line; those whose lines are not known under ''."""
        found: dict[str, float] = defaultdict(float)
        found[at.line] += at.in_line
        for priority in Priority:
            lines = self._in_class[priority]
            if priority is at.priority:
                lines = [line for line in lines if line.name != at.line]
                jobs: float = at.in_class - at.in_line
            else:
                turns = (at.in_class + 1) * SHARES[priority] / SHARES[at.priority]
                jobs = min(self._fleet.waiting.get(priority, 0), turns)
            waiting = sum(line.waiting for line in lines)
            if not waiting:
                found[""] += jobs
                continue
            for line in lines:
                found[line.name] += jobs * line.waiting / waiting
        return found

    def _crowds(self, at: Standing) -> dict[str, _Crowd]:
        """Who is before the job or under way, by unit."""
        calls: dict[str, float] = defaultdict(float)
        seconds: dict[str, float] = defaultdict(float)
        lines: dict[str, str] = {unit_in(at.line): at.line}
        for line, jobs in self._ahead(at).items():
            unit = unit_in(line)
            lines.setdefault(unit, line)
            needed = self._calls_of(line, jobs)
            calls[unit] += needed
            seconds[unit] += needed * self._call_s(line)
        found = {}
        for unit in {*lines, *self._running}:
            line, ahead = lines.get(unit, TEXTS + unit), calls[unit]
            most = max(1, len(self._homes_of(unit))) * self._most(line, Priority.HIGH)
            call_s = seconds[unit] / ahead if ahead else self._call_s(line)
            found[unit] = _Crowd(ahead, self._running.get(unit, 0.0), most, call_s)
        return found

    def _meeting(self, crowds: dict[str, _Crowd], homes: tuple[str, ...]) -> Iterable[_Crowd]:
        """The part of each crowd that comes to these hosts."""
        for unit, crowd in crowds.items():
            if share := self._meets(unit, homes):
                running = sum(self._fleet.calls.get(f"{host}|{unit}", 0.0) for host in homes)
                yield replace(crowd * share, running=running)

    def _cold(self, at: Standing, homes: tuple[str, ...]) -> tuple[float, tuple[str, ...]]:
        """Seconds until a host has the job's model in memory, and the host that must make room for it, if one must."""
        unit = unit_in(at.line)
        if not self._is_loaded_on_demand(unit) or any(self._has(host, unit) for host in homes):
            return 0.0, ()
        load_s = self._estimates.load_s(at.line)
        if homes:
            return load_s, ()
        room_s, host = min((self._room_s(host, at), host) for host in self._hosts)
        return load_s + room_s, (host,) if room_s else ()

    def _room_s(self, host: str, at: Standing) -> float:
        """Seconds until the host may load another model: when those there are not used any more, or the job's patience
        ends."""
        sighting, capacity = self._fleet.hosts.get(host), self._hosts[host]
        if sighting is None:
            return 0.0
        room = min(filter(None, (sighting.room, capacity.max_loaded)), default=0)
        if not 0 < room <= len(sighting.residents):
            return 0.0
        used: list[_Crowd] = []
        for here in sighting.residents:
            lines = [line for line in self._fleet.lines if _model(unit_in(line.name)) == here.model]
            running = self._fleet.calls.get(f"{host}|{here.model}", 0.0)
            if not lines and not running:
                return 0.0
            name = lines[0].name if lines else at.line
            ahead = sum(self._calls_of(line.name, line.waiting) for line in lines)
            used.append(_Crowd(ahead, running, self._most(name, Priority.HIGH), self._call_s(name)))
        at_once = min(capacity.host_calls, self._fleet.slots)
        done_s = max((crowd.ahead + crowd.running) * crowd.call_s / min(crowd.most, at_once) for crowd in used)
        since_ms = min(
            (line.since_ms for line in self._fleet.lines if line.name == at.line), default=self._fleet.now_ms
        )
        waited_s = (self._fleet.now_ms - since_ms) / 1000
        patience_s = capacity.patience_s.get(at.priority, 0.0) * self._turns
        return min(done_s, max(0.0, patience_s - waited_s) + max(crowd.call_s for crowd in used))


def _about(place: int) -> int:
    """A place in line to within a thirtieth, so that one answer does for many; places below 64 as they are."""
    if place < 64:
        return place
    coarse = place.bit_length() - 6
    return place >> coarse << coarse


def _model(unit: str) -> str:
    return unit.partition("#")[0]
