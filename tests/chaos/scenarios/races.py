"""F26: two that want the same job at the same moment, 500 times each: the races of tests/shared/queue/test_races.py
on this campaign's Redis, with its append-only file, and this campaign's chance.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random

from shared.queue.client import QueueClient
from tests.chaos.campaign import Bench, Campaign, bench
from tests.chaos.outcome import Outcome
from tests.shared.queue import test_races as races
from tests.shared.queue.rig import queue_client

Race = Callable[[QueueClient, str, Random, str], Awaitable[None]]


async def _expiry_against_claim(client: QueueClient, url: str, chance: Random, _: str) -> None:
    await races.test_expiry_against_claim(client, url, chance)


RACES: dict[str, tuple[Race, tuple[str, ...]]] = {
    "cancel against finish": (races.test_cancel_against_finish, ("succeeded", "retried", "released", "dead_lettered")),
    "expiry against claim": (_expiry_against_claim, ("",)),
    "hand-back against reaping": (races.test_requeue_against_reaping, ("released", "retried", "succeeded")),
}
SHORT = 1
"""Verdicts of each race in a short run."""


async def run(campaign: Campaign) -> Outcome:
    outcome = Outcome("F26", "two want the same job at the same moment")
    async with bench(campaign, "F26") as b:
        for name, (race, verdicts) in RACES.items():
            chosen = verdicts[: campaign.size(len(verdicts), SHORT)]
            campaign.say(name)
            wrong = [fault for verdict in chosen if (fault := await _fault(b, race, verdict))]
            outcome.breaches += wrong
            rounds = races.ROUNDS * len(chosen)
            outcome.none(f"{name}: not exactly one winner, or the loser misled", rounds, len(wrong))
    return outcome


async def _fault(b: Bench, race: Race, verdict: str) -> str:
    """Run one race on an empty queue; what was wrong, if anything."""
    await b.stack.redis.flushdb()
    async with queue_client(b.stack.redis_url) as client:
        try:
            await race(client, b.stack.redis_url, b.draw, verdict)
        except AssertionError as error:
            return f"{race.__name__} {verdict}: {error}"
    return ""
