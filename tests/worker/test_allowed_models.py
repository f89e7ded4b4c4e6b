"""A worker runs no model that ALLOWED_MODELS shuts out, whoever let the job in."""

from __future__ import annotations

import pytest

from shared.backends.base import CallTimeouts
from shared.jobs import State
from shared.resilience.backoff import RetryPolicy
from shared.resilience.breaker import BreakerPolicy
from shared.resilience.breaker_store import Breakers
from shared.resilience.budget import RetryBudget
from shared.services.registry import Registry
from tests.conftest import WaitUntil
from tests.shared.queue.rig import chat, queue_client, working
from tests.worker.scripted_backend import ScriptedBackend
from worker.execution import Execution
from worker.fallback import FallbackPolicy
from worker.guards import Guards
from worker.hosts import OUR_OLLAMA, Hosts
from worker.itineraries import Itineraries
from worker.metrics import WorkerMetrics
from worker.observation import Observation


@pytest.mark.req("S1-83")
@pytest.mark.parametrize(
    ("allowed", "state"), [(["mistral"], State.DEAD_LETTERED), (["Llama3.2:latest"], State.SUCCEEDED)]
)
async def test_only_allowed_models_run(redis_url: str, wait_until: WaitUntil, allowed: list[str], state: State) -> None:
    backend = ScriptedBackend()
    async with queue_client(redis_url) as client:
        breakers = Breakers(client.redis, client.keys, BreakerPolicy(), worker_id="w1")
        execution = Execution(
            Hosts([backend], probe_timeout_s=1), timeouts=CallTimeouts(), policy=RetryPolicy(tries=1),
            observation=Observation(WorkerMetrics("w1")),
            guards=Guards(breakers, RetryBudget(client.redis, client.keys)),
            itineraries=Itineraries(Registry([OUR_OLLAMA]), FallbackPolicy(), allowed=allowed),
        )  # fmt: skip
        job = chat("hi")
        async with working(redis_url, execution.run):
            await client.enqueue(job)

            async def is_over() -> bool:
                record = await client.get(job.id)
                return record is not None and record.state.is_terminal

            await wait_until(is_over, description="the job ended")
        record = await client.get(job.id)
    assert record is not None
    assert record.state is state
    assert bool(backend.calls) is (state is State.SUCCEEDED)
    if state is State.DEAD_LETTERED:
        assert record.dead_letter_reason == "model_not_found"
