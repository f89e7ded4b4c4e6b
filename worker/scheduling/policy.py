"""The policy: what may start where, given who waits and what the hosts have in memory. Pure.

A model swap costs seconds, so in this order:
  1. what a host has in memory, on the host that is expected to be done first
  2. what no host has, on one that has room for it, or whose models nobody asks for
  3. what waits longer than its class has patience for: a host is kept free of other calls and loads it,
     once the models there have stayed for the least residency. Where several models wait for a host they take
     turns, and patience is so many times as long: a limit that no host can keep would only make it swap
What does not start waits here, not in the host.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from shared.jobs import Priority
from shared.queue.lines import HOME, service_in, takes_batches, unit_in
from shared.queue.plans import CALL, Place, Row, WaitingLine, turns_each
from worker.scheduling.facts import HostFacts


@dataclass(slots=True, frozen=True, kw_only=True)
class Knobs:
    """Limits in calls at once, times in seconds."""

    by_affinity: bool = True
    """False: first come, first served, whatever is in memory."""
    host_calls: int = 10
    unit_calls: int = 10
    embedding_calls: int = 2
    reserved: int = 1
    """Calls of each unit that only class high may take."""
    batch: int = 1
    """Embedding jobs that one call serves."""
    fill_s: float = 5.0
    """Longest wait of an embedding job for a fuller batch."""
    patience_s: Mapping[Priority, float] = field(
        default_factory=lambda: {Priority.HIGH: 2.0, Priority.NORMAL: 20.0, Priority.LOW: 20.0}
    )
    residency_s: float = 5.0
    load_s: float = 5.0
    """What loading a model is taken to cost: a second host is used once a job has waited for that long."""

    def limits(self, unit: str, *, embeds: bool) -> tuple[int, int]:
        """Calls of a unit on one host at once, and those of them for classes other than high."""
        # Ollama alone runs embeddings one by one.
        calls = self.embedding_calls if embeds and service_in(unit) == HOME else self.unit_calls
        calls = min(calls, self.host_calls)
        return calls, max(1, calls - self.reserved)


@dataclass(slots=True)
class Demand:
    """The jobs that wait for one unit, of all classes. Times in ms."""

    unit: str
    since_ms: float = math.inf
    due_ms: float = math.inf
    """When the patience of one of its lines ends."""
    waiting: int = 0
    lines: set[str] = field(default_factory=set)


@dataclass(slots=True, frozen=True)
class Decision:
    """What may start, and when (ms) waiting alone will change that; infinite: never. `hosts` as in a Plan."""

    hosts: dict[str, int]
    rows: Sequence[Row]
    changes_ms: float


def turns(units: Collection[str], hosts: Sequence[HostFacts]) -> int:
    """How many of these units, which jobs wait for, each host would have to take in turn: those that no host has."""
    anything = {host.service for host in hosts if host.has_all}
    cold = sum(service_in(unit) not in anything for unit in set(units).difference(*(host.units for host in hosts)))
    return turns_each(cold, len(hosts))


def demands(lines: Iterable[WaitingLine], knobs: Knobs, patience: int = 1) -> dict[str, Demand]:
    """Who waits, by unit. `patience`: how many times as long as the knobs say."""
    found: dict[str, Demand] = {}
    for line in lines:
        unit = unit_in(line.name)
        demand = found.setdefault(unit, Demand(unit))
        demand.lines.add(line.name)
        demand.waiting += line.waiting
        demand.since_ms = min(demand.since_ms, line.since_ms)
        demand.due_ms = min(demand.due_ms, line.since_ms + knobs.patience_s[line.priority] * 1000 * patience)
    return found


class _Board:
    """The hosts while a plan is made: what they have, and what this plan adds."""

    def __init__(self, hosts: Sequence[HostFacts], wanted: Mapping[str, Demand], now_ms: float, knobs: Knobs) -> None:
        self.wanted = wanted
        self.now_ms = now_ms
        self.knobs = knobs
        self.loading = {host.name: host.loading for host in hosts}
        self.units = {host.name: host.units for host in hosts}
        """What each has, is loading, or is to load."""
        self.order = {host.name: number for number, host in enumerate(hosts)}
        self.at: dict[str, list[HostFacts]] = {}
        """By unit the hosts that have it."""
        for host in hosts:
            for unit in self.units[host.name]:
                self.at.setdefault(unit, []).append(host)
        self.by_service: dict[str, list[HostFacts]] = {}
        for host in hosts:
            self.by_service.setdefault(host.service, []).append(host)
        self.all_round = [host for host in hosts if host.has_all]
        self.called = {host.name: sum(host.calls.values()) for host in hosts}
        self.idle = {host.name for host in hosts if any(u not in host.calls and u not in wanted for u in host.resident)}
        """Something there is neither called nor waited for, so that it can make room."""
        self.changes_ms = math.inf

    def hosts_for(self, unit: str) -> Sequence[HostFacts]:
        """Those of the unit's service."""
        return self.by_service.get(service_in(unit), ())

    def is_full(self, host: HostFacts) -> bool:
        return 0 < host.room <= self.filled(host)

    def filled(self, host: HostFacts) -> int:
        """Models in its memory, and those on their way."""
        return host.held + len(self.loading[host.name])

    def load(self, host: HostFacts, unit: str) -> None:
        self.loading[host.name].add(unit)
        self.units[host.name].add(unit)
        self.at.setdefault(unit, []).append(host)

    def serving(self, unit: str) -> list[HostFacts]:
        """The hosts that may take calls of a unit: they have it, or are to load it."""
        hosts = self.at.get(unit, [])
        if self.all_round:
            hosts = list({host.name: host for host in (*hosts, *self.all_round)}.values())
        service = service_in(unit)
        found = [host for host in hosts if host.service == service and self._may_serve(host, unit)]
        return sorted(found, key=lambda host: self.order[host.name]) if len(found) > 1 else found

    def _may_serve(self, host: HostFacts, unit: str) -> bool:
        if not self.is_crowded(host):
            return True
        # With calls for more than it holds it loads them in turns, and each look would favour the one that is out.
        swaps = len(host.calls) > host.room and not host.calls.keys() <= host.resident.keys()
        return unit in self.loading[host.name] and not swaps

    def is_crowded(self, host: HostFacts) -> bool:
        return bool(self.loading[host.name]) and 0 < host.room < self.filled(host)

    def is_shared(self, host: HostFacts, unit: str) -> bool:
        """Whether other units are called there, or are there and waited for."""
        others = self.units[host.name] - {unit}
        return any(other in self.wanted or other in host.calls for other in others)

    def waited_for(self, host: HostFacts) -> int:
        """Jobs that wait for what the host has in memory."""
        return sum(self.wanted[unit].waiting for unit in host.resident if unit in self.wanted)

    def has_slot(self, host: HostFacts, unit: str, limit: int) -> bool:
        if self.called[host.name] + CALL > self.knobs.host_calls * CALL:
            return False
        return host.calls.get(unit, 0) + CALL <= limit * CALL

    def rested_ms(self, host: HostFacts) -> float:
        """When its models have stayed for the least residency."""
        return max(host.resident.values(), default=0) + self.knobs.residency_s * 1000

    def later(self, at_ms: float) -> bool:
        """Whether a time is still to come; if so, the plan changes then."""
        if at_ms <= self.now_ms:
            return False
        self.changes_ms = min(self.changes_ms, at_ms)
        return True


