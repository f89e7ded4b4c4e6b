"""Random traces of hosts, calls, jobs and pins: what the manager does never costs anybody a model that is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manager.inventory import HostInventory
from manager.residency import Action, Load, ResidencyPolicy, Unload, decide
from manager.snapshot import LOADED_PER_INSTALLED, Busy, Place, Sightings, Snapshot, place
from shared.backends.base import LoadedModel, ModelInfo
from shared.usage.figures import ModelUsage, OperationUsage

GB = 10**9
NOW = 1_000_000.0
POLICY = ResidencyPolicy(threshold=0.8, idle_s=300.0)

MODELS = ("m0", "m1", "m2", "m3", "m4")
HOSTS = ("a:1", "b:1")
SIZES = {"m0": 1, "m1": 2, "m2": 3, "m3": 5, "m4": 8}
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("sleep"), st.sampled_from((1.0, 30.0, 61.0, 301.0)), st.just("")),
        st.tuples(st.just("call"), st.sampled_from(MODELS), st.sampled_from(HOSTS)),
        st.tuples(st.just("hang up"), st.sampled_from(MODELS), st.sampled_from(HOSTS)),
        st.tuples(st.just("wait"), st.sampled_from(MODELS), st.just("")),
        st.tuples(st.just("serve"), st.sampled_from(MODELS), st.just("")),
        st.tuples(st.just("pin"), st.sampled_from(MODELS), st.just("")),
        st.tuples(st.just("unpin"), st.sampled_from(MODELS), st.just("")),
        st.tuples(st.just("order"), st.sampled_from(MODELS), st.sampled_from(HOSTS)),
        st.tuples(st.just("silence"), st.just(""), st.sampled_from(HOSTS)),
        st.tuples(st.just("speak"), st.just(""), st.sampled_from(HOSTS)),
    ),
    max_size=25,
)


class World:
    """Two hosts, what happens to them, and a manager that looks at them after each event."""

    def __init__(
        self,
        policy: ResidencyPolicy,
        limits: Mapping[str, int],
        bloat: float,
        loaded: Mapping[str, AbstractSet[str]],
        pins: AbstractSet[str],
    ) -> None:
        self.policy = policy
        self.limits = limits
        self.bloat = bloat
        """How much more memory a model takes than its size on disk says."""
        self.now = NOW
        self.loaded = {name: set(models) for name, models in loaded.items()}
        self.silent: set[str] = set()
        self.calls: set[tuple[str, str]] = set()
        self.waiting: set[str] = set()
        self.pins = set(pins)
        self.ordered: set[Place] = set()
        """Models that an operation is bringing; it is done before the next event."""
        self.used_at: dict[tuple[str, str], float] = {}
        self.sightings = Sightings()

    def happen(self, event: str, what: str | float, where: str) -> None:
        match event:
            case "sleep":
                self.now += float(what)
            case "call":
                self.loaded[where].add(str(what))
                self.calls.add((str(what), where))
            case "hang up" if (str(what), where) in self.calls:
                self.calls.discard((str(what), where))
                self.used_at[str(what), where] = self.now
            case "wait":
                self.waiting.add(str(what))
            case "serve":
                self.waiting.discard(str(what))
            case "pin":
                self.pins.add(str(what))
            case "unpin":
                self.pins.discard(str(what))
            case "order":
                self.ordered.add(place(str(what), where))
            case "silence":
                self.silent.add(where)
            case "speak":
                self.silent.discard(where)

    def look(self) -> Snapshot:
        hosts = [
            HostInventory(
                host=name,
                error="no answer" if name in self.silent else "",
                installed=[ModelInfo(name=m, size_bytes=SIZES[m] * GB) for m in MODELS],
                loaded=[LoadedModel(name=m, size_bytes=self.memory(m)) for m in sorted(self.loaded[name])],
            )
            for name in HOSTS
        ]
        self.sightings = self.sightings.after(hosts, self.now)
        return Snapshot(
            now=self.now,
            hosts=hosts,
            usage=[
                ModelUsage(model=m, host=h, operations={"chat": OperationUsage(calls=1)}, last_used_at=at)
                for (m, h), at in self.used_at.items()
            ],
            busy=Busy(unfinished=dict.fromkeys(self.waiting, 1), calls=dict.fromkeys(self.calls, 1)),
            pins=frozenset(self.pins),
            limits=self.limits,
            loading=frozenset(self.ordered),
            sightings=self.sightings,
        )

    def memory(self, model: str) -> int:
        return int(SIZES[model] * GB * self.bloat)

    def apply(self, actions: Sequence[Action]) -> None:
        for act in actions:
            if isinstance(act, Load):
                assert act.model not in self.loaded[act.host]
                self.loaded[act.host].add(act.model)
            else:
                self.loaded[act.host].remove(act.model)

    def may_go(self, model: str, where: str) -> bool:
        needed = model in self.pins or model in self.waiting or (model, where) in self.calls
        return not needed and place(model, where) not in self.ordered

    def is_young(self, model: str, where: str) -> bool:
        return self.now - self.sightings.loaded_since[place(model, where)] < self.policy.min_resident_s

    def check(self, snapshot: Snapshot, actions: Sequence[Action]) -> None:
        for act in actions:
            assert act.host not in self.silent
            if isinstance(act, Load):
                assert place(act.model, act.host) not in self.ordered, act
            else:
                assert self.may_go(act.model, act.host), act
                assert act.reason == "idle" or not self.is_young(act.model, act.host), act

    def check_memory(self) -> None:
        """Too full only with what had to stay."""
        for name, limit in self.limits.items():
            over = sum(map(self.memory, self.loaded[name])) > limit * self.policy.threshold
            if over and name not in self.silent:
                for model in self.loaded[name]:
                    assert self.is_young(model, name) or not self.may_go(model, name), model


@settings(max_examples=150, deadline=None)
@given(
    events=EVENTS,
    preload=st.lists(st.sampled_from(MODELS), unique=True, max_size=3),
    limit=st.sampled_from((0, 4, 10, 16)),
    bloat=st.sampled_from((1.0, LOADED_PER_INSTALLED, 1.7)),
    loaded=st.fixed_dictionaries({name: st.frozensets(st.sampled_from(MODELS)) for name in HOSTS}),
    pins=st.frozensets(st.sampled_from(MODELS)),
)
@pytest.mark.req("S1-32", "S1-42")
def test_no_trace_costs_a_busy_or_pinned_model(
    events: list[tuple[str, str | float, str]],
    preload: list[str],
    limit: int,
    bloat: float,
    loaded: dict[str, frozenset[str]],
    pins: frozenset[str],
) -> None:
    policy = replace(POLICY, preload=preload)
    limits = dict.fromkeys(HOSTS, limit * GB) if limit else {}
    world = World(policy, limits, bloat, loaded, pins)
    world.look()
    for event in events:
        for done in world.ordered:
            world.loaded[done.host].add(done.model)
        world.ordered.clear()
        world.happen(*event)
        snapshot = world.look()
        actions = decide(snapshot, policy)
        world.check(snapshot, actions)
        world.apply([act for act in actions if isinstance(act, Unload)])
        world.check_memory()
        world.apply([act for act in actions if isinstance(act, Load)])
        if bloat == LOADED_PER_INSTALLED:  # what a load takes was foreseen
            assert decide(world.look(), policy) == [], "all was done in one round"
    world.silent.clear()
    world.ordered.clear()
    quiet = 0
    for _ in range(25):  # nothing happens any more: the manager comes to rest
        world.now += 61.0
        actions = decide(world.look(), policy)
        world.check(world.look(), actions)
        world.apply(actions)
        quiet = 0 if actions else quiet + 1
    assert quiet >= 10
