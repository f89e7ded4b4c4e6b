"""From what was learned of the hosts to the jobs that start on them, on a real server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest

from shared.jobs import Priority
from shared.queue.client import QueueClient
from shared.queue.plans import CALL, View, WaitingLine
from shared.queue.sightings import Resident, Sighting
from shared.usage.estimates import Estimates, Tally
from tests.shared.queue.rig import chat, claim, queue_client
from tests.worker.scripted_backend import ScriptedBackend
from worker.hosts import Hosts
from worker.scheduling.planner import LONGEST_LOAD_S, ModelPlanner, capacity_of
from worker.scheduling.policy import Knobs

FAST, SLOW = "fast:1", "slow:1"
KNOBS = Knobs(host_calls=20, unit_calls=20, reserved=0)
LEARNED = Estimates(
    {
        ("t:llama3.2", FAST): Tally(calls=50, answers=50, seconds=50.0, chars_in=50, tokens_out=500),
        ("t:llama3.2", SLOW): Tally(calls=50, answers=50, seconds=150.0, chars_in=50, tokens_out=500),
    }
)


async def starts_by_host(client: QueueClient, planner: ModelPlanner, count: int) -> Counter[str]:
    await client.enqueue_many([chat() for _ in range(count)])
    fleet = await client.fleet()
    seen = Sighting(at=fleet.now_ms / 1000, residents=[Resident("llama3.2")]).packed()
    planner.see(View(fleet.now_ms, fleet.lines, {}, dict.fromkeys((FAST, SLOW), seen), {}))
    return Counter(run.host for run in await claim(client.scripts, count, plan=planner.packed()))


@pytest.mark.req("S2-42", "S1-33")
async def test_a_host_three_times_as_fast_gets_three_times_the_calls(redis_url: str) -> None:
    hosts = Hosts([ScriptedBackend(name=FAST), ScriptedBackend(name=SLOW)], probe_timeout_s=1.0)
    planner = ModelPlanner(hosts, KNOBS, weights=LEARNED.weights)
    async with queue_client(redis_url) as client:
        starts = await starts_by_host(client, planner, 16)
    assert starts[FAST] in (11, 12, 13) and starts[SLOW] == 16 - starts[FAST]


async def test_while_nothing_is_learned_hosts_share_alike(redis_url: str) -> None:
    hosts = Hosts([ScriptedBackend(name=FAST), ScriptedBackend(name=SLOW)], probe_timeout_s=1.0)
    async with queue_client(redis_url) as client:
        starts = await starts_by_host(client, ModelPlanner(hosts, KNOBS, weights=Estimates().weights), 16)
    assert starts == {FAST: 8, SLOW: 8}


def test_what_a_worker_gives_its_hosts_is_told() -> None:
    names: Sequence[str] = [FAST, SLOW]
    told = capacity_of(Knobs(host_calls=8, unit_calls=4, embedding_calls=2, reserved=1, batch=10), names)
    assert (told.hosts, told.host_calls, told.unit_calls, told.embedding_calls) == ([FAST, SLOW], 8, 4, 2)
    assert (told.reserved, told.batch, told.patience_s["high"]) == (1, 10, 2.0)


NOW_S = 1_000.0


def starts(planner: ModelPlanner, at_s: float) -> bool:
    """Whether, while a host that never shows it is called for one model all the time, another one may start there."""
    now_ms = int(at_s * 1000)
    waiting = [WaitingLine(Priority.NORMAL, "t:other", 1, int(NOW_S * 1000))]
    seen = Sighting(at=at_s, room=1, residents=[Resident("other")]).packed()
    planner.see(View(now_ms, waiting, {FAST: CALL, f"{FAST}|elsewhere-cloud": CALL}, {FAST: seen}, {}))
    return b"t:other" in planner.packed()


@pytest.mark.req("S1-33")
def test_a_model_that_never_shows_in_memory_does_not_hold_up_others_for_ever() -> None:
    planner = ModelPlanner(Hosts([ScriptedBackend(name=FAST)], probe_timeout_s=1.0), KNOBS)
    assert not starts(planner, NOW_S), "it may be loading, and push the other one out"
    assert not starts(planner, NOW_S + LONGEST_LOAD_S)
    assert starts(planner, NOW_S + LONGEST_LOAD_S + 1)
