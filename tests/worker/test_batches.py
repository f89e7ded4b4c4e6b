"""Embeddings share calls: one upstream call for many jobs, each with its own answer, failure and end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from infra.simulator import Simulator, running
from shared.jobs import JobRecord, Kind, NewJob, State
from shared.resilience.response_cache import Hit, ResponseCache
from shared.wire.canonical import EmbeddingAnswer, EmbeddingRequest, unpack_vector
from shared.wire.codec import decode_answer
from tests.conftest import WaitUntil
from tests.worker.rig import INSTANT, bench, calls, fault
from worker.scheduling.policy import Knobs

KNOBS = Knobs(batch=10, embedding_calls=1, fill_s=5.0)
MODEL = "nomic-embed-text"


def embedding(*inputs: str, **fields: Any) -> NewJob:
    request = EmbeddingRequest(model=MODEL, inputs=list(inputs), **fields)
    return NewJob(kind=Kind.EMBEDDING, model=MODEL, request=request, timeout_s=20.0)


def vectors(record: JobRecord) -> list[list[float]]:
    assert record.result is not None, record.error
    answer = decode_answer(record.kind, record.result)
    assert isinstance(answer, EmbeddingAnswer)
    return [unpack_vector(vector) for vector in answer.vectors]


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with running(models=[MODEL], **INSTANT) as simulator:
        yield simulator


@pytest.mark.req("S1-05", "S1-75", "S1-91")
async def test_what_waits_together_is_served_by_one_call(
    redis_url: str, simulator: Simulator, wait_until: WaitUntil
) -> None:
    alone = embedding("text 3")
    jobs = [embedding(f"text {n}", *["second"] * (n % 3)) for n in range(25)]
    async with bench(redis_url, [simulator.url], knobs=KNOBS) as b:
        first = await b.run(alone, wait_until)
        await b.queue.enqueue_many(jobs)
        records = [await b.ended(job.id, wait_until) for job in jobs]
    assert len(calls(simulator)) == 1 + 3, "10, 10 and 5 jobs"
    assert vectors(records[3]) == vectors(first), "each has the vectors of its own inputs, in order"
    assert [len(vectors(record)) for record in records] == [1 + n % 3 for n in range(25)]
    assert {record.attempts[0].backend for record in records} == {first.attempts[0].backend}


@pytest.mark.req("S1-91")
async def test_without_batches_each_job_has_its_own_call(
    redis_url: str, simulator: Simulator, wait_until: WaitUntil
) -> None:
    jobs = [embedding(f"text {n}") for n in range(5)]
    async with bench(redis_url, [simulator.url], knobs=Knobs(batch=1)) as b:
        await b.queue.enqueue_many(jobs)
        for job in jobs:
            await b.ended(job.id, wait_until)
    assert len(calls(simulator)) == 5


async def test_those_that_ask_otherwise_have_a_call_of_their_own(
    redis_url: str, simulator: Simulator, wait_until: WaitUntil
) -> None:
    jobs = [embedding("text", dimensions=dimensions) for dimensions in (None, 8, 8, 16)]
    async with bench(redis_url, [simulator.url], knobs=KNOBS) as b:
        await b.queue.enqueue_many(jobs)
        records = [await b.ended(job.id, wait_until) for job in jobs]
    assert [len(vectors(record)[0]) for record in records][1:] == [8, 8, 16]
    assert len(calls(simulator)) == 3


@pytest.mark.req("S1-05")
async def test_a_bad_input_fails_alone(redis_url: str, simulator: Simulator, wait_until: WaitUntil) -> None:
    # Longer than the model's context, and not to be cut: the host refuses the whole call that it is part of.
    poisoned = EmbeddingRequest(model=MODEL, inputs=["far too long " * 20_000], truncate=False)
    jobs = [embedding(f"text {n}", truncate=False) for n in range(9)]
    jobs.insert(4, NewJob(kind=Kind.EMBEDDING, model=MODEL, request=poisoned, timeout_s=20.0))
    async with bench(redis_url, [simulator.url], knobs=KNOBS) as b:
        await b.queue.enqueue_many(jobs)
        records = [await b.ended(job.id, wait_until) for job in jobs]
    ends = [record.state for record in records]
    assert ends[4] is State.DEAD_LETTERED and records[4].error is not None and records[4].error.http_status == 400
    assert ends[:4] + ends[5:] == [State.SUCCEEDED] * 9
    assert len(calls(simulator)) <= 9


async def test_a_failed_call_is_tried_again_by_each(
    redis_url: str, simulator: Simulator, wait_until: WaitUntil
) -> None:
    fault(simulator, count=1)
    jobs = [embedding(f"text {n}") for n in range(4)]
    async with bench(redis_url, [simulator.url], knobs=KNOBS) as b:
        await b.queue.enqueue_many(jobs)
        records = [await b.ended(job.id, wait_until) for job in jobs]
    assert [(record.state, record.failures) for record in records] == [(State.SUCCEEDED, 1)] * 4


async def test_one_that_is_cancelled_leaves_the_others_their_call(redis_url: str, wait_until: WaitUntil) -> None:
    slow = {**INSTANT, "embedding_seconds": 0.5}
    jobs = [embedding(f"text {n}") for n in range(3)]
    async with (
        running(models=[MODEL], **slow) as simulator,
        bench(redis_url, [simulator.url], knobs=KNOBS) as b,
    ):
        await b.queue.enqueue_many(jobs)
        await wait_until(lambda: calls(simulator), description="the call is under way")
        await b.queue.cancel(jobs[0].id)
        records = [await b.ended(job.id, wait_until) for job in jobs]
        assert [record.state for record in records] == [State.CANCELLED, State.SUCCEEDED, State.SUCCEEDED]
        assert len(calls(simulator)) == 1
        again = [embedding("again 1"), embedding("again 2")]
        await b.queue.enqueue_many(again)
        await wait_until(lambda: len(calls(simulator)) == 2, description="the second call is under way")
        await asyncio.gather(*(b.queue.cancel(job.id) for job in again))
        await wait_until(
            lambda: any(call.cancelled for call in simulator.calls.entries("call")), description="it is stopped"
        )


@pytest.mark.req("S1-75")
async def test_a_call_counts_until_its_last_job_has_ended(redis_url: str, wait_until: WaitUntil) -> None:
    knobs = Knobs(batch=2, embedding_calls=2, reserved=0, fill_s=0.0)
    jobs = [embedding(f"text {n}") for n in range(4)]
    async with (
        running(models=[MODEL], **{**INSTANT, "embedding_seconds": 0.7}) as simulator,
        bench(redis_url, [simulator.url], knobs=knobs) as b,
    ):
        await b.queue.enqueue_many(jobs)
        await wait_until(lambda: len(calls(simulator)) == 2, description="two calls of two jobs")
        for job in (jobs[0], jobs[2]):
            await b.queue.cancel(job.id)
            assert (await b.ended(job.id, wait_until)).state is State.CANCELLED
        assert (await b.run(embedding("next"), wait_until)).state is State.SUCCEEDED
    first, second, third = simulator.calls.entries("call")
    ends = [call.at + (call.seconds or 0.0) for call in (first, second)]
    assert third.at > min(ends) - 0.05, "half a call of one and half of the other do not make room for a third"


@pytest.mark.req("S1-92")
async def test_while_a_call_is_under_way_a_batch_waits_to_fill_but_not_for_ever(
    redis_url: str, wait_until: WaitUntil
) -> None:
    slow = {**INSTANT, "embedding_seconds": 3.0}
    knobs = Knobs(batch=3, embedding_calls=3, fill_s=0.5)
    async with (
        running(models=[MODEL], **slow) as simulator,
        bench(redis_url, [simulator.url], knobs=knobs) as b,
    ):
        await b.submit(embedding("goes at once"))
        await wait_until(lambda: len(calls(simulator)) == 1, description="nothing to wait for")
        for n in range(3):
            await b.submit(embedding(f"one of three {n}"))
        await wait_until(lambda: len(calls(simulator)) == 2, description="a full batch goes beside the first call")
        lonely = await b.submit(embedding("nobody comes"))
        await wait_until(lambda: len(calls(simulator)) == 3, description="BATCH_TIMEOUT ends the wait")
        record = await b.queue.get(lonely)
        assert record is not None and record.started_at is not None
        assert record.started_at - record.created_at >= 0.5


async def test_many_inputs_go_in_several_calls(redis_url: str, simulator: Simulator, wait_until: WaitUntil) -> None:
    async with bench(redis_url, [simulator.url], knobs=KNOBS) as b:
        record = await b.run(embedding(*(f"text {n}" for n in range(150))), wait_until)
        one = await b.run(embedding("text 149"), wait_until)
    assert len(vectors(record)) == 150
    assert vectors(record)[149] == vectors(one)[0]
    assert len(calls(simulator)) == 3 + 1


async def test_the_response_cache_keeps_each_tenants_own_share(
    redis_url: str, simulator: Simulator, wait_until: WaitUntil
) -> None:
    jobs = [embedding(f"secret of {n}") for n in range(4)]
    for n, job in enumerate(jobs):
        job.tenant, job.cache_as = f"t{n}", f"name{n}"
    async with bench(redis_url, [simulator.url], knobs=KNOBS) as b:
        await b.queue.enqueue_many(jobs)
        records = [await b.ended(job.id, wait_until) for job in jobs]
        assert len(calls(simulator)) == 1
        cache = ResponseCache(b.queue.redis, b.queue.keys)
        for n, (job, record) in enumerate(zip(jobs, records, strict=True)):
            found: list[Hit] = []

            async def kept(job: NewJob = job, found: list[Hit] = found) -> bool:
                hit = await cache.get(job.tenant, job.kind, job.cache_as, oldest_s=60)
                found.extend([hit] if hit else [])
                return bool(found)

            await wait_until(kept, description=f"the answer of t{n} is kept")
            answer = decode_answer(job.kind, found[0].answer)
            assert isinstance(answer, EmbeddingAnswer)
            assert [unpack_vector(vector) for vector in answer.vectors] == vectors(record)
        await cache.aclose()
