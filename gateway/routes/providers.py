"""The providers' face: which services there are and how they do, and changing the set of them at run time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aiohttp import web

from gateway.answers import json_response
from gateway.body import read_json
from gateway.request import GatewayRequest
from gateway.route_table import Role, Route
from gateway.routes.openai import unix_seconds
from gateway.routes.provider_bodies import (
    DefaultProviderBody,
    ProviderBody,
    health_body,
    provider_model_body,
    use_body,
)
from gateway.services import Services
from shared.queue.client import ANSWER_WITHIN_S
from shared.queue.connection import within
from shared.services.config import ServiceConfig
from shared.services.registry import Off
from shared.services.statistics import ServiceStatistics, by_service
from shared.telemetry.logging import logger
from shared.usage.reader import UsageReader
from shared.wire.openai import validate

log = logger("admin")


async def _uses(services: Services, wanted: Iterable[ServiceConfig]) -> dict[str, ServiceStatistics]:
    usages = await within(ANSWER_WITHIN_S, UsageReader(services.queue.redis, services.queue.keys).read)
    names = [service.name for service in wanted]
    return {found.service: found for found in by_service(usages, names, services.backends.hosts())}


def _in_force(services: Services, service: ServiceConfig, use: ServiceStatistics) -> dict[str, Any]:
    return {
        "id": service.name,
        "object": "provider",
        "reason": None,
        "api_format": service.api_format,
        "local": service.local,
        "default": service.name == services.registry.default_service,
        "registered": service.name in services.registrations.names,
        "use": use_body(use),
        **health_body(services.health.latest(service.name)),
    }


def _off(services: Services, off: Off) -> dict[str, Any]:
    return {
        "id": off.name,
        "object": "provider",
        "reason": off.reason,
        "api_format": None,
        "local": None,
        "default": False,
        "registered": off.name in services.registrations.names,
        "use": None,
        **health_body(None),
        "status": "off",
    }


async def _list(services: Services) -> web.Response:
    in_force = services.registry.all()
    uses = await _uses(services, in_force)
    found = [_in_force(services, service, uses[service.name]) for service in in_force]
    found += [_off(services, off) for off in services.registry.off]
    return json_response({"object": "list", "default": services.registry.default_service, "data": found})


async def list_providers(request: GatewayRequest) -> web.Response:
    return await _list(request.services)


async def health_check(request: GatewayRequest) -> web.Response:
    """Asks every one now, all at once."""
    services = request.services
    await services.health.check_all()
    return await _list(services)


async def one_provider(request: GatewayRequest) -> web.Response:
    services, name = request.services, request.match_info["provider"]
    for off in services.registry.off:
        if off.name == name:
            return json_response(_off(services, off))
    return await _one(services, services.models.service(name))


async def _one(services: Services, service: ServiceConfig, status: int = 200) -> web.Response:
    uses = await _uses(services, [service])
    return json_response(_in_force(services, service, uses[service.name]), status)


async def provider_models(request: GatewayRequest) -> web.Response:
    records = await request.services.models.of(request.match_info["provider"])
    found = [provider_model_body(record, unix_seconds(record.modified_at)) for record in records]
    return json_response({"object": "list", "data": found})


async def register(request: GatewayRequest) -> web.Response:
    services, caller = request.services, request.caller
    wanted = validate(ProviderBody, await read_json(request))
    service = await services.registrations.register(wanted.said)
    log.warning("admin.service_registered", upstream=service.name, api_format=service.api_format, key_id=caller.key_id)
    await services.models.outdated(service.name)
    await services.health.check(service)
    response = await _one(services, services.models.service(service.name), 201)
    response.headers["Location"] = f"/v1/providers/{service.name}"
    return response


async def unregister(request: GatewayRequest) -> web.Response:
    services, caller, name = request.services, request.caller, request.match_info["provider"]
    if not await services.registrations.unregister(name):
        services.models.service(name)  # says what there is
    log.warning("admin.service_removed", upstream=name[:64], key_id=caller.key_id)
    return json_response({"id": name, "object": "provider.removed", "removed": True})


async def set_default(request: GatewayRequest) -> web.Response:
    services, caller = request.services, request.caller
    wanted = validate(DefaultProviderBody, await read_json(request))
    await services.registrations.set_default(wanted.name)
    registry = services.registry
    log.warning("admin.default_service_changed", upstream=registry.default_service, key_id=caller.key_id)
    body = {"object": "provider.default", "name": registry.default_service, "preferred": registry.preferred}
    return json_response(body)


# Its own words beside the providers' names, so that each path says rightly which methods it takes.
_PROVIDER = "/v1/providers/{provider:(?!(?:default|health-check)$)[^/]+}"
ROUTES = [
    Route(
        method="GET",
        path="/v1/providers",
        handler=list_providers,
        role=Role.INFERENCE,
        summary="List the providers, how they are and what was asked of them",
        tag="Providers",
        answers={200: "ProviderList"},
        errors=(503,),
    ),
    Route(
        method="POST",
        path="/v1/providers",
        handler=register,
        role=Role.ADMIN,
        summary="Register a provider at run time",
        description="Only with ALLOW_SERVICE_REGISTRATION. Every process knows it within two seconds.",
        tag="Providers",
        body=ProviderBody,
        answers={201: "Provider"},
        errors=(409, 503),
    ),
    Route(
        method="PUT",
        path="/v1/providers/default",
        handler=set_default,
        role=Role.ADMIN,
        summary="Choose the provider that names without one are at",
        description="Only with ALLOW_SERVICE_REGISTRATION.",
        tag="Providers",
        body=DefaultProviderBody,
        answers={200: "DefaultProvider"},
        errors=(503,),
    ),
    Route(
        method="POST",
        path="/v1/providers/health-check",
        handler=health_check,
        role=Role.OPERATOR,
        summary="Ask every provider now how it is",
        tag="Providers",
        answers={200: "ProviderList"},
        errors=(503,),
    ),
    Route(
        method="GET",
        path=_PROVIDER,
        handler=one_provider,
        role=Role.INFERENCE,
        summary="Look up one provider",
        tag="Providers",
        answers={200: "Provider"},
        errors=(503,),
    ),
    Route(
        method="DELETE",
        path=_PROVIDER,
        handler=unregister,
        role=Role.ADMIN,
        summary="Remove a provider that was registered at run time",
        tag="Providers",
        answers={200: "ProviderRemoved"},
        errors=(409, 503),
    ),
    Route(
        method="GET",
        path=f"{_PROVIDER}/models",
        handler=provider_models,
        role=Role.INFERENCE,
        summary="List a provider's models and what they can do",
        tag="Providers",
        answers={200: "ProviderModelList"},
        errors=(503,),
    ),
]
