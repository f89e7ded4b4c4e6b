"""Which installed models may be deleted. Pure: the plan that a dry run shows is the plan that is carried out.

A model is deleted from a host when nobody has used it, on any host, for `unused_s`. Time counts from its last use, its
installation or the beginning of the records, whichever is latest: a Redis that came back empty proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from manager.inventory import HostInventory
from manager.snapshot import Place, Snapshot, place
from shared.backends.base import ModelInfo
from shared.model_names import is_allowed, same


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanupPolicy:
    """`wanted`: models that a setting names, by that setting. Time in seconds.

    `allowed` is ALLOWED_MODELS: what it names is wanted too, but an empty one, which allows all models, names none.
    """

    unused_s: float = 30 * 86_400.0
    allowed: Collection[str] = ()
    wanted: Sequence[tuple[str, Collection[str]]] = ()


@dataclass(frozen=True, slots=True)
class Removal:
    """A model to delete. Ask again whether it is busy right before."""

    model: str
    host: str
    size_bytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class Kept:
    """A model that stays, and why."""

    model: str
    host: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanupPlan:
    """`freed_bytes` counts weights once that go with the last of the names they have on a host."""

    remove: tuple[Removal, ...] = ()
    kept: tuple[Kept, ...] = ()
    freed_bytes: int = 0


def plan_cleanup(snapshot: Snapshot, policy: CleanupPolicy, *, recorded_since: float | None) -> CleanupPlan:
    """What may go. `recorded_since`: `UsageReader.since()`. Hosts that do not answer are not in the plan."""
    rules = _rules(snapshot, policy, recorded_since)
    remove: list[Removal] = []
    kept: list[Kept] = []
    freed = 0
    for host in snapshot.hosts:
        going: list[ModelInfo] = []
        for model in () if host.error else host.installed:
            where = place(model.name, host.host)
            why = next(filter(None, (rule(where, model, host) for rule in rules)), "")
            if why:
                kept.append(Kept(model.name, host.host, why))
            else:
                going.append(model)
                idle_s = snapshot.now - _unused_since(where, model, snapshot, recorded_since or snapshot.now)
                remove.append(Removal(model.name, host.host, model.size_bytes, f"unused for {_days(idle_s)}"))
        freed += _freed(going, host)
    return CleanupPlan(remove=tuple(remove), kept=tuple(kept), freed_bytes=freed)


Rule = Callable[[Place, ModelInfo, HostInventory], str]
"""Why a model stays; empty: this rule does not keep it."""


def _rules(snapshot: Snapshot, policy: CleanupPolicy, recorded_since: float | None) -> Sequence[Rule]:
    """The first that applies is the reason that is given."""
    pins = {same(model) for model in snapshot.pins}
    wanted = {same(model): why for why, models in reversed(policy.wanted) for model in models}

    def named(model: str) -> bool:
        return bool(policy.allowed) and is_allowed(model, policy.allowed)

    def unused(where: Place, model: ModelInfo, _: HostInventory) -> str:
        if recorded_since is None:
            return "no use has been recorded yet"
        since = _unused_since(where, model, snapshot, recorded_since)
        idle_s = max(0.0, snapshot.now - since)
        return "" if idle_s >= policy.unused_s else f"unused for {_days(idle_s)} only"

    return (
        lambda where, *_: "pinned" if where.model in pins else "",
        lambda where, *_: f"named by {wanted[where.model]}" if where.model in wanted else "",
        lambda where, *_: "named by ALLOWED_MODELS" if named(where.model) else "",
        lambda where, *_: "busy" if snapshot.busy.is_busy(where) else "",
        lambda where, *_: "an operation is at work on it" if where in snapshot.loading else "",
        lambda where, _, host: "loaded" if where in {place(m.name, host.host) for m in host.loaded} else "",
        lambda _, model, __: "its age is not known" if _installed_at(model) is None else "",
        unused,
    )


def _unused_since(where: Place, model: ModelInfo, snapshot: Snapshot, recorded_since: float) -> float:
    uses = [usage.last_used_at for usage in snapshot.usage if usage.model == where.model]
    return max(recorded_since, _installed_at(model) or snapshot.now, *uses)


def _installed_at(model: ModelInfo) -> float | None:
    """Unix seconds from the server's RFC 3339 text; a time without a zone is nobody's."""
    try:
        at = datetime.fromisoformat(model.modified_at)
    except ValueError:
        return None
    return at.timestamp() if at.tzinfo is not None else None


def _freed(going: Sequence[ModelInfo], host: HostInventory) -> int:
    gone = {model.name for model in going}
    # Several names may stand for the same weights: they go with the last name.
    held = {model.digest for model in host.installed if model.digest and model.name not in gone}
    sizes = {model.digest or model.name: model.size_bytes for model in going if model.digest not in held}
    return sum(sizes.values())


def _days(seconds: float) -> str:
    return f"{seconds / 86_400:.1f} days"
