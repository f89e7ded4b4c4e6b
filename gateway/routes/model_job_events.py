"""The events of a change to a model: how far it is, whenever that changes, and how it ended."""

from __future__ import annotations

import asyncio

from aiohttp import web

from gateway.request import GatewayRequest
from gateway.route_table import Role, Route
from gateway.routes.job_events import frame
from gateway.routes.model_job_bodies import model_job_body
from gateway.routes.model_jobs import JOB_PATH, job_id_of
from gateway.service_models import MANAGED
from gateway.sse import EventStream
from shared.errors import ArrieroError
from shared.operations.orders import Operation, Orders

LOOK_S = 1.0
"""The longest that news can take which fell between two looks."""


async def events(request: GatewayRequest) -> web.StreamResponse:
    """Each event holds the whole job, so that whoever comes back later has missed nothing."""
    services, job_id = request.services, job_id_of(request)
    job = await services.orders.get(job_id)
    out = EventStream(request)
    try:
        await out.open()
        while not job.record.state.is_terminal:
            await out.write(frame("progress", "", model_job_body(job, MANAGED)))
            job = await _news(out, services.orders, job, services.settings.stream_keepalive)
        await out.write(frame("ended", "", model_job_body(job, MANAGED)))
        return await out.close()
    except ArrieroError as error:
        # An answer of its own cannot follow an open stream. Without `ended` the client comes back.
        if not out.opened:
            raise
        await out.comment(f"broken off: {error.code}")
        return await out.close()
    finally:
        out.release()


async def _news(out: EventStream, orders: Orders, last: Operation, keepalive_s: float) -> Operation:
    """The job once it is another than `last`; comments keep the connection meanwhile."""
    loop = asyncio.get_running_loop()
    spoke_at = loop.time()
    while (now := await orders.wait(last.record.id, LOOK_S)) == last:
        if loop.time() - spoke_at >= keepalive_s:
            await out.comment("waiting")
            spoke_at = loop.time()
    return now


ROUTES = [
    Route(
        method="GET",
        path=f"{JOB_PATH}/events",
        handler=events,
        role=Role.OPERATOR,
        summary="Follow a change to a model",
        description="Server-sent events `progress` and `ended`; each holds the job as it stands.",
        tag="Model jobs",
        answers={200: "text/event-stream"},
        errors=(404, 503),
    ),
]
