"""The composition root: the one place that builds the gateway's parts and wires them."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from typing import Any

from aiohttp import web

from gateway import openapi as description
from gateway.abandon import Abandoned
from gateway.batches.store import BatchStore, FileStore
from gateway.body import bodiless
from gateway.catalogue import Catalogue
from gateway.connections import ConnectionLimits, GuardedRunner
from gateway.conversations import Conversations
from gateway.load import LoadView
from gateway.metrics import GatewayMetrics
from gateway.metrics_page import RequestMeter
from gateway.middleware import FrontMiddleware
from gateway.model_hosts import ModelHosts, in_memory, ollama_hosts
from gateway.positions import PositionBoard
from gateway.rate_limit import AddressLimit
from gateway.replies import Replies
from gateway.request_options import HEADER_PATTERNS
from gateway.route_table import Route
from gateway.router import Router
from gateway.routes import (
    admin,
    anthropic,
    batches,
    circuits,
    dead_letters,
    direct,
    docs,
    health,
    jobs,
    llm,
    model_job_events,
    model_jobs,
    ollama,
    ollama_models,
    openai,
    providers,
    routing,
    submission,
    templates,
    worker_types,
)
from gateway.routes.anthropic_answers import ANTHROPIC_ANSWERS
from gateway.routes.dead_letter_answers import DEAD_LETTER_ANSWERS
from gateway.routes.direct_bodies import DIRECT_ANSWERS, DirectChatBody, DirectGenerateBody
from gateway.routes.health_answers import HEALTH_ANSWERS
from gateway.routes.llm_answers import LLM_ANSWERS
from gateway.routes.model_job_bodies import MODEL_JOB_ANSWERS
from gateway.routes.ollama_answers import OLLAMA_ANSWERS
from gateway.routes.provider_bodies import PROVIDER_ANSWERS
from gateway.service_models import ServiceModels
from gateway.services import VERSION, Services
from gateway.settings import GatewaySettings
from shared.access import KeyWatch
from shared.api_keys import ApiKey, as_key_store, list_keys
from shared.catalogue.table import ModelTable
from shared.lifecycle import ConfigFault, listen
from shared.operations.orders import Orders, models_shard
from shared.queue.client import QueueClient
from shared.queue.fleet import Standing
from shared.resilience.response_cache import ResponseCache
from shared.services.backends import ServiceBackends
from shared.services.health import ServiceHealths
from shared.services.registrations import Registrations
from shared.services.settings import OLLAMA
from shared.telemetry.logging import logger
from shared.usage.learning import LearnedEstimates
from shared.usage.reader import UsageReader
from shared.wire.openai_render import to_json

log = logger("gateway")

ROUTES: list[Route] = [
    *openai.ROUTES,
    *ollama.ROUTES,
    *ollama_models.ROUTES,
    *anthropic.ROUTES,
    *direct.ROUTES,
    *worker_types.ROUTES,
    *templates.ROUTES,
    *submission.ROUTES,
    *jobs.ROUTES,
    *batches.ROUTES,
    *routing.ROUTES,
    *providers.ROUTES,
    *llm.ROUTES,
    *model_jobs.ROUTES,
    *model_job_events.ROUTES,
    *health.ROUTES,
    *admin.ROUTES,
    *circuits.ROUTES,
    *dead_letters.ROUTES,
    *docs.ROUTES,
]
CATALOGUE_CONNECTIONS = 2
METRICS_PATH = "/metrics"
GOODBYE_S = 1.0
"""For the last words of requests that outlived the drain."""


def build_app(services: Services) -> web.Application:
    """The application with every declared route, and no other."""
    # Any, since aiohttp's types know no requests but its own.
    front: Any = FrontMiddleware(services)
    app = web.Application(middlewares=[front])
    for route in ROUTES:
        handler: Any = bodiless(route.handler) if route.refuses_bodies else route.handler
        services.routes[app.router.add_route(route.method, route.path, handler)] = route
    described = description.document(
        [route for route in ROUTES if services.settings.metrics_enabled or route.path != METRICS_PATH],
        version=VERSION,
        keys_required=not services.settings.on_loopback,
        more_answers=(
            *HEALTH_ANSWERS,
            *batches.BATCH_ANSWERS,
            *circuits.CIRCUIT_ANSWERS,
            *DEAD_LETTER_ANSWERS,
            *OLLAMA_ANSWERS,
            *ANTHROPIC_ANSWERS,
            *DIRECT_ANSWERS,
            routing.Decision,
            *PROVIDER_ANSWERS,
            *LLM_ANSWERS,
            *MODEL_JOB_ANSWERS,
        ),
    )
    description.narrow_headers(described, HEADER_PATTERNS)
    _narrow_prompts(described, services.settings.max_prompt_chars)
    services.openapi = to_json(described)
    return app


def _narrow_prompts(described: description.Document, max_chars: int) -> None:
    """Say in the description how long a prompt may be here."""
    for body, text in ((DirectGenerateBody, "prompt"), (DirectChatBody, "message")):
        described["components"]["schemas"][body.__name__]["properties"][text]["maxLength"] = max_chars


class Gateway:
    """A gateway: `start`, `drain`, `stop`. Each may be called twice; `stop` also before `start`."""

    def __init__(self, settings: GatewaySettings) -> None:
        self.settings = settings
        self.port = 0
        self.services: Services | None = None
        self._stack = contextlib.AsyncExitStack()
        self._site: web.TCPSite | None = None
        self._runner: GuardedRunner | None = None

    async def start(self) -> None:
        """Build everything and listen. Raises ConfigFault for a setting that cannot work here."""
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        settings = self.settings
        queue = await QueueClient.connect(settings, limits=settings.queue_limits)
        self._stack.push_async_callback(queue.aclose)

        async def read_keys() -> list[ApiKey]:
            return await list_keys(as_key_store(queue.redis), settings.queue_shard)

        keys = KeyWatch(read_keys)
        await keys.start()
        self._stack.push_async_callback(keys.stop)
        if keys.none_exist and not settings.on_loopback:
            raise ConfigFault(
                f"GATEWAY_HOST: {settings.gateway_host} can be reached from other machines, and there is no API key. "
                "Create one with `arriero keys create --tenant <name> --role inference`, or listen on 127.0.0.1."
            )
        replies = Replies(queue, f"{socket.gethostname()[:32]}-{secrets.token_hex(6)}")
        await replies.start()
        self._stack.push_async_callback(replies.stop)

        metrics = GatewayMetrics()
        settings.guard_egress()
        registry = settings.new_registry()
        log.info("services.in_force", **registry.summary)
        service_backends = ServiceBackends(registry, pool_size=CATALOGUE_CONNECTIONS)
        self._stack.push_async_callback(service_backends.aclose)
        catalogue = Catalogue(service_backends, settings.allowed_models, default=lambda: registry.default_service)
        self._stack.push_async_callback(catalogue.stop)
        hosts = ModelHosts(lambda: ollama_hosts(service_backends), settings.allowed_models)
        self._stack.push_async_callback(hosts.stop)
        health = ServiceHealths(
            service_backends,
            every_s=settings.ollama_health_check_interval,
            probe_s=settings.healthcheck_timeout,
            automatic=settings.ollama_auto_health_check,
        )
        await health.start()
        self._stack.push_async_callback(health.stop)
        registrations = Registrations(
            queue.redis,
            queue.keys,
            registry,
            allowed=settings.allow_service_registration,
            airgap=settings.airgap_mode,
        )
        await registrations.start()
        self._stack.push_async_callback(registrations.stop)
        table = ModelTable(queue.redis, queue.keys)
        self._stack.push_async_callback(table.stop)
        operations = QueueClient(queue.redis, models_shard(settings.queue_shard))
        orders = Orders(operations, [host.name for host in service_backends.of(OLLAMA)], settings.allowed_models)
        router = Router(
            registry,
            catalogue,
            settings.routing_policy,
            metrics,
            loaded=lambda: in_memory(service_backends),
            shows_qualified=settings.response_model_name == "qualified",
        )
        estimates = LearnedEstimates(UsageReader(queue.redis, queue.keys))
        await estimates.start()
        self._stack.push_async_callback(estimates.stop)
        load = LoadView(queue.fleet, lambda: estimates.current)

        async def read_standings(job_ids: list[str]) -> dict[str, Standing]:
            await load.refresh()
            return await queue.standings(job_ids)

        positions = PositionBoard(read_standings)
        self._stack.push_async_callback(positions.stop)
        abandoned = Abandoned(queue.cancel, metrics.abandoned.inc)
        self._stack.push_async_callback(abandoned.stop)

        self.services = Services(
            settings=settings,
            queue=queue,
            replies=replies,
            keys=keys,
            catalogue=catalogue,
            registry=registry,
            backends=service_backends,
            health=health,
            registrations=registrations,
            models=ServiceModels(registry, service_backends.of, table, orders, settings.allowed_models),
            orders=orders,
            router=router,
            hosts=hosts,
            positions=positions,
            load=load,
            estimates=estimates,
            abandoned=abandoned,
            responses=ResponseCache(queue.redis, queue.keys),
            files=FileStore(queue.redis, queue.keys, settings.file_limits),
            batches=BatchStore(queue.redis, queue.keys),
            conversations=Conversations(queue.redis, queue.keys, settings.memory_limits),
            keyless=AddressLimit(settings.rate_limit_per_minute),
            metrics=metrics,
            meter=RequestMeter(metrics),
        )
        limits = ConnectionLimits(
            max_connections=settings.max_connections,
            header_timeout_s=settings.header_timeout,
            keepalive_timeout_s=settings.keepalive_timeout,
            max_line_bytes=settings.max_header_line_bytes,
            max_headers=settings.max_header_count,
        )
        self._runner = GuardedRunner(build_app(self.services), self.services, limits)
        await self._runner.setup()
        self._stack.push_async_callback(self._runner.cleanup)
        self._site, self.port = await listen(self._runner, "gateway", settings.gateway_host, settings.gateway_port)
        await self._warn_about_durability(queue)

    async def _warn_about_durability(self, queue: QueueClient) -> None:
        try:
            durability = (await queue.stats()).durability
        except Exception as error:  # Redis may come later; readiness tells
            log.warning("gateway.redis_not_there_yet", error=type(error).__name__)
            return
        if durability == "none":
            log.warning("gateway.jobs_not_durable", hint="Redis keeps no append-only file: set `appendonly yes`.")

    async def drain(self) -> None:
        """Take no new connections, report not ready, and let running requests end, up to DRAIN_TIMEOUT."""
        services, site = self.services, self._site
        if services is None or services.draining:
            return
        services.draining = True
        if site is not None:
            await site.stop()
        try:
            async with asyncio.timeout(self.settings.drain_timeout):
                await services.meter.idle.wait()
        except TimeoutError:
            log.warning("gateway.drain_timeout", requests=len(services.meter.requests))
            services.cutting_off = True
            for request in list(services.meter.requests):
                request.task.cancel()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GOODBYE_S):
                    await services.meter.idle.wait()

    async def stop(self) -> None:
        """End everything, in the reverse order of its start: connections first, Redis last."""
        if self.services is not None:
            # Whoever is still connected is cut off by us, not the other way round: their jobs go on.
            self.services.draining = True
        await self._stack.aclose()
