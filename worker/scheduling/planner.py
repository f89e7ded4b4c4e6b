"""The worker's planner: from a view of the queue to facts, from facts by the policy to a plan."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from shared.queue.fleet import Capacity
from shared.queue.lines import EMBEDDINGS, TEXTS, model_in, unit_in
from shared.queue.plans import Plan, View
from shared.queue.sightings import Sighting, read_sighting
from worker.hosts import Hosts
from worker.scheduling.facts import HostFacts, Swap
from worker.scheduling.policy import Decision, Knobs, decide

VIEW_S = 0.3
"""How old a view may get while there is work."""
IDLE_VIEW_S = 10.0
KNOWN_LINES = 64
LEAST_PAUSE_S = 0.005
FRESH_S = 0.05
BLIND_S = 120.0
LONGEST_LOAD_S = 60.0
"""What has been called for that long counts as in memory, though nobody sees it there: the calls to it would else look
like a load without end, for which others wait."""
MANNERS = (TEXTS, EMBEDDINGS)


class ModelPlanner:
    """Implements `shared.queue.plans.Planner`."""

    def __init__(
        self,
        hosts: Hosts,
        knobs: Knobs,
        *,
        max_loaded: int = 0,
        is_open: Callable[[str], bool] = lambda host: False,
        weights: Callable[[str], Mapping[str, float]] = lambda host: {},
        on_sightings: Callable[[Mapping[str, Sighting]], None] = lambda sightings: None,
        unlisted: Callable[[str], Collection[str]] = lambda host: (),
    ) -> None:
        """`max_loaded`: models a host's memory holds at most, 0 if not known. `is_open`: whether a host's circuit is
        open. `weights`: relative time of each model's calls on a host. `on_sightings` hears what was seen on the hosts.
        `unlisted`: models that a host serves without listing them in its memory.
        """
        self._hosts = hosts
        self._knobs = knobs
        self._max_loaded = max_loaded
        self._is_open = is_open
        self._weights = weights
        self._on_sightings = on_sightings
        self._unlisted = unlisted
        self._lines: dict[str, None] = {}
        """Lines seen of late, the latest last."""
        self._called_since: dict[tuple[str, str], int] = {}
        """By host and unit, what is called there and was not seen in memory; ms, Redis' clock."""
        self._facts_of: dict[str, HostFacts] = {}
        """The hosts as of the latest view."""
        self._began_at = time.monotonic()
        self._seen_at = float("-inf")
        self._changes_at = float("inf")
        self._busy = False
        self._warm = self._whole = self._sent = b""
        self._pack(Decision(dict.fromkeys(hosts.names(), knobs.host_calls), [], float("inf")), {})

    @property
    def is_busy(self) -> bool:
        """Whether jobs wait or run, as last seen."""
        return self._busy

    def packed(self) -> bytes:
        """To load a model is decided on a fresh view only: an older one may miss who came for the models there."""
        self._sent = self._whole if self._is_fresh else self._warm
        return self._sent

    @property
    def _is_fresh(self) -> bool:
        return time.monotonic() - self._seen_at < FRESH_S

    def wants_view(self) -> bool:
        now = time.monotonic()
        return now >= self._changes_at or now - self._seen_at > (VIEW_S if self._busy else IDLE_VIEW_S)

    def must_look(self) -> bool:
        return self._whole != self._warm and not self._is_fresh

    def see(self, view: View) -> bool:
        self._seen_at = time.monotonic()
        self._busy = bool(view.lines or view.calls)
        for line in view.lines:
            self._lines.pop(line.name, None)
            self._lines[line.name] = None
        while len(self._lines) > KNOWN_LINES:
            del self._lines[next(iter(self._lines))]
        decision = self._decide(view)
        self._changes_at = self._seen_at + (decision.changes_ms - view.now_ms) / 1000
        self._pack(decision, view.tenures)
        return self._whole != self._sent

    def pause_s(self) -> float:
        return max(LEAST_PAUSE_S, self._changes_at - time.monotonic())

    def swap(self, host: str, unit: str) -> Swap:
        """What a call of the unit would make the host do, as last seen; none where models in memory do not matter."""
        facts = self._facts_of.get(host) if self._knobs.by_affinity else None
        return facts.swap(unit) if facts else Swap.NONE

    def _pack(self, decision: Decision, tenures: dict[str, int]) -> None:
        self._whole = self._warm = Plan(decision.hosts, decision.rows, tenures).packed()
        if any(place.is_cold for row in decision.rows for place in row.places):
            warm = [replace(row, places=[p for p in row.places if not p.is_cold]) for row in decision.rows]
            kept = [now for row, now in zip(decision.rows, warm, strict=True) if now.places or not row.places]
            self._warm = Plan(decision.hosts, kept, tenures).packed()

    def _decide(self, view: View) -> Decision:
        seen = {host: sighting for host, raw in view.hosts.items() if (sighting := read_sighting(raw)) is not None}
        self._on_sightings(seen)
        calls: dict[str, dict[str, int]] = {}
        for slot, under_way in view.calls.items():
            host, bar, unit = slot.partition("|")
            if bar:
                calls.setdefault(host, {})[unit] = under_way
        units = {unit_in(line) for line in self._lines} | {unit for by_unit in calls.values() for unit in by_unit}
        resident = {
            host: self._resident(host, seen.get(host), units, calls, view.now_ms) for host in self._hosts.names()
        }
        self._add_unseen(resident, calls, view.now_ms)
        facts = [
            self._facts(host, seen.get(host), resident[host], calls.get(host, {}), units, view.now_ms)
            for host in self._hosts.names()
        ]
        self._facts_of = {host.name: host for host in facts}
        # What is in memory may start although its line is too far behind to have been seen.
        there = sorted({unit for host in facts for unit in host.units})
        known = [*self._lines, *(manner + unit for unit in there for manner in MANNERS)]
        return decide(view.lines, known, facts, view.now_ms, self._knobs)

    def _resident(
        self,
        host: str,
        seen: Sighting | None,
        units: Collection[str],
        calls: Mapping[str, Collection[str]],
        now_ms: int,
    ) -> dict[str, int]:
        there = residents(seen, units, calls.get(host, ()), now_ms) if seen else {}
        unlisted = self._unlisted(host)
        return there | {unit: 0 for unit in units if model_in(unit) in unlisted}

    def _add_unseen(
        self, resident: dict[str, dict[str, int]], calls: Mapping[str, Mapping[str, int]], now_ms: int
    ) -> None:
        """Add to `resident` what has been called for longer than any load takes."""
        self._called_since = {
            (host, unit): self._called_since.get((host, unit), now_ms)
            for host, there in resident.items()
            for unit in calls.get(host, ())
            if unit not in there
        }
        for (host, unit), since_ms in self._called_since.items():
            if now_ms - since_ms > LONGEST_LOAD_S * 1000:
                resident[host][unit] = since_ms

    def _facts(
        self,
        host: str,
        seen: Sighting | None,
        resident: Mapping[str, int],
        calls: Mapping[str, int],
        units: Iterable[str],
        now_ms: int,
    ) -> HostFacts:
        is_open = self._is_open(host)
        room = seen.room if seen else 0
        speeds = self._weights(host)
        return HostFacts(
            name=host,
            service=self._hosts.service_of(host).name,
            resident=resident,
            models=len(seen.residents) if seen else 0,
            calls=calls,
            room=min(filter(None, (room, self._max_loaded)), default=0),
            weights={unit: speeds[model] for unit in units if (model := model_in(unit)) in speeds},
            shunned={unit for unit in units if is_open or self._hosts.lacks(host, model_in(unit))},
            has_all=not self._hosts.loads_models(host) or self._is_blind(seen, now_ms),
        )

    def _is_blind(self, seen: Sighting | None, now_ms: int) -> bool:
        """Whether nobody could look into the host for long: then nothing is known of its memory, and nothing held
        back for its sake."""
        if seen is None:
            return time.monotonic() - self._began_at > BLIND_S
        return now_ms / 1000 - seen.at > BLIND_S


