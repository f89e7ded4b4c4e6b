"""What would happen to a request: its task, and where it may go. Nothing is done with it."""

from __future__ import annotations

from typing import Annotated, Literal

from aiohttp import web
from pydantic import Field

from gateway import request_options
from gateway.answers import json_response
from gateway.body import read_json
from gateway.classifier import Task
from gateway.inference import as_ask
from gateway.openapi_answers import Answer, ModelAtService
from gateway.request import GatewayRequest
from gateway.route_table import Role, Route
from gateway.routes.submission import JobBody, checked
from gateway.routing import MEANINGS, Reason
from shared.wire.openai_render import route_body


class Decision(Answer):
    object: Literal["route"]
    asked: str
    candidates: Annotated[list[ModelAtService], Field(description="In the order in which workers would try them.")]
    reason: Reason
    meaning: Annotated[str, Field(description="The reason in words.")]
    local_only: Annotated[bool, Field(description="The request is private: only machines of ours would see it.")]
    task: Annotated[Task | None, Field(description="What the model `auto` would take it for; null for embeddings.")]


async def explain(request: GatewayRequest) -> web.Response:
    services = request.services
    _, face, body = checked(await read_json(request), services.settings.prompt_templates)
    canonical = face.to_canonical(body)
    ask = as_ask(request, canonical, face.wish(body))
    route = await services.router.explain(ask)
    return json_response(
        {
            "object": "route",
            "asked": ask.name,
            **route_body(route),
            "meaning": MEANINGS[Reason(route.reason)],
            "task": services.router.task_of(canonical),
        }
    )


ROUTES = [
    Route(
        method="POST",
        path="/v1/route",
        handler=explain,
        role=Role.INFERENCE,
        summary="Say where a request would go, and why",
        description="Takes what POST /v1/jobs takes, and makes no job of it. The rules: docs/routing.md.",
        tag="Jobs",
        body=JobBody,
        headers=(request_options.PROVIDER_HEADER, request_options.PRIVATE_HEADER, "x-request-id"),
        answers={200: "Decision"},
        errors=(404, 408, 413, 415, 503),
    ),
]