def decide(
    lines: Sequence[WaitingLine], known: Collection[str], hosts: Sequence[HostFacts], now_ms: float, knobs: Knobs
) -> Decision:
    """What may start now. `known` are lines that were seen of late: they may start at once should a job come."""
    wanted = demands(lines, knobs, turns({unit_in(line.name) for line in lines}, hosts))
    board = _Board(hosts, wanted, now_ms, knobs)
    if knobs.by_affinity:
        for demand in sorted(wanted.values(), key=lambda d: (d.due_ms, d.unit)):
            _place_cold(demand, board)
    names = dict.fromkeys((*(line.name for line in lines), *known))
    rows = [row for name in names if (row := _row(name, board)) is not None]
    _note_fills(lines, board)
    return Decision({host.name: knobs.host_calls for host in hosts}, rows, board.changes_ms)


def _place_cold(demand: Demand, board: _Board) -> None:
    """Choose a host to load what waits, if one should."""
    unit, knobs = demand.unit, board.knobs
    hosts = board.hosts_for(unit)
    warm = board.serving(unit)
    limit = max(_limits(line, knobs)[0] for line in demand.lines)
    if any(board.has_slot(host, unit, limit) and unit not in host.shunned for host in warm):
        return
    if any(unit in board.loading[host.name] for host in board.at.get(unit, ())):
        return  # one load at a time: its end shows whether a second host is needed
    # A host that is away or lacks the model would send its jobs on, past all order, to where they push others out.
    fit = [host for host in hosts if unit not in host.shunned] or hosts
    cold = [host for host in fit if not host.has(unit) and not board.loading[host.name]]
    easy = [host for host in cold if not board.is_full(host) or host.name in board.idle]
    if easy:
        spread_ms = demand.since_ms + min(knobs.load_s * 1000, demand.due_ms - demand.since_ms)
        if warm and board.later(spread_ms):
            return
        _load(unit, easy, board)
    elif cold and not board.later(demand.due_ms):
        # Who has a host already does not push another out, unless far more wait for it.
        homes = sum(host.has(unit) for host in hosts)
        cold = [host for host in cold if not homes or demand.waiting > 2 * homes * board.waited_for(host)]
        # All are looked at: one that is rested soon may then be the better place.
        rested = [host for host in cold if not board.later(board.rested_ms(host))]
        if rested:
            _load(unit, rested, board)


