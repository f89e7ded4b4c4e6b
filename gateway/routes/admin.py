"""Operating the queue."""

from __future__ import annotations

from dataclasses import asdict

from aiohttp import web

from gateway.answers import json_response
from gateway.request import GatewayRequest
from gateway.route_table import Role, Route
from shared.telemetry.logging import logger

log = logger("admin")


async def queue_stats(request: GatewayRequest) -> web.Response:
    stats = await request.services.queue.stats()
    return json_response({"object": "queue.stats", **asdict(stats)})


async def queue_clear(request: GatewayRequest) -> web.Response:
    cancelled = await request.services.queue.clear()
    caller = request.caller
    log.warning("admin.queue_cleared", cancelled=cancelled, tenant=caller.tenant, key_id=caller.key_id)
    return json_response({"object": "queue.cleared", "cancelled": cancelled})


ROUTES = [
    Route(
        method="GET",
        path="/admin/queue",
        handler=queue_stats,
        role=Role.OPERATOR,
        summary="The queue in numbers",
        tag="Operations",
        answers={200: "QueueStats"},
        errors=(503,),
    ),
    Route(
        method="POST",
        path="/admin/queue/clear",
        handler=queue_clear,
        role=Role.ADMIN,
        summary="Cancel every waiting job of every tenant",
        tag="Operations",
        answers={200: "QueueCleared"},
        errors=(503,),
    ),
]
