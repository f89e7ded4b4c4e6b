"""What the manager's decisions look at: hosts, use, and who is busy, at one moment. Pure.

Models are compared by `shared.model_names.same`; actions carry the server's own spelling.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from manager.inventory import HostInventory
from shared.backends.base import LoadedModel
from shared.model_names import same
from shared.usage.figures import ModelUsage

FORGET_AFTER_S = 3600.0
LOADED_PER_INSTALLED = 1.2
"""A model never seen in memory is taken to need its size on disk and a fifth more, for its context."""


@dataclass(frozen=True, slots=True)
class Place:
    """A model on a host."""

    model: str
    host: str


def place(model: str, host: str) -> Place:
    """`model` may be spelled anyhow."""
    return Place(same(model), host)


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """Who must be left alone. `unfinished`: jobs that wait or run, by model, as `QueueClient.unfinished_by_model` says;
    `calls`: calls under way, by (model, host), as `QueueClient.calls_by_model` says.
    """

    unfinished: Mapping[str, int] = field(default_factory=dict)
    calls: Mapping[tuple[str, str], int] = field(default_factory=dict)

    def is_busy(self, where: Place) -> bool:
        """A job that waits for the model may be given to any host, so it keeps the model everywhere."""
        return self.unfinished.get(where.model, 0) > 0 or self.calls.get((where.model, where.host), 0) > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sightings:
    """What only looking again and again tells. Kept by the leader from round to round, in memory; times in unix s."""

    loaded_since: Mapping[Place, float] = field(default_factory=dict)
    gone_at: Mapping[Place, float] = field(default_factory=dict)
    """When a model was last seen to have left a host's memory, for an hour."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Bytes each model took when it was last seen in memory."""

    def after(self, hosts: Iterable[HostInventory], now: float) -> Sightings:
        """With another look added. What a host that does not answer has is taken to be as before."""
        silent = {host.host for host in hosts if host.error}
        seen = {place(model.name, host.host): model for host in hosts if not host.error for model in host.loaded}
        kept = {where: since for where, since in self.loaded_since.items() if where.host in silent or where in seen}
        gone = {where: at for where, at in self.gone_at.items() if now - at < FORGET_AFTER_S and where not in seen}
        return Sightings(
            loaded_since={**dict.fromkeys(seen, now), **kept},
            gone_at={**gone, **{where: now for where in self.loaded_since if where not in kept}},
            sizes={**self.sizes, **{where.model: memory_of(model) for where, model in seen.items()}},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One moment. `now` is unix seconds by Redis' clock, like `ModelUsage.last_used_at`.

    `limits`: bytes that models may take on a host; a host left out has no known limit (see `manager.memory`).
    `loading`: models that some operation is just bringing to a host: load, pull, update.
    """

    now: float
    hosts: Sequence[HostInventory]
    usage: Sequence[ModelUsage] = ()
    busy: Busy = field(default_factory=Busy)
    pins: Collection[str] = frozenset()
    limits: Mapping[str, int] = field(default_factory=dict)
    loading: Collection[Place] = frozenset()
    sightings: Sightings = field(default_factory=Sightings)


def memory_of(model: LoadedModel) -> int:
    """Bytes a model takes in memory: what is in the GPU's is part of its size, where the server knows both."""
    return max(model.size_bytes, model.vram_bytes)


def memory_needed(model: str, installed_bytes: int, sizes: Mapping[str, int]) -> int:
    """Bytes a model will take once loaded: what it took last time, else a guess from its size on disk."""
    return sizes.get(same(model), 0) or int(installed_bytes * LOADED_PER_INSTALLED)
