"""Which installed models may be deleted, and what is said of the others."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manager.cleanup import CleanupPolicy, Kept, Removal, plan_cleanup
from manager.inventory import HostInventory
from manager.snapshot import Busy, Place, Snapshot
from shared.backends.base import LoadedModel, ModelInfo
from shared.usage.figures import ModelUsage

DAY = 86_400.0
NOW = datetime(2026, 11, 21, tzinfo=UTC).timestamp()
SINCE = NOW - 300 * DAY
POLICY = CleanupPolicy(unused_s=30 * DAY)


def at(days_ago: float) -> str:
    """As Ollama writes it: with a zone of its own, and nanoseconds."""
    there = datetime.fromtimestamp(NOW - days_ago * DAY, tz=timezone(timedelta(hours=2)))
    return there.strftime("%Y-%m-%dT%H:%M:%S") + ".123456789+02:00"


def info(name: str, days_ago: float = 200, size: int = 10, digest: str = "") -> ModelInfo:
    return ModelInfo(name=name, size_bytes=size, modified_at=at(days_ago), digest=digest)


def snapshot(*models: ModelInfo, **fields: object) -> Snapshot:
    base = Snapshot(now=NOW, hosts=[HostInventory(host="a:1", installed=models)])
    return replace(base, **fields)  # type: ignore[arg-type]  # fields of a Snapshot


def used(model: str, days_ago: float, host: str = "a:1") -> ModelUsage:
    return ModelUsage(model=model, host=host, last_used_at=NOW - days_ago * DAY)


@pytest.mark.parametrize(
    ("state", "policy", "why"),
    [
        (snapshot(info("Old:latest")), {}, ""),
        (snapshot(info("Old:latest"), usage=[used("old", 31)]), {}, ""),
        (snapshot(info("Old:latest"), usage=[used("old", 29)]), {}, "unused for 29.0 days only"),
        (
            snapshot(info("Old:latest"), usage=[used("old", 90), used("old", 1, "b:1")]),
            {},
            "unused for 1.0 days only",
        ),
        (snapshot(info("Old:latest", days_ago=5)), {}, "unused for 5.0 days only"),
        (snapshot(ModelInfo(name="Old:latest", modified_at="")), {}, "its age is not known"),
        (snapshot(ModelInfo(name="Old:latest", modified_at="2020-01-01T00:00:00")), {}, "its age is not known"),
        (snapshot(info("Old:latest"), pins={"OLD"}), {}, "pinned"),
        (snapshot(info("Old:latest"), busy=Busy(unfinished={"old": 1})), {}, "busy"),
        (snapshot(info("Old:latest"), busy=Busy(calls={("old", "a:1"): 1})), {}, "busy"),
        (snapshot(info("Old:latest"), loading={Place("old", "a:1")}), {}, "an operation is at work on it"),
        (
            snapshot(
                hosts=[HostInventory(host="a:1", installed=[info("Old:latest")], loaded=[LoadedModel(name="old")])]
            ),
            {},
            "loaded",
        ),
        (snapshot(info("Old:latest")), {"allowed": ["old"]}, "named by ALLOWED_MODELS"),
        (snapshot(info("Old:latest")), {"allowed": ["o*"]}, "named by ALLOWED_MODELS"),
        (snapshot(info("Old:latest")), {"allowed": ["new"]}, ""),
        (
            snapshot(info("Old:latest")),
            {"wanted": (("MODEL_PRELOAD_LIST", ["old"]), ("FALLBACK_MODELS", ["old"]))},
            "named by MODEL_PRELOAD_LIST",
        ),
    ],
)
@pytest.mark.req("S1-40", "S1-42")
def test_who_stays_and_why(state: Snapshot, policy: dict[str, object], why: str) -> None:
    plan = plan_cleanup(state, replace(POLICY, **policy), recorded_since=SINCE)  # type: ignore[arg-type]  # its fields
    if why:
        assert (plan.kept, plan.remove, plan.freed_bytes) == ((Kept("Old:latest", "a:1", why),), (), 0)
    else:
        [removal] = plan.remove
        assert (removal.model, removal.host, removal.size_bytes) == ("Old:latest", "a:1", 10)
        assert removal.reason.startswith("unused for ")
        assert (plan.kept, plan.freed_bytes) == ((), 10)


@pytest.mark.parametrize(("since", "kept"), [(None, True), (NOW - 29 * DAY, True), (NOW - 31 * DAY, False)])
def test_no_use_proves_nothing_before_recording_began(since: float | None, kept: bool) -> None:
    plan = plan_cleanup(snapshot(info("old")), POLICY, recorded_since=since)
    assert (bool(plan.kept), bool(plan.remove)) == (kept, not kept)


def test_what_names_share_is_freed_with_the_last_of_them() -> None:
    state = snapshot(
        info("a", digest="x"), info("b", digest="x"), info("c", digest="y", size=5), info("d", digest="y", size=5)
    )
    plan = plan_cleanup(state, replace(POLICY, allowed=["d"]), recorded_since=SINCE)
    assert [removal.model for removal in plan.remove] == ["a", "b", "c"]
    assert plan.freed_bytes == 10


def test_a_host_that_does_not_answer_is_not_in_the_plan() -> None:
    silent = HostInventory(host="b:1", error="connection refused", installed=[info("old")])
    plan = plan_cleanup(snapshot(hosts=[silent]), POLICY, recorded_since=SINCE)
    assert (plan.remove, plan.kept) == ((), ())


NAMES = ("m0", "m1", "m2", "m3")
SOME = st.frozensets(st.sampled_from(NAMES))


@given(
    ages=st.lists(st.floats(0, 100), min_size=4, max_size=4),
    uses=st.dictionaries(st.sampled_from(NAMES), st.floats(0, 100)),
    pins=SOME, waiting=SOME, calling=SOME, loaded=SOME, loading=SOME, wanted=SOME, allowed=SOME,
)  # fmt: skip
@pytest.mark.req("S1-40")
def test_no_plan_deletes_what_anybody_needs(
    ages: list[float], uses: dict[str, float], pins: frozenset[str], waiting: frozenset[str], calling: frozenset[str],
    loaded: frozenset[str], loading: frozenset[str], wanted: frozenset[str], allowed: frozenset[str],
) -> None:  # fmt: skip
    host = HostInventory(
        host="a:1",
        installed=[info(name, age) for name, age in zip(NAMES, ages, strict=True)],
        loaded=[LoadedModel(name=name) for name in sorted(loaded)],
    )
    state = Snapshot(
        now=NOW,
        hosts=[host],
        usage=[used(name, ago) for name, ago in uses.items()],
        busy=Busy(unfinished=dict.fromkeys(waiting, 1), calls=dict.fromkeys([(name, "a:1") for name in calling], 1)),
        pins=pins,
        loading=frozenset(Place(name, "a:1") for name in loading),
    )
    policy = replace(POLICY, allowed=sorted(allowed), wanted=(("FALLBACK_MODELS", wanted),))
    plan = plan_cleanup(state, policy, recorded_since=SINCE)
    gone = {removal.model for removal in plan.remove}
    assert not gone & (pins | waiting | calling | loaded | loading | wanted | allowed)
    assert all(uses.get(name, 100.0) >= 29.9 for name in gone)
    assert {kept.model for kept in plan.kept} | gone == set(NAMES)
    assert plan.freed_bytes == 10 * len(gone)
    # Once it is done there is nothing left to do.
    rest = [model for model in host.installed if model.name not in gone]
    after = plan_cleanup(replace(state, hosts=[replace(host, installed=rest)]), policy, recorded_since=SINCE)
    assert (after.remove, after.kept) == ((), plan.kept)


def test_the_plan_names_what_goes() -> None:
    plan = plan_cleanup(snapshot(info("old", 200)), POLICY, recorded_since=SINCE)
    assert plan.remove == (Removal("old", "a:1", 10, "unused for 200.0 days"),)
