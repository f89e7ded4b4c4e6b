"""What is known of a host now, and what a call of a unit would cost it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from shared.queue.lines import HOME


class Swap(IntEnum):
    """What a host must do before it can serve a unit, the cheapest first."""

    NONE = 0
    """It has it in memory, or is loading it, as far as we can tell."""
    LOAD = 1
    """It has room for it, as far as is known."""
    REPLACE = 2
    """A model must go that is not called."""
    EVICT = 3
    """A model must go that is in use."""


@dataclass(slots=True, frozen=True, kw_only=True)
class HostFacts:
    """A host now. `resident` units are in memory, each since when (ms), as so many `models` (below 0: one each);
    `calls` are thousandths under way by unit.

    `room`: units its memory holds, 0 when it is not known to be full. `weights`: relative time of a unit's call there.
    `shunned`: units it should be asked for last (it lacks them, or their circuit is open).
    """

    name: str
    service: str = HOME
    resident: Mapping[str, int] = field(default_factory=dict)
    models: int = -1
    calls: Mapping[str, int] = field(default_factory=dict)
    room: int = 0
    weights: Mapping[str, float] = field(default_factory=dict)
    shunned: Collection[str] = ()
    has_all: bool = False
    """It needs to load nothing, as far as we can tell."""

    def has(self, unit: str) -> bool:
        """In memory, or being loaded."""
        return self.has_all or unit in self.resident or unit in self.calls

    @property
    def units(self) -> set[str]:
        return {*self.resident, *self.calls}

    @property
    def loading(self) -> set[str]:
        """Called, and not in memory yet."""
        return set() if self.has_all else set(self.calls) - set(self.resident)

    @property
    def held(self) -> int:
        """How many models are in its memory."""
        return len(self.resident) if self.models < 0 else self.models

    def swap(self, unit: str) -> Swap:
        """What a call of the unit would make it do."""
        if self.has(unit):
            return Swap.NONE
        if not 0 < self.room <= self.held + len(self.loading):
            return Swap.LOAD
        return Swap.EVICT if self.resident.keys() <= self.calls.keys() else Swap.REPLACE
