"""The workers' circuit breakers: looking, closing, holding open."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Literal

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from gateway.answers import json_response
from gateway.body import read_json
from gateway.openapi_answers import Answer, Count, UnixSeconds
from gateway.request import GatewayRequest
from gateway.route_table import Role, Route
from shared.resilience.circuit_admin import LONGEST_FORCED_S, CircuitAdmin
from shared.resilience.circuits import NAME_PATTERN, CircuitView
from shared.telemetry.logging import logger
from shared.wire.openai import validate

log = logger("admin")

CircuitName = Annotated[
    str,
    Field(
        pattern=NAME_PATTERN,
        max_length=600,
        description="As GET /admin/circuits lists them: `host:<host:port>` or `chat:<model>@<host:port>`.",
    ),
]


class CircuitReset(BaseModel):
    """Without a name: all of them."""

    # A misspelt name must not mean all of them.
    model_config = ConfigDict(extra="forbid", strict=True)

    name: CircuitName | None = None


class CircuitForceOpen(BaseModel):
    """Let no call through for a while, for maintenance. Then one call probes, as after any opening."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: CircuitName
    for_seconds: float = Field(600, ge=1, le=LONGEST_FORCED_S, allow_inf_nan=False)


class Circuit(Answer):
    name: str
    state: Literal["closed", "open", "half_open"]
    retry_in_seconds: Annotated[float, Field(ge=0, description="Until a call may go out again.")]
    openings: Annotated[Count, Field(description="Openings in a row; each lasts twice as long as the one before.")]
    reason: Annotated[str, Field(description="Code of the error that opened it, or `forced`.")]
    changed_by: Annotated[str, Field(description="A worker, or `operator`.")]
    changed_at: UnixSeconds
    forced: bool


class CircuitList(Answer):
    object: Literal["list"]
    data: list[Circuit]


CIRCUIT_ANSWERS: tuple[type[Answer], ...] = (Circuit, CircuitList)


async def circuits(request: GatewayRequest) -> web.Response:
    return json_response(_list(await _admin(request).circuits()))


async def reset(request: GatewayRequest) -> web.Response:
    wanted = validate(CircuitReset, await read_json(request))
    closed = await _admin(request).reset(wanted.name)
    caller = request.caller
    log.warning("admin.circuits_reset", circuits=[view.name for view in closed], key_id=caller.key_id)
    return json_response(_list(closed))


async def force_open(request: GatewayRequest) -> web.Response:
    wanted = validate(CircuitForceOpen, await read_json(request))
    opened = await _admin(request).force_open(wanted.name, wanted.for_seconds)
    caller = request.caller
    log.warning("admin.circuit_opened", circuit=wanted.name, for_s=wanted.for_seconds, key_id=caller.key_id)
    return json_response(_body(opened))


def _admin(request: GatewayRequest) -> CircuitAdmin:
    queue = request.services.queue
    return CircuitAdmin(queue.redis, queue.keys)


def _body(view: CircuitView) -> dict[str, object]:
    body = asdict(view)
    body["retry_in_seconds"] = body.pop("retry_in_s")
    return body


def _list(views: list[CircuitView]) -> dict[str, object]:
    return {"object": "list", "data": [_body(view) for view in views]}


ROUTES = [
    Route(
        method="GET",
        path="/admin/circuits",
        handler=circuits,
        role=Role.OPERATOR,
        summary="Circuits that opened within the last hour or are open still",
        description="Circuits that are not listed are closed.",
        tag="Operations",
        answers={200: "CircuitList"},
        errors=(503,),
    ),
    Route(
        method="POST",
        path="/admin/circuits/reset",
        handler=reset,
        role=Role.ADMIN,
        summary="Close one circuit, or all",
        tag="Operations",
        body=CircuitReset,
        answers={200: "CircuitList"},
        errors=(404, 503),
    ),
    Route(
        method="POST",
        path="/admin/circuits/force-open",
        handler=force_open,
        role=Role.ADMIN,
        summary="Hold a circuit open for a while",
        tag="Operations",
        body=CircuitForceOpen,
        answers={200: "Circuit"},
        errors=(503,),
    ),
]
