"""What a worker tells a claim about where jobs may start, and what it is told in return.

The queue does not know models or hosts: a `Planner` does (`worker/scheduling`), and `lua/includes/plan.lua` carries its
plan out against what the whole fleet has under way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from shared.jobs import Priority
from shared.wire.codec import encode

CALL = 1000
"""One call in slots' units."""


def turns_each(cold_units: int, hosts: int) -> int:
    """How many models each host takes in turn, at least 1, when jobs wait for so many that no host has: a class'
    patience is so many times as long. Workers go by it, and gateways tell waiting times by it."""
    return max(1, math.ceil(cold_units / max(1, hosts)))


@dataclass(slots=True, frozen=True)
class WaitingLine:
    """A line of one class: how many jobs wait in it, and since when the first of them does (ms, Redis' clock)."""

    priority: Priority
    name: str
    waiting: int
    since_ms: int


@dataclass(slots=True, frozen=True)
class View:
    """The queue as a claim saw it. `calls` are thousandths of calls under way by `host` and by `host|unit`; `hosts` is
    what a worker saw on each host last, packed."""

    now_ms: int
    lines: Sequence[WaitingLine]
    calls: dict[str, int]
    hosts: dict[str, bytes]
    tenures: dict[str, int]


@dataclass(slots=True, frozen=True, kw_only=True)
class Place:
    """Where a line's jobs may be served: at most `calls` at once of the unit there, `shared_calls` of them by jobs of
    other classes than high. Of the places with room those of the least `tier` count, and of them the one where
    (calls under way at the host + 1) x `weight` is least.
    """

    host: str
    unit: str
    calls: int
    shared_calls: int
    tier: int = 0
    weight: float = 1.0
    is_cold: bool = False
    """The unit must be loaded there."""

    def packed(self, host_number: int) -> tuple[object, ...]:
        return host_number, self.unit, self.calls, self.shared_calls, self.tier, self.weight, int(self.is_cold)


@dataclass(slots=True, frozen=True, kw_only=True)
class Row:
    """A line that may start jobs, without a host if there are no places. One call serves up to `batch` of them; from
    `fill_from` calls of the unit on, one that would serve fewer waits for more, until its first job has waited for
    `fill_ms`.
    """

    line: str
    places: Sequence[Place]
    batch: int = 1
    fill_from: int = 0
    fill_ms: int = 0


@dataclass(slots=True, frozen=True)
class Plan:
    """Which lines may start jobs now, and where. `hosts`: the most calls that each may have under way. `tenures`, from
    the view, say how old the plan is: once a job makes a host load a model, older plans start nothing there.
    """

    hosts: dict[str, int]
    rows: Sequence[Row]
    tenures: dict[str, int] = field(default_factory=dict)

    def packed(self) -> bytes:
        """As `lua/includes/plan.lua` reads it."""
        number = {host: i for i, host in enumerate(self.hosts, start=1)}
        rows = [
            (row.line, row.batch, row.fill_from, row.fill_ms, [at.packed(number[at.host]) for at in row.places])
            for row in self.rows
        ]
        return encode(([(host, calls, self.tenures.get(host, 0)) for host, calls in self.hosts.items()], rows))


class Planner(Protocol):
    """Decides what a worker may start."""

    def packed(self) -> bytes:
        """The plan as `lua/includes/plan.lua` reads it; empty: any line may start, and no host is chosen."""

    def wants_view(self) -> bool:
        """Whether the next claim is to bring a view even if nothing waits in vain."""

    def must_look(self) -> bool:
        """Whether a view is needed before the next claim, because its plan may depend on one that is too old."""

    def see(self, view: View) -> bool:
        """Plan anew. Whether the plan is another one now."""

    def pause_s(self) -> float:
        """Seconds after which waiting alone may change the plan."""


class AnyLine:
    """No plan: for queues whose jobs need no model in memory."""

    def packed(self) -> bytes:
        return b""

    def wants_view(self) -> bool:
        return False

    def must_look(self) -> bool:
        return False

    def see(self, view: View) -> bool:
        return False

    def pause_s(self) -> float:
        return float("inf")


def read_view(reply: Sequence[Any]) -> View:
    """A view from a claim's reply (`lua/includes/view.lua`)."""
    now_ms, lines, slots, hosts, tenures = reply
    rows = zip(lines[::4], lines[1::4], lines[2::4], lines[3::4], strict=True)
    return View(
        now_ms=now_ms,
        lines=[WaitingLine(Priority(p.decode()), line.decode(), waiting, since) for p, line, waiting, since in rows],
        calls={name.decode(): int(calls) for name, calls in zip(slots[::2], slots[1::2], strict=True)},
        hosts={host.decode(): seen for host, seen in zip(hosts[::2], hosts[1::2], strict=True)},
        tenures={host.decode(): int(count) for host, count in zip(tenures[::2], tenures[1::2], strict=True)},
    )
