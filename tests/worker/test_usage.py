"""What a worker writes down about the models it calls, and how long it asks them to stay."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from shared.backends.base import CallTimeouts
from shared.backends.watch import timed_out
from shared.errors import BackendFault, ModelNotFound
from shared.jobs import JobRecord, Kind, NewJob
from shared.pins import KeepAlive, Pins
from shared.queue.client import QueueClient
from shared.resilience.backoff import RetryPolicy
from shared.resilience.breaker import BreakerPolicy
from shared.resilience.breaker_store import Breakers
from shared.resilience.budget import RetryBudget
from shared.usage.figures import ModelUsage
from shared.usage.reader import UsageReader
from shared.usage.recorder import UsageRecorder
from shared.wire.canonical import ChatRequest, Delta, EmbeddingRequest, Message
from tests.conftest import WaitUntil
from tests.shared.queue.rig import chat, queue_client, working
from tests.worker.scripted_backend import FINISH, ScriptedBackend
from worker.execution import Execution
from worker.fallback import FallbackPolicy
from worker.guards import Guards
from worker.hosts import Hosts
from worker.metrics import WorkerMetrics
from worker.observation import Observation

HOST = "scripted:1"


class Bench:
    """A worker on scripted backends, and what it wrote down."""

    def __init__(self, client: QueueClient, recorder: UsageRecorder, keep_alive: KeepAlive) -> None:
        self.client = client
        self.keep_alive = keep_alive
        self._recorder = recorder

    async def run(self, job: NewJob, wait_until: WaitUntil) -> JobRecord:
        await self.client.enqueue(job)
        return await self.ended(job, wait_until)

    async def ended(self, job: NewJob, wait_until: WaitUntil) -> JobRecord:
        async def is_over() -> bool:
            record = await self.client.get(job.id)
            return record is not None and record.state.is_terminal

        await wait_until(is_over, description="the job ended")
        record = await self.client.get(job.id)
        assert record is not None
        return record

    async def usage(self) -> dict[tuple[str, str], ModelUsage]:
        await self._recorder.flush()
        found = await UsageReader(self.client.redis, self.client.keys).read()
        return {(usage.model, usage.host): usage for usage in found}


@asynccontextmanager
async def bench(url: str, *backends: ScriptedBackend, fallback: FallbackPolicy | None = None) -> AsyncIterator[Bench]:
    async with queue_client(url) as client:
        recorder = UsageRecorder(client.redis, client.keys)
        keep_alive = KeepAlive(client.redis, client.keys, unload_after_s=120.0)
        execution = Execution(
            Hosts(backends, probe_timeout_s=1.0),
            timeouts=CallTimeouts(),
            policy=RetryPolicy(tries=2, base_s=0.01, cap_s=0.02),
            observation=Observation(WorkerMetrics("w1"), recorder),
            guards=Guards(
                Breakers(client.redis, client.keys, BreakerPolicy(), worker_id="w1"),
                RetryBudget(client.redis, client.keys),
            ),
            fallback=fallback,
            stay_s=keep_alive.seconds,
        )
        async with working(url, execution.run):
            yield Bench(client, recorder, keep_alive)


@pytest.mark.req("S1-34", "S1-35", "S1-36", "S1-60")
async def test_answers_and_failures_are_written_down_where_they_happened(redis_url: str, wait_until: WaitUntil) -> None:
    good = ScriptedBackend(name="good:1")
    bad = ScriptedBackend([BackendFault("broken")], name="bad:1")
    async with bench(redis_url, bad, good) as on:
        await on.run(chat(), wait_until)
        request = EmbeddingRequest(model="nomic", inputs=["a"])
        await on.run(NewJob(kind=Kind.EMBEDDING, model="nomic", request=request), wait_until)
        usage = await on.usage()
    here = usage["llama3.2", "good:1"]
    answered = here.operations["chat"]
    assert (answered.calls, answered.failed, answered.tokens_in, answered.tokens_out) == (1, 0, 3, 2)
    assert (answered.latency.count, answered.first_token.count) == (1, 1)
    assert (here.loads, here.load_seconds) == (1, FINISH.timings.load_s)
    there = usage["llama3.2", "bad:1"]
    assert (there.calls, there.operations["chat"].failures) == (1, {"backend_fault": 1})
    assert there.operations["chat"].first_token.count == 0
    assert sum(usage[key].operations["embedding"].calls for key in usage if key[0] == "nomic") >= 1


async def test_a_stand_in_is_written_down_under_its_own_name(redis_url: str, wait_until: WaitUntil) -> None:
    backend = ScriptedBackend([BackendFault("broken")], [Delta(content="ok"), FINISH])
    async with bench(redis_url, backend, fallback=FallbackPolicy(models=["Mistral:latest"])) as on:
        await on.run(chat(), wait_until)
        usage = await on.usage()
    assert {key: value.failures for key, value in usage.items()} == {("llama3.2", HOST): 1, ("mistral", HOST): 0}


async def test_a_name_that_no_host_has_gets_no_figures(redis_url: str, wait_until: WaitUntil) -> None:
    async with bench(redis_url, ScriptedBackend([ModelNotFound(param="model")])) as on:
        await on.run(chat(), wait_until)
        assert await on.usage() == {}


async def test_a_cancelled_call_is_use_but_no_result(redis_url: str, wait_until: WaitUntil) -> None:
    backend = ScriptedBackend([Delta(content="a"), FINISH], [Delta(content="a"), 60.0, FINISH])
    async with bench(redis_url, backend) as on:
        await on.run(chat(), wait_until)
        [before] = (await on.usage()).values()
        await asyncio.sleep(0.05)
        job = chat()
        await on.client.enqueue(job)
        await wait_until(lambda: len(backend.calls) == 2, description="it is called")
        await on.client.cancel(job.id)
        await on.ended(job, wait_until)
        [usage] = (await on.usage()).values()
    assert (usage.model, usage.calls) == ("llama3.2", 1)
    assert usage.last_used_at > before.last_used_at + 0.04


async def test_a_callers_short_deadline_is_no_fault_of_the_model(redis_url: str, wait_until: WaitUntil) -> None:
    backend = ScriptedBackend([timed_out("total", 1.0)])
    async with bench(redis_url, backend) as on:
        await on.run(chat(timeout_s=2.0), wait_until)
        [usage] = (await on.usage()).values()
    assert (usage.total.failures, usage.total.faulted) == ({"job_timeout": 1}, 0)


@pytest.mark.req("S1-87", "C27")
async def test_how_long_a_model_stays_is_not_for_callers_to_say(redis_url: str, wait_until: WaitUntil) -> None:
    backend = ScriptedBackend()
    messages = [Message(role="user", content="hi")]
    jobs = [
        NewJob(kind=Kind.CHAT, model=model, request=ChatRequest(model=model, messages=messages, keep_alive=wish))
        for model, wish in (("llama3.2", None), ("llama3.2", -1), ("pinned:latest", 0))
    ]
    async with bench(redis_url, backend) as on:
        await Pins(on.client.redis, on.client.keys).pin("pinned")
        await on.keep_alive.read()
        for job in jobs:
            await on.run(job, wait_until)
    assert [call.keep_alive for call in backend.calls] == [120.0, 120.0, -1.0]
