"""Ollama's face: what it says of models and of itself; and what it leaves to the operator."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from gateway.answers import json_response
from gateway.body import read_json
from gateway.catalogue import canonical_name
from gateway.request import GatewayRequest
from gateway.route_table import Handler, Role, Route
from shared.backends.base import LoadedModel, ModelInfo
from shared.backends.ollama_models import ModelDetails
from shared.errors import BadRequest, Forbidden
from shared.wire.ollama import OllamaShowBody
from shared.wire.openai_validation import validate


def _details(family: str, parameter_size: str, quantization: str) -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "",
        "family": family,
        "families": [family] if family else [],
        "parameter_size": parameter_size,
        "quantization_level": quantization,
    }


def _identity(name: str, info: ModelInfo) -> dict[str, Any]:
    details = _details(info.family, info.parameter_size, info.quantization)
    return {"name": name, "model": name, "digest": info.digest, "details": details}


def _known(**fields: str | tuple[str, ...]) -> dict[str, Any]:
    """What a host did not say is left out: an empty time would be none, and an empty list a statement."""
    return {name: value for name, value in fields.items() if value}


def listed(info: ModelInfo) -> dict[str, Any]:
    """An installed model, as /api/tags has it."""
    return {
        **_identity(info.name, info),
        "size": info.size_bytes,
        **_known(modified_at=info.modified_at, capabilities=info.capabilities),
    }


def resident(model: LoadedModel, info: ModelInfo) -> dict[str, Any]:
    """A model in memory, as /api/ps has it."""
    return {
        **_identity(model.name, info),
        "size": model.size_bytes,
        "size_vram": model.vram_bytes,
        "context_length": model.context_length,
        **_known(expires_at=model.expires_at),
    }


def shown(details: ModelDetails) -> dict[str, Any]:
    """All that is known of a model, as /api/show has it."""
    return {
        "details": _details(details.family, details.parameter_size, details.quantization),
        "model_info": details.info,
        **_known(
            license=details.license,
            modelfile=details.modelfile,
            parameters=details.parameters,
            template=details.template,
            system=details.system,
            capabilities=details.capabilities,
            modified_at=details.modified_at,
        ),
    }


async def tags(request: GatewayRequest) -> web.Response:
    installed = await request.services.catalogue.installed()
    newest_first = sorted(installed.values(), key=lambda info: info.modified_at, reverse=True)
    return json_response({"models": [listed(info) for info in newest_first]})


async def ps(request: GatewayRequest) -> web.Response:
    services = request.services
    loaded = await services.hosts.loaded()
    installed = (await services.catalogue.listing()).models
    return json_response(
        {
            "models": [
                resident(model, installed.get(canonical_name(model.name)) or ModelInfo(name=model.name))
                for model in loaded
            ]
        }
    )


async def show(request: GatewayRequest) -> web.Response:
    services = request.services
    body = validate(OllamaShowBody, await read_json(request, any_type=True))
    name = body.model or body.name
    if name is None:
        raise BadRequest("`model`: is required.", param="model")
    await services.catalogue.require(name)
    return json_response(shown(await services.hosts.details(name)))


async def version(request: GatewayRequest) -> web.Response:
    return json_response({"version": await request.services.hosts.version()})


async def root(request: GatewayRequest) -> web.Response:
    """What the `ollama` command asks for before anything else."""
    return web.Response(text="Arriero is running")


def left_to_operators(remedy: str) -> Handler:
    """A handler that refuses, and says who does it how."""

    async def refuse(request: GatewayRequest) -> web.Response:
        raise Forbidden(f"This gateway leaves that to operators: {remedy}.")

    return refuse


def _refused(method: str, path: str, remedy: str) -> Route:
    return Route(
        method=method,
        path=path,
        handler=left_to_operators(remedy),
        role=Role.INFERENCE,
        summary="Left to operators",
        description=f"Always refused. {remedy}.",
        tag="Ollama",
    )


ROUTES = [
    Route(
        method="GET",
        path="/api/tags",
        handler=tags,
        role=Role.INFERENCE,
        summary="List the installed models of all hosts",
        tag="Ollama",
        answers={200: "OllamaModels"},
        errors=(503,),
    ),
    Route(
        method="GET",
        path="/api/ps",
        handler=ps,
        role=Role.INFERENCE,
        summary="List the models in memory of all hosts",
        tag="Ollama",
        answers={200: "OllamaResidents"},
        errors=(503,),
    ),
    Route(
        method="POST",
        path="/api/show",
        handler=show,
        role=Role.INFERENCE,
        summary="Describe one model",
        tag="Ollama",
        body=OllamaShowBody,
        answers={200: "OllamaModelDetails"},
        errors=(404, 503),
    ),
    Route(
        method="GET",
        path="/api/version",
        handler=version,
        role=Role.INFERENCE,
        summary="The oldest version of Ollama among the hosts",
        tag="Ollama",
        answers={200: "OllamaVersion"},
        errors=(503,),
    ),
    *(
        Route(
            method=method,
            path="/",
            handler=root,
            role=Role.PUBLIC,
            summary="A sign of life",
            tag="Ollama",
            answers={200: "text/plain"},
        )
        for method in ("GET", "HEAD")
    ),
    _refused("POST", "/api/pull", "`arriero models pull`"),
    _refused("DELETE", "/api/delete", "`arriero models cleanup`, or `ollama rm` on a model host"),
    _refused("POST", "/api/create", "`ollama create` on a model host"),
    _refused("POST", "/api/copy", "`ollama cp` on a model host"),
    _refused("POST", "/api/push", "`ollama push` on a model host"),
    _refused("POST", "/api/blobs/{digest}", "`ollama create` on a model host"),
    _refused("HEAD", "/api/blobs/{digest}", "`ollama create` on a model host"),
]
