"""One run of a job, from its request to its answer or its error, on scripted backends and the real queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace

from shared.backends.base import CallTimeouts
from shared.errors import BackendFault, BackendRejected, BackendUnreachable, ModelNotFound
from shared.jobs import JobRecord, Kind, NewJob, State
from shared.queue.client import QueueClient
from shared.resilience.backoff import RetryPolicy
from shared.resilience.breaker import BreakerPolicy
from shared.resilience.breaker_store import Breakers
from shared.resilience.budget import RetryBudget
from shared.wire.canonical import (
    CompletionRequest,
    Delta,
    EmbeddingAnswer,
    EmbeddingRequest,
    TextAnswer,
    ToolCall,
    unpack_vector,
)
from shared.wire.codec import decode_answer, decode_deltas
from tests.conftest import WaitUntil
from tests.shared.queue.rig import chat, queue_client, working
from tests.worker.scripted_backend import FINISH, ScriptedBackend
from worker.execution import Execution
from worker.guards import Guards
from worker.hosts import Hosts
from worker.metrics import WorkerMetrics
from worker.observation import Observation

TIMEOUTS = CallTimeouts(total_s=300, first_byte_s=200)
QUICK = RetryPolicy(tries=3, base_s=0.02, cap_s=0.05)


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[QueueClient]:
    async with queue_client(redis_url) as client:
        yield client


@pytest.fixture
def observation() -> Observation:
    return Observation(WorkerMetrics("w1"))


class Bench:
    """A worker on scripted backends."""

    def __init__(self, client: QueueClient, wait_until: WaitUntil) -> None:
        self.client = client
        self._wait_until = wait_until

    async def run(self, job: NewJob) -> JobRecord:
        """Enqueue a job and wait for its end."""
        await self.client.enqueue(job)
        await self._wait_until(lambda: self._is_over(job.id), description="the job ended")
        record = await self.client.get(job.id)
        assert record is not None
        return record

    async def _is_over(self, job_id: str) -> bool:
        record = await self.client.get(job_id)
        return record is not None and record.state.is_terminal


@asynccontextmanager
async def bench(
    client: QueueClient, redis_url: str, wait_until: WaitUntil, observation: Observation,
    backends: Sequence[ScriptedBackend],
) -> AsyncIterator[Bench]:  # fmt: skip
    breakers = Breakers(client.redis, client.keys, BreakerPolicy(), worker_id="w1")
    execution = Execution(
        Hosts(backends, probe_timeout_s=1), timeouts=TIMEOUTS, policy=QUICK, observation=observation,
        guards=Guards(breakers, RetryBudget(client.redis, client.keys)),
    )  # fmt: skip
    async with working(redis_url, execution.run, on_settled=observation.settled):
        yield Bench(client, wait_until)


Setting = tuple[QueueClient, str, WaitUntil, Observation]


@pytest.fixture
def setting(client: QueueClient, redis_url: str, wait_until: WaitUntil, observation: Observation) -> Setting:
    return client, redis_url, wait_until, observation


def answer_of(record: JobRecord) -> Any:
    assert record.state is State.SUCCEEDED and record.result is not None, record.error
    return decode_answer(record.kind, record.result)


@pytest.mark.req("S1-02", "S1-03", "S1-08")
async def test_a_chat_is_called_gathered_and_stored(setting: Setting) -> None:
    call = ToolCall(id="c1", name="f", arguments="{}")
    backend = ScriptedBackend(
        [Delta(thinking="hm "), Delta(content="Hel"), Delta(content="lo", tool_calls=[call]), FINISH]
    )
    job = chat("hi")
    async with bench(*setting, [backend]) as on:
        record = await on.run(job)

    answer = answer_of(record)
    assert isinstance(answer, TextAnswer)
    assert (answer.content, answer.thinking, answer.tool_calls) == ("Hello", "hm ", [call])
    assert (answer.finish_reason, answer.usage, answer.backend) == ("stop", FINISH.usage, "scripted:1")
    assert backend.request_ids == [job.id], "upstream sees the job's id, so that a call can be matched to its job"
    [attempt] = record.attempts
    assert (attempt.backend, attempt.model) == ("scripted:1", "llama3.2")
    assert attempt.first_token_at is not None and attempt.ended_at is not None


async def test_a_completion_is_run(setting: Setting) -> None:
    backend = ScriptedBackend()
    request = CompletionRequest(model="llama3.2", prompt="Once")
    async with bench(*setting, [backend]) as on:
        record = await on.run(NewJob(kind=Kind.COMPLETION, model=request.model, request=request))
    assert answer_of(record).content == "ok"
    assert backend.calls == [replace(request, keep_alive=300.0)]


@pytest.mark.req("S1-04")
async def test_an_embedding_is_run(setting: Setting) -> None:
    request = EmbeddingRequest(model="nomic", inputs=["a", "b"])
    async with bench(*setting, [ScriptedBackend()]) as on:
        record = await on.run(NewJob(kind=Kind.EMBEDDING, model=request.model, request=request))
    answer = answer_of(record)
    assert isinstance(answer, EmbeddingAnswer)
    assert [unpack_vector(vector) for vector in answer.vectors] == [[0.0, 1.0], [1.0, 1.0]]


async def test_deltas_are_published_only_for_a_job_that_keeps_them(setting: Setting) -> None:
    kept, silent = chat(keep_events=True), chat()
    async with bench(*setting, [ScriptedBackend()]) as on:
        for job in (kept, silent):
            await on.run(job)
    client = setting[0]
    events = (await client.attach(kept.id, "g1")).events
    deltas = [d for _, fields in events if fields[b"t"] == b"c" for d in decode_deltas(fields[b"d"])]
    assert deltas == [Delta(content="ok")]
    assert (await client.attach(silent.id, "g1")).events == []


@pytest.mark.req("S1-07")
async def test_a_request_that_is_not_one_is_refused_before_any_call(setting: Setting) -> None:
    backend = ScriptedBackend()
    job = NewJob(kind=Kind.CHAT, model="llama3.2", request={"model": "llama3.2", "messages": "none"})
    async with bench(*setting, [backend]) as on:
        record = await on.run(job)
    assert (record.state, backend.calls) == (State.DEAD_LETTERED, [])
    assert record.error is not None
    assert record.error.code == "invalid_request" and "messages" in record.error.message


@pytest.mark.req("S1-10", "S1-11", "S1-82")
async def test_a_backend_that_keeps_failing_is_called_three_times(setting: Setting) -> None:
    backend = ScriptedBackend([BackendUnreachable("nobody there")])
    async with bench(*setting, [backend]) as on:
        record = await on.run(chat())
    assert (record.state, record.failures, len(backend.calls)) == (State.DEAD_LETTERED, 2, 3)
    assert [a.outcome for a in record.attempts] == ["retried", "retried", "failed"]
    assert record.error is not None and record.error.message == "nobody there"


async def test_a_retry_goes_to_another_host(setting: Setting) -> None:
    broken = ScriptedBackend([BackendFault()], name="broken:1")
    well = ScriptedBackend(name="well:1")
    async with bench(*setting, [broken, well]) as on:
        record = await on.run(chat())
    assert [a.backend for a in record.attempts] == ["broken:1", "well:1"]
    assert answer_of(record).backend == "well:1"


async def test_a_host_without_the_model_is_passed_over_at_no_cost(setting: Setting) -> None:
    without, other = ScriptedBackend([ModelNotFound("not here")]), ScriptedBackend(name="other:1")
    async with bench(*setting, [without, other]) as on:
        record = await on.run(chat())
    assert (answer_of(record).backend, record.failures, len(record.attempts)) == ("other:1", 0, 1)


async def test_a_model_that_no_host_has_is_not_retried(setting: Setting) -> None:
    hosts = [ScriptedBackend([ModelNotFound("not here")]), ScriptedBackend([ModelNotFound("nor here")])]
    async with bench(*setting, hosts) as on:
        record = await on.run(chat())
    assert record.error is not None and record.error.code == "model_not_found"
    assert [len(host.calls) for host in hosts] == [1, 1]


async def test_a_refused_request_is_not_retried(setting: Setting) -> None:
    backend = ScriptedBackend([BackendRejected("too long")])
    async with bench(*setting, [backend]) as on:
        record = await on.run(chat())
    assert (record.state, len(backend.calls)) == (State.DEAD_LETTERED, 1)


@pytest.mark.parametrize(("restartable", "calls"), [(False, 1), (True, 2)])
async def test_a_failure_after_the_first_chunk_is_retried_only_for_who_understands(
    setting: Setting, restartable: bool, calls: int
) -> None:
    backend = ScriptedBackend([Delta(content="half"), 0.05, BackendFault()], [Delta(content="whole"), FINISH])
    async with bench(*setting, [backend]) as on:
        record = await on.run(chat(keep_events=True, restartable=restartable))
    assert len(backend.calls) == calls
    if restartable:
        assert answer_of(record).content == "whole"
    else:
        assert record.state is State.DEAD_LETTERED


async def test_a_cancelled_job_closes_its_stream(setting: Setting, wait_until: WaitUntil) -> None:
    backend, job = ScriptedBackend([Delta(content="a"), 60.0]), chat(keep_events=True)
    async with bench(*setting, [backend]) as on:
        await on.client.enqueue(job)
        await wait_until(lambda: backend.calls)
        await asyncio.sleep(0.05)
        await on.client.cancel(job.id)
        await wait_until(lambda: backend.closed_streams == 1, timeout_s=3, description="the stream is closed")


async def test_no_call_is_given_more_time_than_the_job_has(setting: Setting) -> None:
    backend = ScriptedBackend()
    async with bench(*setting, [backend]) as on:
        await on.run(chat(timeout_s=10))
        await on.run(chat(timeout_s=1000))
    short, long = backend.timeouts
    assert 9 < short.total_s <= 9.5 and short.first_byte_s == short.total_s
    assert (long.total_s, long.first_byte_s) == (300, 200)


@pytest.mark.req("S1-09", "S1-24", "S1-25")
async def test_what_happened_is_counted(
    setting: Setting, observation: Observation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.execution.random.random", lambda: 0.5)  # the one retry shall wait
    backend = ScriptedBackend([BackendFault()], [Delta(content="ok"), FINISH])
    async with bench(*setting, [backend]) as on:
        await on.run(chat())
        record = await on.run(chat())
        assert record.state is State.SUCCEEDED

    def value(name: str, **labels: str) -> float | None:
        return observation.metrics.registry.get_sample_value(name, {"worker_id": "w1", **labels})

    assert value("llm_worker_requests_total", model="llama3.2", status="success") == 2
    assert value("llm_worker_requests_total", model="llama3.2", status="retried") == 1
    assert value("llm_worker_request_duration_seconds_count", model="llama3.2") == 3
    assert value("llm_worker_tokens_total", direction="prompt") == 6
    assert value("llm_worker_tokens_total", direction="completion") == 4
    assert value("llm_worker_time_to_first_token_seconds_count", model="llama3.2") == 2
    assert value("llm_worker_model_load_seconds_count", model="llama3.2") == 2
    assert value("llm_worker_queue_wait_seconds_count") == 3
