"""The direct face: which kinds of worker there are, which can be used now, and their models."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from gateway.answers import json_response
from gateway.catalogue import nobody_answers
from gateway.request import GatewayRequest
from gateway.route_table import Role, Route
from gateway.routes.direct import counted
from gateway.routes.health import UP, parts_of
from gateway.services import Services
from gateway.worker_types import WorkerType, find, worker_types
from shared.services.settings import OLLAMA


def kind_body(kind: WorkerType) -> dict[str, Any]:
    return {
        "worker_type": kind.name,
        "description": kind.description,
        "aliases": list(kind.aliases),
        "available": not kind.missing,
        "reason": kind.missing or None,
    }


def _kinds(services: Services) -> list[WorkerType]:
    return worker_types(services.router.world())


async def _trouble(services: Services) -> str:
    """Why nothing can be asked now, whatever its type; empty: something can."""
    parts, _ = await parts_of(services)
    if parts["redis"] != UP:
        return "the queue takes no jobs: GET /health says more"
    return "" if parts["queue"] == UP else "no worker process is running"


def _reason(services: Services, kind: WorkerType, trouble: str) -> str:
    """Why this type cannot be asked now; empty: it can."""
    if kind.missing or services.catalogue.listing_of(kind.service).answered:
        return kind.missing or trouble
    return "no model host answers: GET /health/ollama says why" if kind.service == OLLAMA else "the service is silent"


async def types(request: GatewayRequest) -> web.Response:
    return json_response({"worker_types": [kind_body(kind) for kind in _kinds(request.services)]})


async def workers(request: GatewayRequest) -> web.Response:
    services = request.services
    await services.catalogue.listing(wait=True)
    trouble = await _trouble(services)
    usable, unusable = [], []
    for kind in _kinds(services):
        reason = _reason(services, kind, trouble)
        if reason:
            unusable.append({"worker_type": kind.name, "reason": reason})
        else:
            models = len(services.catalogue.listing_of(kind.service).models)
            usable.append({"worker_type": kind.name, "description": kind.description, "models": models})
    return json_response({"workers": usable, "unavailable": unusable})


async def models(request: GatewayRequest) -> web.Response:
    services = request.services
    kind = find(request.match_info["worker_type"], _kinds(services))
    await services.catalogue.listing(wait=True)
    listing = services.catalogue.listing_of(kind.service)
    if not listing.answered:
        raise nobody_answers()
    listed = sorted(listing.models.values(), key=lambda info: info.name)
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
