"""The model manager's composition root: its clients, its part of the queue, its pages, its life."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress

from manager.catalogue_pages import CataloguePages
from manager.facts import Facts
from manager.imports import ImportFolder
from manager.leader import Leadership
from manager.leading import Leading
from manager.maintenance import Maintenance
from manager.metrics import ManagerMetrics
from manager.operations import Operations
from manager.registries.search import Registries
from manager.routes import Routes
from manager.settings import ManagerSettings
from shared.backends.ollama import OllamaBackend
from shared.background import AWAY, end_task
from shared.catalogue.table import ModelTable, Place
from shared.errors import ArrieroError, ErrorRecord
from shared.jobs import Kind
from shared.lifecycle import StopSignal, open_logs
from shared.operations.orders import TENANT, Orders, models_shard
from shared.pages import PageGuard
from shared.queue.client import QueueClient
from shared.queue.connection import connect
from shared.queue.cron import CronEntry
from shared.queue.engine import EngineOptions, QueueWorker
from shared.queue.running import RunningJob
from shared.services.settings import NO_OLLAMA, OLLAMA
from shared.status_server import HEALTHY, StatusServer, own_version
from shared.telemetry.logging import logger
from shared.telemetry.metrics import PAGE_LIMIT_S
from shared.wire.codec import decode_operation
from shared.wire.operations import Maintenance as MaintenanceOrder

log = logger("manager")

SLOTS = 8
"""Operations one manager runs at a time."""
SWEEP_EVERY_S = 10.0


class Manager:
    """One manager process. Every manager carries out operations; the leader among them decides."""

    def __init__(self, settings: ManagerSettings) -> None:
        self.settings = settings
        settings.guard_egress()
        self.metrics = ManagerMetrics()
        self.backends = [OllamaBackend(url) for url in settings.ollama_hosts]
        if not self.backends:
            log.info("manager.no_hosts", reason=NO_OLLAMA)
        self.jobs = QueueClient(connect(settings), settings.queue_shard)
        shard = models_shard(settings.queue_shard)
        self.queue = QueueClient(connect(settings), shard)
        self.orders = Orders(self.queue, [backend.name for backend in self.backends], settings.allowed_models)
        self.facts = Facts(settings, self.backends, self.jobs, self.orders)
        maintenance = Maintenance(settings, self.facts, self.orders)
        # Two managers may run on one host, and one under the pid of another that died.
        name = f"{socket.gethostname()[:32]}.{os.getpid()}.{secrets.token_hex(2)}"
        self.leadership = Leadership(self.jobs.redis, self.jobs.keys, name=name)
        self._leading = Leading(settings, self.facts, self.orders, self.jobs.keys, self.metrics)
        self.metrics.leader.set_function(lambda: float(self.leadership.is_leader))
        self.table = ModelTable(self.jobs.redis, self.jobs.keys)
        operations = Operations(
            {backend.name: backend for backend in self.backends},
            self.facts,
            pulled=self.metrics.pull_bytes,
            imports=ImportFolder(settings.model_import_dir),
            changed=lambda: self.table.outdated(OLLAMA),
        )
        self.engine = QueueWorker(
            {Kind.MODEL_OP: operations.run},
            redis=connect(settings),
            blocking=connect(settings, socket_timeout_s=15.0),
            shard=shard,
            options=EngineOptions(
                worker_id=name, slots=SLOTS, version=own_version(), handle_signals=False, on_settled=self._settled
            ),
            cron=[
                CronEntry(
                    kind=Kind.MAINTENANCE, run=maintenance.run, request=MaintenanceOrder(),
                    hour=settings.model_maintenance_hour, tenant=TENANT,
                )
            ],
        )  # fmt: skip
        self.registries = Registries(
            {"ollama": settings.ollama_library_url, "huggingface": settings.huggingface_url},
            self.jobs.redis,
            self.jobs.keys,
            off="AIRGAP_MODE is on, so no registry is searched." if settings.airgap_mode else "",
            timeout_s=settings.registry_timeout,
            ttl_s=settings.registry_cache_ttl,
        )
        listed = next((one.models for one in settings.configured_services if one.name == OLLAMA), ())
        ours = Place(
            service=OLLAMA, backends=self.backends, loads=True, limit_s=settings.healthcheck_timeout, listed=listed
        )
        self.pages = [
            *Routes(settings, self.facts, self.orders, maintenance, self.leadership).pages,
            *CataloguePages(self.table, ours, self.registries).pages,
        ]

    def _settled(self, job: RunningJob, state: str, seconds: float, error: ErrorRecord | None) -> None:
        op = _op_of(job)
        self.metrics.operations.labels(op, _OUTCOMES.get(state, "lost")).inc()
        self.metrics.operation_seconds.labels(op).observe(seconds)
        told = {"operation": job.id, "op": op, "model": job.notes.model, "state": state, "seconds": round(seconds, 3)}
        if error is not None and error.code:
            log.warning("operation.failed", **told, code=error.code, error=error.message)
        else:
            log.info("operation.ended", **told)

    async def readiness(self) -> Mapping[str, str]:
        """Ready with Redis and, if there are model servers, one of them: the others' errors are for /models to show."""
        try:
            await self.jobs.ping()
            redis = HEALTHY
        except ArrieroError as error:
            redis = error.message
        if not self.backends:
            return {"redis": redis}
        hosts = await self.facts.hosts()
        silent = "; ".join(f"{host.host}: {host.error}" for host in hosts)
        return {"redis": redis, "ollama": HEALTHY if any(not host.error for host in hosts) else silent}

    async def refresh(self) -> None:
        hosts = await self.facts.hosts()
        self.metrics.update(hosts)
        # Without Redis the page goes without scores.
        with suppress(ArrieroError, *AWAY):
            async with asyncio.timeout(PAGE_LIMIT_S):
                scores = await self.facts.scores(hosts, await self.facts.usage())
            self.metrics.models.show_scores({model: score.score for model, score in scores.items()})

    async def run(self, stop: StopSignal) -> None:
        """Serve, lead, and carry out operations until `stop`. Raises ConfigFault for an address it cannot serve."""
        async with AsyncExitStack() as closing:
            for backend in self.backends:
                closing.push_async_callback(backend.aclose)
            closing.push_async_callback(self.registries.aclose)
            for client in (self.jobs, self.queue):
                closing.push_async_callback(client.aclose)
            closing.push_async_callback(self.table.stop)
            closing.push_async_callback(self._stop_engine, asyncio.create_task(self.engine.async_run()))
            await self.leadership.start()
            closing.push_async_callback(self.leadership.stop)
            leading = asyncio.create_task(self.leadership.lead(self._leading.work), name="leading")
            closing.push_async_callback(end_task, leading)
            closing.push_async_callback(end_task, asyncio.create_task(self._sweep(), name="sweep"))
            guard = PageGuard.on(self.jobs.redis, self.settings.queue_shard, self.settings.manager_host)
            server = StatusServer(
                "manager",
                self.metrics,
                self.readiness,
                refresh=self.refresh,
                pages=self.pages,
                guard=guard,
                identity={} if self.backends else {"ollama": NO_OLLAMA},
                metrics_enabled=self.settings.metrics_enabled,
            )
            await server.serve(self.settings.manager_host, self.settings.manager_port, stop)

    async def _stop_engine(self, working: asyncio.Task[None]) -> None:
        await self.engine.close()
        with suppress(asyncio.CancelledError):
            await working

    async def _sweep(self) -> None:
        """The gateways look after their shard, the managers after theirs."""
        while True:
            with suppress(ArrieroError, *AWAY):
                await self.queue.sweep()
            await asyncio.sleep(SWEEP_EVERY_S)


_OUTCOMES = {
    "succeeded": "succeeded",
    "dead_lettered": "failed",
    "cancelled": "cancelled",
    "expired": "expired",
    "scheduled": "retried",
    "queued": "handed_back",
}
"""What became of a run, by the state of its job afterwards."""


def _op_of(job: RunningJob) -> str:
    if job.kind != Kind.MODEL_OP:
        return job.kind or "unreadable"
    try:
        return decode_operation(job.raw_request).op
    except ArrieroError:  # its run has ended for that very reason
        return "unreadable"


async def run(settings: ManagerSettings) -> None:
    """Serve until SIGTERM or SIGINT."""
    open_logs("manager", settings)
    stop = StopSignal()
    stop.install()
    await Manager(settings).run(stop)
