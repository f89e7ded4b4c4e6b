"""The service hub's face: which services there are, what they can do, which models they have, whether they answer."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from gateway.answers import json_response
from gateway.request import GatewayRequest
from gateway.route_table import Handler, Role, Route
from gateway.routes.llm_answers import capabilities_body, llm_model_body
from gateway.services import Services
from shared.services.config import ServiceConfig

_ANSWERS = {True: "alive", False: "silent"}


def _service_body(services: Services, service: ServiceConfig) -> dict[str, Any]:
    return {
        "name": service.name,
        "api_format": service.api_format,
        "local": service.local,
        "default": service.name == services.registry.default_service,
        "hosts": [backend.name for backend in services.backends.of(service.name)],
        "capabilities": capabilities_body(services.models.capabilities(service)),
    }


def _named(request: GatewayRequest) -> ServiceConfig:
    return request.services.models.service(request.match_info["service"])


async def list_services(request: GatewayRequest) -> web.Response:
    services = request.services
    registry = services.registry
    return json_response(
        {
            "services": [_service_body(services, service) for service in registry.all()],
            "off": [{"name": off.name, "reason": off.reason} for off in registry.off],
            "default_service": registry.default_service,
        }
    )


async def one_service(request: GatewayRequest) -> web.Response:
    return json_response(_service_body(request.services, _named(request)))


async def service_models(request: GatewayRequest) -> web.Response:
    records = await request.services.models.of(_named(request).name)
    return json_response({"models": [llm_model_body(record) for record in records]})


async def service_model(request: GatewayRequest) -> web.Response:
    record = await request.services.models.one(_named(request).name, request.match_info["model"])
    return json_response(llm_model_body(record))


async def ping(request: GatewayRequest) -> web.Response:
    """200 when one of its machines answers, else 503."""
    service = _named(request)
    health = await request.services.health.check(service)
    hosts = [
        {"host": host.host, "status": _ANSWERS[host.is_up], "seconds": host.latency_s, "error": host.error or None}
        for host in health.hosts
    ]
    body = {"service": service.name, "status": _ANSWERS[health.is_up], "hosts": hosts}
    return json_response(body, 200 if health.is_up else 503)


async def capabilities(request: GatewayRequest) -> web.Response:
    service = _named(request)
    found = request.services.models.capabilities(service)
    return json_response({"service": service.name, "capabilities": capabilities_body(found)})


async def all_models(request: GatewayRequest) -> web.Response:
    records = await request.services.models.all()
    return json_response({"models": [llm_model_body(record) for record in records]})


async def any_model(request: GatewayRequest) -> web.Response:
    return json_response(llm_model_body(await request.services.models.find(request.match_info["model"])))


def _reading(path: str, handler: Handler, summary: str, answer: str, description: str = "") -> Route:
    return Route(
        method="GET",
        path=path,
        handler=handler,
        role=Role.INFERENCE,
        summary=summary,
        description=description,
        tag="Services",
        answers={200: answer, 503: answer} if handler is ping else {200: answer},
        errors=(503,),
    )


_BY_NAME = "By its qualified name such as `ollama~llama3.2:3b`, or a bare one, looked for at the default service first."
ROUTES = [
    _reading("/llm/services", list_services, "List the services", "LlmServices"),
    _reading("/llm/services/{service}", one_service, "Look up one service", "LlmService"),
    _reading("/llm/services/{service}/models", service_models, "List a service's models", "LlmModels"),
    _reading("/llm/services/{service}/models/{model:.+}", service_model, "Look up a service's model", "LlmModel"),
    _reading("/llm/services/{service}/ping", ping, "Whether a service answers", "LlmPing"),
    _reading(
        "/llm/services/{service}/capabilities",
        capabilities,
        "What a service can be asked for",
        "LlmServiceCapabilities",
    ),
    _reading("/llm/models", all_models, "List the models of all services", "LlmModels"),
    _reading("/llm/models/{model:.+}", any_model, "Look up a model", "LlmModel", _BY_NAME),
]
