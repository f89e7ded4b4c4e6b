"""Which models should leave memory, and which should come into it. Pure.

In this order, host by host:
  1. idle      a model unused for `idle_s` is unloaded, unless the preload list names it
  2. memory    above `threshold` of the host's limit models are unloaded until it is kept: those on the preload list
               last, the longest unused first, then the least used, then the largest
  3. preload   models of the preload list are loaded, in its order, wherever they are installed and fit

Never unloaded: a pinned model, one with jobs that wait or run, one that is being loaded. For memory's sake also not one
that came less than `min_resident_s` ago: two models that do not fit together would drive each other out by turns. For
the same reason one that has just left is not loaded again at once, and a preload drives nobody out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from manager.inventory import HostInventory
from manager.snapshot import Place, Snapshot, memory_needed, memory_of, place
from shared.backends.base import LoadedModel
from shared.model_names import same
from shared.usage.figures import ModelUsage


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidencyPolicy:
    """`threshold` is a share of the host's memory limit, 0 to 1. `preload` in order of importance; times in seconds."""

    threshold: float = 0.8
    idle_s: float = 300.0
    preload: Sequence[str] = ()
    min_resident_s: float = 60.0
    reload_blindly_s: float = 600.0
    """How long a preloaded model that has left stays away where no limit is known: its server may have evicted it."""


@dataclass(frozen=True, slots=True)
class Unload:
    """Take a model out of a host's memory. Ask again whether it is busy right before."""

    model: str
    host: str
    reason: Literal["idle", "memory"]
    detail: str


@dataclass(frozen=True, slots=True)
class Load:
    """Bring a model into a host's memory."""

    model: str
    host: str
    reason: Literal["preload"]
    detail: str


Action = Unload | Load


def decide(snapshot: Snapshot, policy: ResidencyPolicy) -> list[Action]:
    """What to do now, in order: unloads of a host before its loads. Empty when all is well; hosts that do not answer
    are left alone."""
    actions: list[Action] = []
    for inventory in snapshot.hosts:
        if not inventory.error:
            host = _Host(inventory, snapshot, policy)
            actions += [*host.idle(), *host.pressed(), *host.preloads()]
    return actions


class _Host:
    """One host while it is decided about. `loaded` shrinks and `used` changes with each decision."""

    def __init__(self, inventory: HostInventory, snapshot: Snapshot, policy: ResidencyPolicy) -> None:
        self._inventory = inventory
        self._snapshot = snapshot
        self._policy = policy
        self._name = inventory.host
        self._preload = {same(model): rank for rank, model in enumerate(policy.preload)}
        self._pins = {same(model) for model in snapshot.pins}
        self._usage = {use.model: use for use in snapshot.usage if use.host == inventory.host}
        self._loaded = {place(model.name, inventory.host): model for model in inventory.loaded}
        limit = snapshot.limits.get(inventory.host)
        self._allowed = None if limit is None else int(limit * policy.threshold)

    # -- 1 ----------------------------------------------------------------------------------------------------------

    def idle(self) -> Iterator[Unload]:
        for where, model in list(self._loaded.items()):
            unused_s = self._snapshot.now - max(self._used_at(where), self._since(where))
            if unused_s >= self._policy.idle_s and where.model not in self._preload and self._may_go(where):
                del self._loaded[where]
                yield Unload(model.name, self._name, "idle", f"unused for {unused_s:.0f} s")

    # -- 2 ----------------------------------------------------------------------------------------------------------

    def pressed(self) -> Iterator[Unload]:
        if self._allowed is None:
            return
        for where, model in sorted(self._loaded.items(), key=self._worth):
            used = self._used()
            if used <= self._allowed:
                return
            if self._may_go(where) and self._snapshot.now - self._since(where) >= self._policy.min_resident_s:
                del self._loaded[where]
                yield Unload(model.name, self._name, "memory", f"{_gb(used)} in use, {_gb(self._allowed)} allowed")

    def _worth(self, entry: tuple[Place, LoadedModel]) -> tuple[bool, int, float, int, int, str]:
        """The least first. Of the preload list the last named goes first."""
        where, model = entry
        rank = self._preload.get(where.model)
        calls = self._usage[where.model].calls if where.model in self._usage else 0
        return rank is not None, -(rank or 0), self._used_at(where), calls, -memory_of(model), where.model

    # -- 3 ----------------------------------------------------------------------------------------------------------

    def preloads(self) -> Iterator[Load]:
        installed = {same(model.name): model for model in self._inventory.installed}
        sizes = self._snapshot.sightings.sizes
        coming = [installed[w.model] for w in self._snapshot.loading if w.host == self._name and w.model in installed]
        used = self._used() + sum(memory_needed(model.name, model.size_bytes, sizes) for model in coming)
        for name in self._preload:
            where = place(name, self._name)
            if name not in installed or where in self._all_here() or self._has_just_left(where):
                continue
            needed = memory_needed(name, installed[name].size_bytes, sizes)
            if self._allowed is not None and used + needed > self._allowed:
                continue
            used += needed
            yield Load(installed[name].name, self._name, "preload", f"about {_gb(needed)}")

    def _all_here(self) -> set[Place]:
        # Also what this very round unloads: it comes back in a later one, if it fits then.
        return {place(model.name, self._name) for model in self._inventory.loaded} | set(self._snapshot.loading)

    def _has_just_left(self, where: Place) -> bool:
        rest_s = self._policy.min_resident_s if self._allowed is not None else self._policy.reload_blindly_s
        gone_at = self._snapshot.sightings.gone_at.get(where)
        return gone_at is not None and self._snapshot.now - gone_at < rest_s

    # -- facts ------------------------------------------------------------------------------------------------------

    def _may_go(self, where: Place) -> bool:
        return not (where.model in self._pins or self._snapshot.busy.is_busy(where) or where in self._snapshot.loading)

    def _used(self) -> int:
        return sum(memory_of(model) for model in self._loaded.values())

    def _used_at(self, where: Place) -> float:
        usage: ModelUsage | None = self._usage.get(where.model)
        return usage.last_used_at if usage is not None else 0.0

    def _since(self, where: Place) -> float:
        # Never seen before: it may have come this moment.
        return self._snapshot.sightings.loaded_since.get(where, self._snapshot.now)


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
