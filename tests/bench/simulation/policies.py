"""The ways of scheduling that are compared: two that do not look at models, and the worker's own."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

from shared.queue.lines import unit_in
from shared.queue.plans import Place, Row, WaitingLine
from worker.scheduling.facts import HostFacts
from worker.scheduling.policy import Decision, Knobs, decide

Decide = Callable[[Sequence[WaitingLine], Collection[str], Sequence[HostFacts], float, Knobs], Decision]


@dataclass(slots=True)
class Blind:
    """Any job may start on any host that has a slot, whatever is in memory: the least loaded host is taken."""

    _rows: dict[str, Row] = field(default_factory=dict)
    _decision: Decision | None = None

    def __call__(
        self, lines: Sequence[WaitingLine], known: Collection[str], hosts: Sequence[HostFacts], now_ms: float,
        knobs: Knobs,
    ) -> Decision:  # fmt: skip
        new = [name for name in dict.fromkeys((*(line.name for line in lines), *known)) if name not in self._rows]
        for name in new:
            places = [
                Place(host=host.name, unit=unit_in(name), calls=knobs.host_calls, shared_calls=knobs.host_calls)
                for host in hosts
            ]
            self._rows[name] = Row(line=name, places=places)
        if new or self._decision is None:
            self._decision = Decision({}, list(self._rows.values()), math.inf)
        return self._decision


def _warm_first(
    lines: Sequence[WaitingLine], known: Collection[str], hosts: Sequence[HostFacts], now_ms: float, knobs: Knobs
) -> Decision:
    return decide(lines, known, hosts, now_ms, replace(knobs, by_affinity=False))


@dataclass(slots=True, frozen=True, kw_only=True)
class Policy:
    """`new` gives the decision for one shard."""

    name: str
    title: str
    new: Callable[[], Decide]
    sees_classes: bool = True


POLICIES: dict[str, Policy] = {
    policy.name: policy
    for policy in (
        Policy(name="fifo", title="first come, first served", new=Blind, sees_classes=False),
        Policy(name="classes", title="classes, blind to models", new=Blind),
        Policy(name="warm-first", title="classes, a warm host first", new=lambda: _warm_first),
        Policy(name="affinity", title="model affinity", new=lambda: decide),
    )
}
"""`warm-first` is ENABLE_GPU_OPTIMIZATION=false: order by class, and of the free hosts one that has the model."""
