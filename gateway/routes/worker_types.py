"""The direct face: which kinds of worker there are, which can be used now, and their models."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from gateway.answers import json_response
from gateway.route_table import Role, Route
from gateway.routes.direct import counted
from gateway.routes.health import DOWN, UP, parts_of
from gateway.services import SERVICES, Services
from gateway.worker_types import LOCAL, WORKER_TYPES, WorkerType, find


def kind_body(kind: WorkerType) -> dict[str, Any]:
    return {
        "worker_type": kind.name,
        "description": kind.description,
        "aliases": list(kind.aliases),
        "available": not kind.missing,
        "reason": kind.missing or None,
    }


async def _trouble(services: Services) -> str:
    """Why the local models cannot be used now; empty: they can."""
    parts, _ = await parts_of(services)
    if parts["redis"] != UP:
        return "the queue takes no jobs: GET /health says more"
    if parts["ollama"] == DOWN:
        return "no model host answers: GET /health/ollama says why"
    return "" if parts["queue"] == UP else "no worker process is running"


async def types(request: web.Request) -> web.Response:
    return json_response({"worker_types": [kind_body(kind) for kind in WORKER_TYPES]})


async def workers(request: web.Request) -> web.Response:
    services = request.app[SERVICES]
    listing = await services.catalogue.listing(wait=True)
    reasons = {kind.name: kind.missing for kind in WORKER_TYPES}
    reasons[LOCAL.name] = await _trouble(services)
    usable = [
        {"worker_type": kind.name, "description": kind.description, "models": len(listing.models)}
        for kind in WORKER_TYPES
        if not reasons[kind.name]
    ]
    unusable = [{"worker_type": name, "reason": reason} for name, reason in reasons.items() if reason]
    return json_response({"workers": usable, "unavailable": unusable})


async def models(request: web.Request) -> web.Response:
    kind = find(request.match_info["worker_type"])
    installed = await request.app[SERVICES].catalogue.installed()
    listed = sorted(installed.values(), key=lambda info: info.name)
    return json_response(
        {
            "worker_type": kind.name,
            "models": [{"model_id": info.name, "size_bytes": info.size_bytes} for info in listed],
        }
    )


ROUTES = [
    Route(
        method="GET",
        path="/workers/types",
        handler=counted(types),
        role=Role.INFERENCE,
        summary="List the worker types",
        tag="Direct",
        answers={200: "WorkerKinds"},
    ),
    Route(
        method="GET",
        path="/workers",
        handler=counted(workers),
        role=Role.INFERENCE,
        summary="List the worker types that can be used now",
        tag="Direct",
        answers={200: "UsableWorkers"},
    ),
    Route(
        method="GET",
        path="/workers/{worker_type}/models",
        handler=counted(models),
        role=Role.INFERENCE,
        summary="List the models of a worker type",
        tag="Direct",
        answers={200: "WorkerModels"},
        errors=(404, 503),
    ),
]
