"""Two that want the same job at the same moment: one wins, and the loser is told the truth. 500 rounds each."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from shared.jobs import State
from shared.queue.client import QueueClient
from shared.queue.scripts import Scripts
from tests.shared.queue.rig import Claimed, chat, claim, queue_client, settle
from tests.shared.queue.test_leases import read

ROUNDS = 500


@pytest.fixture
def chance() -> random.Random:
    return random.Random(20)


async def running(client: QueueClient) -> list[Claimed]:
    """As many running jobs as there are rounds."""
    await asyncio.gather(*(client.enqueue(chat()) for _ in range(ROUNDS)))
    runs = [run for seed in "abc" for run in await claim(client.scripts, 200, seed=seed)]
    assert len(runs) == ROUNDS
    return runs


async def later(chance: random.Random) -> None:
    """Now, or a few turns of the loop later."""
    for _ in range(chance.randrange(3)):
        await asyncio.sleep(0)


async def terminal_states(client: QueueClient) -> Counter[str]:
    """The counters of ends; they must add up to one end a job."""
    counters = (await client.stats()).counters
    return Counter({state: counters.get(state, 0) for state in State if state.is_terminal})


@pytest.mark.parametrize("verdict", ["succeeded", "retried", "released", "dead_lettered"])
async def test_cancel_against_finish(client: QueueClient, redis_url: str, chance: random.Random, verdict: str) -> None:
    runs = await running(client)
    cancelled_first = 0
    async with queue_client(redis_url) as canceller:

        async def race(run: Claimed) -> tuple[State | None, bytes]:
            async def cancel() -> State | None:
                await later(chance)
                return await canceller.cancel(run.id)

            async def finish() -> bytes:
                await later(chance)
                return await settle(client.scripts, run.id, run.token, verdict, error=b"@backend_fault")

            pair = (cancel(), finish()) if chance.random() < 0.5 else (finish(), cancel())
            first, second = await asyncio.gather(*pair)
            return (second, first) if isinstance(first, bytes) else (first, second)

        for start in range(0, ROUNDS, 50):
            batch = runs[start : start + 50]
            for run, (told, settled) in zip(batch, await asyncio.gather(*map(race, batch)), strict=True):
                job = await read(client, run.id)
                cancelled_first += told is State.RUNNING
                if verdict in ("succeeded", "dead_lettered"):
                    # A cancel that came first was only noted (the worker is told); the end that was written stands.
                    assert settled.decode() == job.state == verdict
                    assert told in (State.RUNNING, State(verdict))
                else:
                    # First cancelled, then handed back: it ends. First handed back: it waits, and is cancelled there.
                    assert job.state is State.CANCELLED
                    assert (told, settled) in ((State.RUNNING, b"cancelled"), (State.CANCELLED, b"queued"))
    assert 0 < cancelled_first < ROUNDS, "both sides won some, or this shows nothing"
    ends = await terminal_states(client)
    assert ends[verdict if verdict in ("succeeded", "dead_lettered") else "cancelled"] == ROUNDS
    assert ends.total() == ROUNDS
    assert await client.redis.zcard(client.keys.alarms) == 0
    assert not await client.redis.exists(client.keys.lines("normal"), client.keys.unfinished)


async def test_expiry_against_claim(client: QueueClient, redis_url: str, chance: random.Random) -> None:
    jobs = [chat(timeout_s=chance.uniform(0.02, 0.25)) for _ in range(ROUNDS)]
    claimed: list[Claimed] = []

    async def work(scripts: Scripts, name: str) -> None:
        for turn in range(400):
            claimed.extend(await claim(scripts, chance.randrange(1, 4), worker=name, seed=f"{name}{turn}-"))
            await asyncio.sleep(0.0005)

    async def expire(client: QueueClient) -> None:
        for _ in range(300):
            await client.redis.delete(f"{client.keys.root}sweeping")
            await client.sweep()
            await asyncio.sleep(0.001)

    async with queue_client(redis_url) as other:
        await asyncio.gather(
            asyncio.gather(*(client.enqueue(job) for job in jobs)),
            work(client.scripts, "w1"),
            work(other.scripts, "w2"),
            expire(other),
        )
        await asyncio.sleep(0.3)
        await expire(other)

    taken = Counter(run.id for run in claimed)
    assert set(taken.values()) <= {1}, "a job is handed to one worker only"
    assert all(run.now_ms < run.deadline_ms for run in claimed), "and only before its deadline"
    for job in jobs:
        state = (await read(client, job.id)).state
        assert state is (State.RUNNING if job.id in taken else State.EXPIRED)
    assert len(taken) + (await terminal_states(client))["expired"] == ROUNDS
    assert 0 < len(taken) < ROUNDS, "both sides won some, or this shows nothing"


@pytest.mark.parametrize("verdict", ["released", "retried", "succeeded"])
async def test_requeue_against_reaping(
    client: QueueClient, redis_url: str, chance: random.Random, verdict: str
) -> None:
    runs = await running(client)
    wins: Counter[str] = Counter()
    async with queue_client(redis_url) as reaper:

        async def reap(run: Claimed) -> None:
            await later(chance)
            pipe = reaper.redis.pipeline(transaction=False)
            pipe.zadd(reaper.keys.alarms, {run.id: 1}, xx=True)
            pipe.delete(f"{reaper.keys.root}sweeping")
            await pipe.execute()
            await reaper.sweep()

        async def hand_back(run: Claimed) -> bytes:
            for _ in range(chance.randrange(6)):
                await asyncio.sleep(0)
            await asyncio.sleep(chance.uniform(0, 0.001))
            return await settle(client.scripts, run.id, run.token, verdict, error=b"@backend_fault")

        for run in runs:
            _, settled = await asyncio.gather(reap(run), hand_back(run))
            job = await read(client, run.id)
            reaped = job.crashes == 1
            wins["reaper" if reaped else "worker"] += 1
            assert (settled == b"!") is reaped, "who lost the job is told so"
            assert len(job.attempts) == 1
            assert job.attempts[0].outcome == ("crashed" if reaped else {"released": "drained"}.get(verdict, verdict))
            assert job.state is (State.QUEUED if reaped or verdict != "succeeded" else State.SUCCEEDED)
            assert job.failures == (verdict == "retried" and not reaped)
    waiting = (await client.stats()).queued_by_class["normal"]
    assert waiting == (wins["reaper"] if verdict == "succeeded" else ROUNDS), "each is in line once"
    assert min(wins["reaper"], wins["worker"]) > 0, "both sides won some, or this shows nothing"
