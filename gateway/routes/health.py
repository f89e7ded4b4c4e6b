"""Is it alive, can it work, what is missing: for people, probes and Prometheus."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import aiohttp
from aiohttp import web

from gateway.answers import json_response
from gateway.metrics_page import render
from gateway.request import GatewayRequest
from gateway.route_table import Role, Route
from gateway.services import VERSION, Services
from shared import egress
from shared.errors import ArrieroError, RouteNotFound
from shared.services.settings import NO_OLLAMA, OLLAMA
from shared.telemetry.metrics import CONTENT_TYPE, METRICS_OFF

DOWN = "unhealthy"
UP = "healthy"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _uptime_s(services: Services) -> float:
    return round(time.time() - services.started_at, 3)


async def live(request: GatewayRequest) -> web.Response:
    """Touches nothing but this process: a probe must not restart it for someone else's outage."""
    services = request.services
    return json_response({"status": "alive", "timestamp": _now(), "uptime": _uptime_s(services)})


async def parts_of(services: Services) -> tuple[dict[str, str], str]:
    """The state of each part, and how durable accepted jobs are (`none`, `aof-everysec`, ...; empty: unknown)."""
    stats, hosts = await asyncio.gather(
        asyncio.wait_for(services.queue.stats(), services.settings.healthcheck_timeout),
        services.catalogue.listing(),
        return_exceptions=True,
    )
    parts = {"redis": DOWN, "queue": DOWN, "ollama": DOWN}
    durability = ""
    if isinstance(stats, BaseException):
        if not isinstance(stats, ArrieroError | TimeoutError):
            raise stats
    else:
        parts["redis"] = UP if stats.takes_writes else "degraded"
        parts["queue"] = UP if stats.workers else "no workers"
        durability = stats.durability
    if not isinstance(hosts, BaseException):
        # Where Ollama is not a service, the part stands for those that are.
        hosts = services.catalogue.listing_of(OLLAMA) if OLLAMA in services.registry else hosts
        if hosts.answered:
            parts["ollama"] = UP if hosts.complete else "degraded"
    return parts, durability


async def ready(request: GatewayRequest) -> web.Response:
    """Ready means: can take jobs. Without model hosts jobs wait, so that is only `degraded`."""
    services = request.services
    parts, durability = await parts_of(services)
    takes_jobs = parts["redis"] == UP and not services.draining and services.keys.known
    if services.draining:
        status = "draining"
    elif not takes_jobs:
        status = "not ready"
    else:
        status = "ready" if all(state == UP for state in parts.values()) else "degraded"
    body = {"status": status, "timestamp": _now(), "services": parts, "durability": durability or "unknown"}
    return json_response(body, 200 if takes_jobs else 503)


async def overall(request: GatewayRequest) -> web.Response:
    services = request.services
    parts, durability = await parts_of(services)
    broken = parts["redis"] != UP
    status = DOWN if broken else UP if all(state == UP for state in parts.values()) else "degraded"
    body: dict[str, Any] = {
        "status": status,
        "timestamp": _now(),
        "uptime": _uptime_s(services),
        "version": VERSION,
        "services": parts,
        "durability": durability or "unknown",
    }
    return json_response(body, 503 if broken else 200)


async def ollama(request: GatewayRequest) -> web.Response:
    """A plain GET on each model host. 200 when one of them answers."""
    settings = request.services.settings
    urls, shown = settings.ollama_hosts, settings.shown_model_hosts
    timeout = aiohttp.ClientTimeout(total=settings.healthcheck_timeout)
    connector = aiohttp.TCPConnector(socket_factory=egress.open_socket)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        faults = await asyncio.gather(*(_probe(session, url) for url in urls))
    for url, fault in zip(shown, faults, strict=True):
        if fault is None:
            return json_response({"status": "ok", "message": "Ollama answers.", "url": url})
    body = {
        "status": "error",
        "message": "Ollama does not answer. Start it with `ollama serve`, or correct OLLAMA_BASE_URL."
        if urls
        else f"{NO_OLLAMA}.",
        "url": ", ".join(shown),
        "error_details": "; ".join(fault for fault in faults if fault) or "no host is configured",
    }
    return json_response(body, 503)


async def _probe(session: aiohttp.ClientSession, url: str) -> str | None:
    """None when the host answers, else why not."""
    try:
        async with session.get(url, allow_redirects=False) as response:
            return None if response.status < 500 else f"HTTP status {response.status}"
    except TimeoutError:
        return f"no answer within {session.timeout.total:g} s"
    except aiohttp.ClientConnectorError as error:
        return f"no connection ({error.os_error.strerror or type(error.os_error).__name__})"
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return type(error).__name__


async def metrics(request: GatewayRequest) -> web.Response:
    services = request.services
    if not services.settings.metrics_enabled:
        raise RouteNotFound(METRICS_OFF)
    page = await render(services.metrics, services.queue)
    return web.Response(body=page, headers={"Content-Type": CONTENT_TYPE})


ROUTES = [
    Route(
        method="GET",
        path="/health",
        handler=overall,
        role=Role.PUBLIC,
        summary="How everything is",
        tag="Health",
        answers={200: "GatewayHealth", 503: "GatewayHealth"},
    ),
    Route(
        method="GET",
        path="/health/live",
        handler=live,
        role=Role.PUBLIC,
        summary="Whether the process lives",
        tag="Health",
        answers={200: "Liveness"},
    ),
    Route(
        method="GET",
        path="/health/ready",
        handler=ready,
        role=Role.PUBLIC,
        summary="Whether jobs are accepted",
        tag="Health",
        answers={200: "Readiness", 503: "Readiness"},
    ),
    Route(
        method="GET",
        path="/health/ollama",
        handler=ollama,
        role=Role.PUBLIC,
        summary="Whether a model host answers",
        tag="Health",
        answers={200: "OllamaHealth", 503: "OllamaHealth"},
    ),
    Route(
        method="GET",
        path="/metrics",
        handler=metrics,
        role=Role.OPERATOR,
        summary="Metrics for Prometheus",
        tag="Operations",
        answers={200: "text/plain"},
    ),
]
