"""A worker's execution on a real queue, in this event loop, against simulators."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from infra.simulator import Simulator
from infra.simulator.faults import Fault, Match
from shared.backends.base import Backend, CallTimeouts
from shared.backends.ollama import OllamaBackend
from shared.jobs import JobRecord, Kind, NewJob
from shared.queue.client import QueueClient
from shared.queue.connection import connect
from shared.queue.keys import Keys
from shared.queue.scripts import Scripts
from shared.queue.slots import Slots
from shared.resilience.answer_cache import AnswerCache
from shared.resilience.answer_store import CachePolicy
from shared.resilience.backoff import RetryPolicy
from shared.resilience.breaker import BreakerPolicy
from shared.resilience.breaker_store import Breakers
from shared.resilience.budget import BudgetPolicy, RetryBudget
from shared.resilience.response_cache import ResponseCache
from shared.services.config import ServiceConfig
from shared.services.registry import Registry
from shared.wire.canonical import ChatRequest, EmbeddingRequest, Message, TextAnswer
from shared.wire.codec import decode_answer
from tests.shared.queue.rig import queue_client, settings_for, working
from worker.execution import Execution
from worker.fallback import FallbackPolicy, Route
from worker.fleet import Fleet
from worker.guards import Guards
from worker.hosts import OUR_OLLAMA, Hosts
from worker.itineraries import Itineraries
from worker.metrics import WorkerMetrics
from worker.observation import Observation
from worker.places import Places
from worker.scheduling.planner import ModelPlanner
from worker.scheduling.policy import Knobs
from worker.scheduling.watch import Watch

INSTANT: dict[str, Any] = {
    "load_seconds": 0.0, "first_token_seconds": 0.0, "tokens_per_second": 0.0, "ready_poll_seconds": 0.01,
    "max_loaded_models": 8, "parallel": 64,
}  # fmt: skip
QUICK = RetryPolicy(base_s=0.02, cap_s=0.05)
INFERENCE = ("/api/chat", "/api/generate", "/api/embed")


def chat(text: str = "hi", model: str = "llama3.2", *, tools: Sequence[dict[str, Any]] = (), **fields: Any) -> NewJob:
    request = ChatRequest(model=model, messages=[Message(role="user", content=text)], tools=list(tools))
    return NewJob(kind=Kind.CHAT, model=model, request=request, timeout_s=fields.pop("timeout_s", 20.0), **fields)


def embedding(model: str = "nomic-embed-text") -> NewJob:
    return NewJob(kind=Kind.EMBEDDING, model=model, request=EmbeddingRequest(model=model, inputs=["x"]), timeout_s=20.0)


def fault(simulator: Simulator, kind: Any = "status", *, model: str | None = None, **fields: Any) -> None:
    simulator.faults.add(Fault(kind=kind, match=Match(model=model), **fields))


def calls(simulator: Simulator, job_id: str = "") -> list[str]:
    """The models of the inference calls that reached it, in order."""
    return [
        call.model.removesuffix(":latest")
        for call in simulator.calls.entries("call")
        if call.path in INFERENCE and job_id in ("", call.request_id)
    ]


class Bench:
    """A queue with a running worker."""

    def __init__(
        self,
        queue: QueueClient,
        execution: Execution,
        breakers: Breakers,
        metrics: WorkerMetrics,
        registry: Registry,
        fleet: Fleet,
    ) -> None:
        self.queue = queue
        self.execution = execution
        self.breakers = breakers
        self.metrics = metrics
        self.registry = registry
        self.fleet = fleet

    def services_with_calls(self, place: Route) -> list[str]:
        """The service of that place while a call of this worker is under way there."""
        hosts = self.execution._hosts
        try:
            return [hosts.service_of(place.host).name] if hosts.under_way(place) else []
        except KeyError:
            return []

    async def submit(self, job: NewJob) -> str:
        await self.queue.enqueue(job)
        return job.id

    async def ended(self, job_id: str, wait_until: Any, timeout_s: float = 20.0) -> JobRecord:
        found: list[JobRecord] = []

        async def is_over() -> bool:
            record = await self.queue.get(job_id)
            if record is not None and record.state.is_terminal:
                found.append(record)
            return bool(found)

        await wait_until(is_over, timeout_s, description=f"{job_id} ended")
        return found[0]

    async def run(self, job: NewJob, wait_until: Any) -> JobRecord:
        return await self.ended(await self.submit(job), wait_until)


def text_of(record: JobRecord) -> TextAnswer:
    assert record.result is not None, record.error
    answer = decode_answer(record.kind, record.result)
    assert isinstance(answer, TextAnswer)
    return answer


@asynccontextmanager
async def bench(
    redis_url: str,
    urls: Sequence[str],
    *,
    fallback: FallbackPolicy | None = None,
    retry: RetryPolicy = QUICK,
    breaker: BreakerPolicy | None = None,
    budget: BudgetPolicy | None = None,
    cache: CachePolicy | None = None,
    timeouts: CallTimeouts | None = None,
    breaking: bool = True,
    slots: int = 8,
    backend: Callable[[str], Backend] = OllamaBackend,
    services: Sequence[ServiceConfig] = (),
    across: bool = True,
    airgap: bool = False,
    allowed: Sequence[str] = (),
    backends_of: Callable[[ServiceConfig], Sequence[Backend]] | None = None,
    knobs: Knobs | None = None,
    max_loaded: int = 0,
) -> AsyncIterator[Bench]:
    """One worker on these Ollama hosts, or on `services`. `breaking=False`: its circuits never open.

    `knobs`: it plans by them what to start where; else it runs whatever comes. `max_loaded`: how many models a
    host's memory holds, 0 if not known.
    """
    settings = settings_for(redis_url)
    keys = Keys(settings.queue_shard)
    redis = connect(settings)
    breakers = Breakers(redis, keys, breaker or BreakerPolicy(), worker_id="w1", enabled=breaking)
    guards = Guards(breakers, RetryBudget(redis, keys, budget))
    kept = AnswerCache(redis, keys, cache) if cache else None
    responses = ResponseCache(redis, keys)
    hosts = Hosts(
        [backend(url) for url in urls], probe_timeout_s=2.0, slots=slots,
        on_answer=lambda host, model: watch.answered(host, model),
    )  # fmt: skip
    scheduler = places = None
    if knobs is not None:
        scheduler = ModelPlanner(hosts, knobs, max_loaded=max_loaded, on_sightings=lambda seen: watch.seen(seen))
        places = Places(Slots(Scripts(redis, keys)), hosts, knobs, swap=scheduler.swap)
    watch = Watch(redis, keys, hosts, worker_id="w1", limit_s=2.0, is_busy=lambda: scheduler is not None)
    registry = Registry(services or [OUR_OLLAMA], airgap=airgap)
    fleet = Fleet(registry, hosts, pool_size=slots)
    if backends_of is not None:
        for service in registry.all():
            hosts.put(service, backends_of(service))
    elif services:
        fleet.follow()
    metrics = WorkerMetrics("w1")
    execution = Execution(
        hosts, timeouts=timeouts or CallTimeouts(), policy=retry, observation=Observation(metrics), guards=guards,
        fallback=fallback, cache=kept, responses=responses, places=places,
        itineraries=Itineraries(registry, fallback or FallbackPolicy(), allowed=allowed, across=across),
    )  # fmt: skip
    await guards.start()
    if scheduler is not None:
        await watch.start()
    try:
        async with (
            queue_client(redis_url) as queue,
            working(redis_url, execution.run, slots=slots, planner=scheduler),
        ):
            yield Bench(queue, execution, breakers, metrics, registry, fleet)
    finally:
        if kept is not None:
            await kept.aclose()
        await responses.aclose()
        await watch.stop()
        await guards.stop()
        await hosts.aclose()
        await redis.aclose(close_connection_pool=True)
