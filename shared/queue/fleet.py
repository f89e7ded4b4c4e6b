"""The fleet and where a job stands in it: what can be told of waiting times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from shared.jobs import Priority
from shared.queue.plans import CALL, WaitingLine, read_view
from shared.queue.scripts import Scripts
from shared.queue.sightings import Sighting, read_sighting


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker gives each of its hosts at a time, in calls: in all, of one model's texts and of its embeddings;
    `reserved` of them are for class high. One embedding call serves up to `batch` jobs. `patience_s`: by class, how
    long a job waits before a model that others use makes room for its own. `max_loaded`: models that a host's memory
    holds, 0 if nobody said.
    """

    hosts: list[str]
    host_calls: int
    unit_calls: int
    embedding_calls: int
    reserved: int = 0
    batch: int = 1
    max_loaded: int = 0
    patience_s: dict[str, float] = {}


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Where an unfinished job stands. `position` counts from 1 and is 0 while it does not wait; `in_class` and
    `in_line` are the jobs before it of its class and of its line. `host` and `unit`: its slot while it runs.
    """

    priority: Priority
    line: str
    position: int = 0
    in_class: int = 0
    in_line: int = 0
    host: str = ""
    unit: str = ""


@dataclass(slots=True, frozen=True, kw_only=True)
class Fleet:
    """The workers, the lines and the hosts at one moment. `running` counts jobs, `calls` those under way by `host` and
    by `host|unit`; `capacities` differ where workers are set up differently.
    """

    now_ms: int = 0
    workers: int = 0
    slots: int = 0
    running: int = 0
    capacities: Sequence[Capacity] = ()
    lines: Sequence[WaitingLine] = ()
    waiting: Mapping[Priority, int] = field(default_factory=dict)
    calls: Mapping[str, float] = field(default_factory=dict)
    hosts: Mapping[str, Sighting] = field(default_factory=dict)
    drain_per_s: float | None = None
    """Jobs ended a second while jobs waited, as last measured."""


class _Beat(msgspec.Struct):
    """The part of a heartbeat (`shared.queue.stats.Heartbeat`) that counts here."""

    slots: int
    capacity: Capacity | None = None


_beat = msgspec.msgpack.Decoder(_Beat)


async def read_fleet(scripts: Scripts) -> Fleet:
    """One round trip. Raises RedisError or OSError."""
    packed, running, high, normal, low, rate, *beats = await scripts.run("fleet")
    view = read_view(packed)
    workers = [_beat.decode(raw) for raw in beats]
    seen = {host: read_sighting(raw) for host, raw in view.hosts.items()}
    return Fleet(
        now_ms=view.now_ms,
        workers=len(workers),
        slots=sum(worker.slots for worker in workers),
        running=int(running),
        capacities=[worker.capacity for worker in workers if worker.capacity is not None],
        lines=view.lines,
        waiting={Priority.HIGH: high, Priority.NORMAL: normal, Priority.LOW: low},
        calls={place: thousandths / CALL for place, thousandths in view.calls.items()},
        hosts={host: sighting for host, sighting in seen.items() if sighting is not None},
        drain_per_s=float(rate) if rate else None,
    )


def read_standing(reply: Sequence[Any]) -> Standing | None:
    """One row of `lua/positions.lua`."""
    if not reply:
        return None
    priority, line, slot, position, in_class, in_line = reply
    host, _, rest = slot.decode().partition("|")
    return Standing(
        priority=Priority(priority.decode()), line=line.decode(), position=position, in_class=in_class, in_line=in_line,
        host=host, unit=rest.rpartition("|")[0],
    )  # fmt: skip