def _load(unit: str, hosts: Sequence[HostFacts], board: _Board) -> None:
    def cost(host: HostFacts) -> tuple[object, ...]:
        # The last resort is the same for all workers, and another one for other units.
        lot = zlib.crc32(f"{unit}@{host.name}".encode())
        return unit in host.shunned, board.is_full(host), board.waited_for(host), board.called[host.name], lot

    board.load(min(hosts, key=cost), unit)


def _limits(line: str, knobs: Knobs) -> tuple[int, int]:
    """Calls of a line's unit at once, and those of them for classes other than high."""
    return knobs.limits(unit_in(line), embeds=takes_batches(line))


def _row(line: str, board: _Board) -> Row | None:
    """Where a line's jobs may start; None when nowhere now. Without any host of its service a job starts nowhere in
    particular, so that its run can say what is wrong.
    """
    unit, knobs = unit_in(line), board.knobs
    calls, shared = _limits(line, knobs)
    hosts = board.hosts_for(unit)
    at = board.serving(unit) if knobs.by_affinity else hosts

    def at_once(host: HostFacts, most: int) -> int:
        # Calls that wait for a load would hold slots that other units there can use: one is enough to load it.
        is_there = host.has_all or unit in host.resident or not knobs.by_affinity
        return most if is_there or not board.is_shared(host, unit) else 1

    places = [
        Place(
            host=host.name, unit=unit, calls=at_once(host, calls), shared_calls=at_once(host, shared),
            weight=host.weights.get(unit, 1.0),
            tier=(unit in host.shunned) + (not host.has(unit)), is_cold=not host.has(unit),
        )
        for host in at
        # Where one is well, none that is not holds a worker up.
        if unit not in host.shunned or all(unit in other.shunned for other in at)
    ]  # fmt: skip
    if hosts and not places:
        return None
    if not takes_batches(line) or knobs.batch < 2:
        return Row(line=line, places=places)
    return Row(line=line, places=places, batch=knobs.batch, fill_from=1, fill_ms=round(knobs.fill_s * 1000))


def _note_fills(lines: Iterable[WaitingLine], board: _Board) -> None:
    """A batch that waits to be filled stops waiting in the end."""
    for line in lines:
        if takes_batches(line.name) and board.knobs.batch > 1:
            board.later(line.since_ms + board.knobs.fill_s * 1000)
