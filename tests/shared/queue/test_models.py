"""Which models are busy: jobs that ask for them, calls that run on them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from shared.jobs import Kind, NewJob
from shared.queue.client import QueueClient
from shared.queue.running import RunningJob
from shared.routes import Candidate, Route
from shared.wire.canonical import ChatRequest, Message
from tests.conftest import WaitUntil
from tests.shared.queue.rig import ANSWER, claim, settle, working


def asking(model: str, **fields: Any) -> NewJob:
    request = ChatRequest(model=model, messages=[Message(role="user", content="hi")])
    return NewJob(kind=Kind.CHAT, model=model, request=request, **fields)


@pytest.mark.req("S1-32", "S1-42")
async def test_unfinished_jobs_are_counted_by_model(client: QueueClient) -> None:
    assert await client.unfinished_by_model() == {}
    jobs = [asking("llama3.2"), asking("Llama3.2:latest"), asking("mistral", delay_s=60.0), asking("phi3")]
    for job in jobs:
        await client.enqueue(job)
    await client.enqueue(jobs[0])  # the same job again
    assert await client.unfinished_by_model() == {"llama3.2": 2, "mistral": 1, "phi3": 1}
    first, second = await claim(client.scripts, 2)
    assert await client.unfinished_by_model() == {"llama3.2": 2, "mistral": 1, "phi3": 1}, "running is unfinished"
    assert await settle(client.scripts, first.id, first.token) == b"succeeded"
    assert await settle(client.scripts, first.id, first.token) == b"=succeeded"
    assert await settle(client.scripts, second.id, second.token, "retried", delay_ms=5000) == b"scheduled"
    assert await client.unfinished_by_model() == {"llama3.2": 1, "mistral": 1, "phi3": 1}
    assert await client.clear() == 3
    assert await client.unfinished_by_model() == {}
    assert not await client.redis.exists(client.keys.unfinished_models)


async def test_a_replay_counts_for_the_model_it_asks_for(client: QueueClient) -> None:
    job = asking("llama3.2")
    await client.enqueue(job)
    [run] = await claim(client.scripts)
    await settle(client.scripts, run.id, run.token, "dead_lettered", error=b"@backend_fault")
    assert await client.unfinished_by_model() == {}
    await client.dead_letters.replay(job.id, model="mistral")
    assert await client.unfinished_by_model() == {"mistral": 1}


@pytest.mark.req("S1-63")
async def test_models_of_other_services_are_counted_with_their_service(client: QueueClient) -> None:
    at_openai = Route(candidates=(Candidate("openai", "gpt"), Candidate("ollama", "llama3.2")))
    for route in (at_openai, at_openai, None):
        await client.enqueue(asking("gpt", route=route))
    assert await client.unfinished_by_model() == {"openai~gpt": 2, "gpt": 1}
    for run in await claim(client.scripts, 3):
        await settle(client.scripts, run.id, run.token)
    assert not await client.redis.exists(client.keys.unfinished_models)


async def test_a_job_of_the_former_release_ends_under_the_name_it_began_with(client: QueueClient) -> None:
    former, now = (asking("gpt", route=Route(candidates=(Candidate("openai", "gpt"),))) for _ in range(2))
    await client.enqueue(former)
    await client.enqueue(now)
    # Formerly the model's own name was counted, and the record had no other.
    counts: Any = client.redis
    await counts.hdel(client.keys.record(former.id), "um")
    await counts.hset(client.keys.unfinished_models, mapping={"gpt": 1, "openai~gpt": 1})
    assert await client.cancel(former.id)
    assert await client.unfinished_by_model() == {"openai~gpt": 1}


async def test_what_vanished_jobs_left_behind_is_mended(client: QueueClient) -> None:
    await client.redis.hset(client.keys.unfinished_models, "ghost", "2")  # type: ignore[misc]  # redis-py 5 types it as either
    await client.sweep()
    assert await client.unfinished_by_model() == {}


@pytest.mark.req("S1-32")
async def test_calls_under_way_are_counted_by_the_model_that_is_called(
    client: QueueClient, redis_url: str, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.queue.heartbeat.RENEW_S", 0.05)
    done = asyncio.Event()

    async def stand_in(ctx: dict[str, Any], job: RunningJob) -> bytes:
        job.notes.backend, job.notes.model = "gpu:1", "Phi3:latest"
        await done.wait()
        return ANSWER

    async with working(redis_url, stand_in), working(redis_url, stand_in, worker_id="w2", slots=1):
        assert await client.calls_by_model() == {}
        for _ in range(3):
            await client.enqueue(asking("llama3.2"))

        async def called() -> bool:
            return await client.calls_by_model() == {("phi3", "gpu:1"): 3}

        await wait_until(called, description="the heartbeats tell of the calls")
        assert await client.unfinished_by_model() == {"llama3.2": 3}
        done.set()

        async def quiet() -> bool:
            return not await client.unfinished_by_model()

        await wait_until(quiet, description="the jobs ended")
    assert await client.calls_by_model() == {}
