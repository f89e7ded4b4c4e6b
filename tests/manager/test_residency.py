"""Which models leave memory and which come, case by case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from manager.inventory import HostInventory
from manager.residency import Action, ResidencyPolicy, Unload, decide
from manager.snapshot import Busy, Place, Sightings, Snapshot
from shared.backends.base import LoadedModel, ModelInfo
from shared.usage.figures import ModelUsage, OperationUsage

GB = 10**9
NOW = 1_000_000.0
LONG_AGO = NOW - 3600.0
POLICY = ResidencyPolicy(threshold=0.8, idle_s=300.0)


def host(name: str = "a:1", installed: Mapping[str, float] | None = None, **loaded: float) -> HostInventory:
    """Sizes in GB; what is loaded is installed too."""
    disk = {**loaded, **(installed or {})}
    return HostInventory(
        host=name,
        installed=[ModelInfo(name=model, size_bytes=int(size * GB)) for model, size in disk.items()],
        loaded=[LoadedModel(name=model, size_bytes=int(size * GB)) for model, size in loaded.items()],
    )


def used(model: str, ago_s: float, calls: int = 1, at: str = "a:1") -> ModelUsage:
    return ModelUsage(model=model, host=at, operations={"chat": OperationUsage(calls=calls)}, last_used_at=NOW - ago_s)


def seen(*hosts: HostInventory, since: float = LONG_AGO) -> Sightings:
    return Sightings().after(hosts, since)


def acts(actions: Sequence[Action]) -> list[str]:
    """Short, e.g. `-m idle`, `+m preload`."""
    return [f"{'-' if isinstance(act, Unload) else '+'}{act.model} {act.reason}" for act in actions]


FULL = host(a=4, b=4, c=4)
ALL_USED = (used("a", 200), used("b", 100), used("c", 50))


@pytest.mark.parametrize(
    ("snapshot", "policy", "expected"),
    [
        pytest.param(Snapshot(now=NOW, hosts=[FULL], usage=ALL_USED), {}, [], id="nothing idle, no limit"),
        pytest.param(
            Snapshot(now=NOW, hosts=[FULL], usage=ALL_USED, limits={"a:1": 16 * GB}), {}, [], id="within the threshold"
        ),
        pytest.param(
            Snapshot(now=NOW, hosts=[FULL], usage=ALL_USED, limits={"a:1": 12 * GB}),
            {},
            ["-a memory"],
            id="least recently used first",
        ),
        pytest.param(
            Snapshot(
                now=NOW,
                hosts=[FULL],
                usage=[used("a", 50, 9), used("b", 50, 1), used("c", 50, 5)],
                limits={"a:1": 6 * GB},
            ),
            {},
            ["-b memory", "-c memory"],
            id="then the least used, until it fits",
        ),
        pytest.param(
            Snapshot(now=NOW, hosts=[host(a=1, b=4)], usage=[used("a", 9), used("b", 9)], limits={"a:1": 6 * GB}),
            {},
            ["-b memory"],
            id="then the largest",
        ),
        pytest.param(
            Snapshot(
                now=NOW,
                hosts=[FULL],
                usage=ALL_USED,
                limits={"a:1": 6 * GB},
                busy=Busy(unfinished={"a": 1}, calls={("b", "a:1"): 1}),
            ),
            {},
            ["-c memory"],
            id="never a busy one, even if it stays too full",
        ),
        pytest.param(
            Snapshot(
                now=NOW, hosts=[FULL], usage=ALL_USED, limits={"a:1": 6 * GB}, busy=Busy(calls={("a", "other:1"): 1})
            ),
            {},
            ["-a memory", "-b memory"],
            id="a call on another host does not matter",
        ),
        pytest.param(
            Snapshot(now=NOW, hosts=[FULL], usage=ALL_USED, limits={"a:1": 1 * GB}, pins={"A:latest", "b"}),
            {},
            ["-c memory"],
            id="never a pinned one, however it is spelled",
        ),
        pytest.param(
            Snapshot(now=NOW, hosts=[FULL], usage=ALL_USED, limits={"a:1": 1 * GB}, loading={Place("c", "a:1")}),
            {},
            ["-a memory", "-b memory"],
            id="never one that is being loaded",
        ),
        pytest.param(
            Snapshot(now=NOW, hosts=[host(a=4, b=4)], loading={Place("a", "a:1")}),
            {},
            ["-b idle"],
            id="one that is being loaded is not idle",
        ),
        pytest.param(
            Snapshot(now=NOW, hosts=[FULL], usage=ALL_USED, limits={"a:1": 6 * GB}),
            {"preload": ["a"]},
            ["-b memory", "-c memory"],
            id="the preload list goes last",
        ),
        pytest.param(
            Snapshot(now=NOW, hosts=[FULL], usage=ALL_USED, limits={"a:1": 6 * GB}),
            {"preload": ["c", "b", "a"]},
            ["-a memory", "-b memory"],
            id="of the list the last named goes first",
        ),
        pytest.param(
            Snapshot(now=NOW, hosts=[host(a=4, b=4)], usage=[used("a", 300), used("b", 299)]),
            {},
            ["-a idle"],
            id="idle",
        ),
        pytest.param(Snapshot(now=NOW, hosts=[host(a=4)]), {}, ["-a idle"], id="never used since it was loaded"),
        pytest.param(
            Snapshot(now=NOW, hosts=[host(a=4)], usage=[used("a", 5, at="b:1")]), {}, ["-a idle"], id="used elsewhere"
        ),
        pytest.param(
            Snapshot(now=NOW, hosts=[host(a=4)], busy=Busy(unfinished={"a": 1})), {}, [], id="idle, but a job waits"
        ),
        pytest.param(Snapshot(now=NOW, hosts=[host(a=4)]), {"preload": ["A"]}, [], id="idle, but on the preload list"),
        pytest.param(
            Snapshot(now=NOW, hosts=[host(a=4, b=4)], usage=[used("b", 5)], limits={"a:1": 6 * GB}),
            {},
            ["-a idle"],
            id="what goes for idleness makes room",
        ),
        pytest.param(
            Snapshot(now=NOW, hosts=[replace(FULL, error="no answer within 5 s")], limits={"a:1": 1}),
            {"preload": ["x"]},
            [],
            id="a host that does not answer is left alone",
        ),
        pytest.param(
            Snapshot(now=NOW, hosts=[host(installed={"p": 4}), host("b:1", {"P:latest": 4}), host("c:1")]),
            {"preload": ["p", "q"]},
            ["+p preload", "+P:latest preload"],
            id="preloaded wherever it is installed",
        ),
        pytest.param(
            Snapshot(now=NOW, hosts=[host(installed={"p": 4, "q": 4, "r": 1})], limits={"a:1": 10 * GB}),
            {"preload": ["p", "q", "r"]},
            ["+p preload", "+r preload"],
            id="preloaded in order, what fits",
        ),
        pytest.param(
            Snapshot(now=NOW, hosts=[host(installed={"p": 4}, a=5)], usage=[used("a", 5)], limits={"a:1": 10 * GB}),
            {"preload": ["p"]},
            [],
            id="a preload drives nobody out",
        ),
        pytest.param(
            Snapshot(now=NOW, hosts=[host(installed={"p": 4}, a=5)], limits={"a:1": 10 * GB}),
            {"preload": ["p"]},
            ["-a idle", "+p preload"],
            id="but takes the place of an idle one",
        ),
        pytest.param(
            Snapshot(
                now=NOW,
                hosts=[host(installed={"p": 4, "q": 4})],
                limits={"a:1": 10 * GB},
                loading={Place("p", "a:1")},
            ),
            {"preload": ["p", "q"]},
            [],
            id="what is coming takes its room already",
        ),
    ],
)
@pytest.mark.req("S1-31", "S1-32", "S1-42", "S1-84", "S1-85", "S1-86", "S1-87")
def test_decisions(snapshot: Snapshot, policy: dict[str, Any], expected: list[str]) -> None:
    whole = replace(snapshot, sightings=seen(*snapshot.hosts))
    assert acts(decide(whole, replace(POLICY, **policy))) == expected


def test_a_model_that_has_just_come_is_not_driven_out() -> None:
    young = host(a=4, b=4)
    before = seen(host(a=4))
    snapshot = Snapshot(
        now=NOW,
        hosts=[young],
        usage=[used("a", 9), used("b", 100)],
        limits={"a:1": 6 * GB},
        sightings=before.after([young], NOW - 59.0),
    )
    assert acts(decide(snapshot, POLICY)) == ["-a memory"]
    assert acts(decide(replace(snapshot, now=NOW + 1.0), POLICY)) == ["-b memory"]
    # Who has just become the leader knows of none how long it has been there.
    assert decide(replace(snapshot, sightings=Sightings()), POLICY) == []


def test_what_was_driven_out_does_not_come_back_at_once() -> None:
    policy = replace(POLICY, preload=["p"])
    full, left = host(a=4, p=4), host(installed={"p": 4}, a=4)
    sightings = seen(full).after([left], NOW - 30.0)
    snapshot = Snapshot(now=NOW, hosts=[left], usage=[used("a", 9)], limits={"a:1": 100 * GB}, sightings=sightings)
    assert decide(snapshot, policy) == []
    later = replace(snapshot, now=NOW + 31.0)
    assert acts(decide(later, policy)) == ["+p preload"]
    unlimited = replace(later, limits={})
    assert decide(unlimited, policy) == [], "its server may have evicted it"
    assert acts(decide(replace(unlimited, now=NOW + 600.0, usage=[used("a", -590)]), policy)) == ["+p preload"]


def test_a_model_is_reckoned_with_what_it_took_last_time() -> None:
    policy = replace(POLICY, preload=["p"])
    here = host(installed={"p": 4})
    sightings = replace(seen(here), sizes={"p": 9 * GB})
    snapshot = Snapshot(now=NOW, hosts=[here], limits={"a:1": 10 * GB}, sightings=sightings)
    assert decide(snapshot, policy) == []
    assert acts(decide(replace(snapshot, sightings=seen(here)), policy)) == ["+p preload"]


def test_a_silent_host_is_remembered_as_it_was() -> None:
    was = seen(host(a=4))
    silent = HostInventory(host="a:1", error="connection refused")
    assert was.after([silent], NOW) == was
    gone = was.after([host()], NOW)
    assert (gone.loaded_since, gone.gone_at, gone.sizes) == ({}, {Place("a", "a:1"): NOW}, {"a": 4 * GB})
    back = gone.after([host(a=5)], NOW + 1)
    assert (back.loaded_since, back.gone_at, back.sizes) == ({Place("a", "a:1"): NOW + 1}, {}, {"a": 5 * GB})
    assert gone.after([host()], NOW + 7200).gone_at == {}
