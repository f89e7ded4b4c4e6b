"""The prompt templates that callers may name."""

from __future__ import annotations

from aiohttp import web

from gateway.answers import json_response
from gateway.request import GatewayRequest
from gateway.route_table import Role, Route
from gateway.templates import variables_of


async def templates(request: GatewayRequest) -> web.Response:
    known = sorted(request.services.settings.prompt_templates.items())
    return json_response({"templates": [{"name": name, "variables": variables_of(text)} for name, text in known]})


ROUTES = [
    Route(
        method="GET",
        path="/templates",
        handler=templates,
        role=Role.INFERENCE,
        summary="List the prompt templates",
        description="Named in POST /generate and POST /v1/jobs as `template`, with its `variables`.",
        tag="Direct",
        answers={200: "PromptTemplates"},
    )
]
