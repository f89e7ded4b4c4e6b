"""The worker's composition root: its clients, its engine, its status pages, its life."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Mapping

import structlog
from redis.exceptions import RedisError

from shared.garbage import collect_seldom
from shared.jobs import INFERENCE_KINDS
from shared.lifecycle import StopSignal
from shared.pins import KeepAlive
from shared.queue.connection import connect
from shared.queue.engine import EngineOptions, QueueWorker
from shared.queue.keys import Keys
from shared.queue.scripts import Scripts
from shared.queue.slots import Slots
from shared.resilience.answer_cache import AnswerCache
from shared.resilience.breaker_store import Breakers
from shared.resilience.budget import RetryBudget
from shared.resilience.circuits import host_circuit
from shared.resilience.response_cache import ResponseCache
from shared.services.registrations import Registrations
from shared.status_server import HEALTHY, StatusServer, own_version
from shared.usage.learning import LearnedEstimates
from shared.usage.reader import UsageReader
from shared.usage.recorder import UsageRecorder
from worker.execution import Execution
from worker.fleet import Fleet
from worker.guards import Guards
from worker.hosts import Hosts
from worker.itineraries import Itineraries
from worker.metrics import WorkerMetrics
from worker.observation import Observation
from worker.places import Places
from worker.scheduling.planner import ModelPlanner, capacity_of
from worker.scheduling.watch import Watch
from worker.settings import WorkerSettings

log = structlog.get_logger()

STALLED_AFTER_S = 10.0
"""A claim loop that has not turned for this long is stuck."""


SPARE_CONNECTIONS = 8
"""To each host, beside those that jobs take: for probes, the list of loaded models, and calls that a batch parts in
two. Slots bound the calls, not these."""


class WorkerService:
    """One worker process."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        settings.guard_egress()
        self.hosts = Hosts(
            probe_timeout_s=settings.healthcheck_timeout,
            slots=settings.worker_concurrency,
            on_answer=lambda host, model: self.watch.answered(host, model),
        )
        registry = settings.new_registry()
        fleet = Fleet(registry, self.hosts, pool_size=settings.worker_concurrency + SPARE_CONNECTIONS)
        fleet.follow()
        log.info("services.in_force", **registry.summary)
        # Replicas may share WORKER_ID (a scaled compose service does); the queue needs each process to have its own
        # name.
        worker_id = f"{settings.worker_id}.{os.getpid()}.{secrets.token_hex(2)}"
        keys = Keys(settings.queue_shard)
        # Not the engine's: what waits here must never hold up a claim or a settlement.
        self._redis = connect(settings)
        self.registrations = Registrations(
            self._redis,
            keys,
            registry,
            allowed=settings.allow_service_registration,
            airgap=settings.airgap_mode,
            on_change=fleet.follow,
        )
        self.usage = UsageRecorder(self._redis, keys)
        self.estimates = LearnedEstimates(UsageReader(self._redis, keys))
        self.keep_alive = KeepAlive(self._redis, keys, unload_after_s=settings.model_unload_timeout)
        self.observation = Observation(
            WorkerMetrics(settings.worker_id), self.usage,
            sample_rate=settings.performance_sample_rate, log_prompts=settings.log_prompts,
        )  # fmt: skip
        self.breakers = Breakers(
            self._redis,
            keys,
            settings.breaker_policy,
            worker_id=worker_id,
            enabled=settings.enable_circuit_breaker,
            on_change=self.observation.circuit_changed,
        )
        self.guards = Guards(self.breakers, RetryBudget(self._redis, keys, settings.budget_policy))
        self.cache = AnswerCache(self._redis, keys, settings.cache_policy) if settings.answer_cache_enabled else None
        self.responses = ResponseCache(self._redis, keys, settings.response_cache_policy)
        self.watch = Watch(
            self._redis, keys, self.hosts, worker_id=worker_id, limit_s=settings.healthcheck_timeout,
            is_busy=lambda: self.planner.is_busy or bool(self.engine.running),
        )  # fmt: skip
        self.planner = ModelPlanner(
            self.hosts,
            settings.knobs,
            max_loaded=settings.ollama_max_loaded_models,
            is_open=lambda host: self.breakers.is_open(host_circuit(host)),
            weights=lambda host: self.estimates.current.weights(host),
            on_sightings=self.watch.seen,
            unlisted=self.watch.unlisted,
        )
        execution = Execution(
            self.hosts,
            timeouts=settings.call_timeouts,
            policy=settings.retry_policy,
            observation=self.observation,
            guards=self.guards,
            fallback=settings.fallback_policy,
            cache=self.cache,
            responses=self.responses,
            stay_s=self.keep_alive.seconds,
            itineraries=Itineraries(
                registry,
                settings.fallback_policy,
                allowed=settings.allowed_models,
                across=settings.enable_fallback,
                newcomers=settings.allow_service_registration,
            ),
            places=Places(Slots(Scripts(self._redis, keys)), self.hosts, settings.knobs, swap=self.planner.swap),
        )
        self.engine = QueueWorker(
            dict.fromkeys(INFERENCE_KINDS, execution.run),
            redis=connect(settings),
            blocking=connect(settings, socket_timeout_s=15.0),
            shard=settings.queue_shard,
            options=EngineOptions(
                worker_id=worker_id,
                slots=settings.worker_concurrency,
                drain_s=settings.worker_drain_timeout,
                version=own_version(),
                capacity=capacity_of(settings.knobs, self.hosts.names(), max_loaded=settings.ollama_max_loaded_models),
                on_settled=self.observation.settled,
            ),
            planner=self.planner,
        )

    async def readiness(self) -> Mapping[str, str]:
        """Redis and the claim loop decide; with Ollama away a worker is degraded: it takes jobs, and retries them."""
        try:
            await self.engine.pool.ping()
            redis = HEALTHY
        except (RedisError, OSError) as exc:
            redis = f"unreachable ({type(exc).__name__})"
        queue = HEALTHY if self.engine.allow_pick_jobs else "draining"
        if self.engine.idle_for_s > STALLED_AFTER_S and redis == HEALTHY:
            queue = "stalled"
        return {"redis": redis, "queue": queue, "ollama": HEALTHY if await self.hosts.is_up() else "unreachable"}

    async def refresh(self) -> None:
        self.observation.refresh(
            models_loaded=len(await self.hosts.loaded()),
            in_flight=len(self.engine.running),
            stale_writes=self.engine.outbox.stale_writes,
            lost_leases=self.engine.runs.lost_leases,
            circuits=self.breakers.snapshot(),
        )

    async def run(self) -> None:
        """Work until SIGTERM or SIGINT and the drain that follows."""
        pages = StatusServer(
            "worker",
            self.observation.metrics,
            self.readiness,
            refresh=self.refresh,
            identity={"workerId": self.settings.worker_id},
            optional=("ollama",),
            metrics_enabled=self.settings.metrics_enabled,
        )
        # Not installed: the engine's signal handlers come first, the pages stay up through the drain.
        closed = StopSignal()
        serving = asyncio.create_task(pages.serve(self.settings.worker_host, self.settings.worker_port, closed))
        await self.registrations.start()
        await self.guards.start()
        await self.usage.start()
        await self.estimates.start()
        await self.keep_alive.start()
        await self.watch.start()
        working = asyncio.create_task(self.engine.async_run())
        try:
            # The pages fail at once when their port is taken; the engine ends when it was told to.
            await asyncio.wait((serving, working), return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                working.cancel()
        finally:
            await asyncio.gather(working, return_exceptions=True)
            await self.engine.close()
            await self.watch.stop()
            await self.hosts.aclose()
            if self.cache is not None:
                await self.cache.aclose()
            await self.responses.aclose()
            await self.registrations.stop()
            await self.guards.stop()
            await self.keep_alive.stop()
            await self.estimates.stop()
            await self.usage.stop()
            await self._redis.aclose(close_connection_pool=True)
            closed.request()
            await serving
        if working.done() and not working.cancelled() and working.exception() is not None:
            raise working.exception() or RuntimeError("unreachable")
        log.info("worker.stopped", completed=self.engine.jobs_complete)


async def run(settings: WorkerSettings) -> None:
    service = WorkerService(settings)
    collect_seldom()
    await service.run()