def capacity_of(knobs: Knobs, hosts: Sequence[str], *, max_loaded: int = 0) -> Capacity:
    """What the knobs let each host have, for whoever tells clients how long they will wait. `max_loaded` as above."""
    return Capacity(
        hosts=list(hosts), host_calls=knobs.host_calls, unit_calls=knobs.unit_calls,
        embedding_calls=knobs.embedding_calls, reserved=knobs.reserved, batch=knobs.batch,
        max_loaded=max_loaded,
        patience_s={priority.value: seconds for priority, seconds in knobs.patience_s.items()},
    )  # fmt: skip


def residents(seen: Sighting, units: Iterable[str], calls: Collection[str], now_ms: int) -> dict[str, int]:
    """What is in a host's memory, since when (ms): each unit that a model there can be used as. A host may give a model
    less context than a job asked for; then it is there as what is called.
    """
    by_model: dict[str, list[str]] = {}
    for unit in units:
        by_model.setdefault(model_in(unit), []).append(unit)
    found: dict[str, int] = {}
    for resident in seen.residents:
        # What stays beyond its time goes by another clock than ours.
        if seen.at < resident.until <= now_ms / 1000:
            continue  # nobody used it, and it has left since
        used_as = [
            unit
            for unit in by_model.get(resident.model, ())
            if unit in calls or unit.partition("#")[2] in ("", str(resident.context))
        ]
        found |= dict.fromkeys(used_as or [resident.model], int(resident.since * 1000))
    return found
