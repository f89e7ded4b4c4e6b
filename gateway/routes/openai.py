"""OpenAI's face: chat, completions, embeddings, models."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from aiohttp import web
from msgspec.json import Decoder

from gateway import request_options
from gateway.answers import accepted_job, json_response
from gateway.body import read_plain_or_json
from gateway.catalogue import canonical_name, not_found
from gateway.inference import Face, Ticket, answered, as_job, enqueue, submitted
from gateway.request import GatewayRequest
from gateway.route_table import Role, Route
from gateway.routing_inputs import NamedBeside, Wish
from gateway.streaming import OpenAIStream
from shared.backends.base import ModelInfo
from shared.jobs import Kind
from shared.services.names import parse
from shared.services.registry import Registry
from shared.services.settings import OLLAMA
from shared.wire.canonical import EmbeddingAnswer, TextAnswer
from shared.wire.openai import (
    ChatCompletionBody,
    CompletionBody,
    EmbeddingBody,
    to_chat,
    to_completion,
    to_embedding,
    validate,
)
from shared.wire.openai_plain import PlainChat
from shared.wire.openai_render import (
    Rendering,
    StreamRenderer,
    chat_body,
    completion_body,
    embedding_body,
)

Body = ChatCompletionBody | CompletionBody | EmbeddingBody
OLLAMA_OWNER = "library"
"""What Ollama's own face calls the owner of its models."""


def _wish(body: Body) -> Wish:
    return Wish(NamedBeside(body.provider) if body.provider else None, body.private)


CHAT = Face(Kind.CHAT, ChatCompletionBody, to_chat, _wish, plain=Decoder(PlainChat))
COMPLETION = Face(Kind.COMPLETION, CompletionBody, to_completion, _wish)
EMBEDDING = Face(Kind.EMBEDDING, EmbeddingBody, to_embedding, _wish)


async def infer(request: GatewayRequest, face: Face) -> web.StreamResponse:
    """The whole of an inference route: read, check, enqueue, then answer at once, as one body or as a stream."""
    services = request.services
    plain, data = await read_plain_or_json(request, face.plain)
    body: Any = validate(face.body, data) if plain is None else plain
    job, keyed = await as_job(request, face, body, data)
    if "Prefer" in request.headers and request_options.wants_no_wait(request.headers):
        job.retention_s = services.settings.result_ttl
        job.keep_events = face.kind is not Kind.EMBEDDING
        job.restartable = True
        return await accepted_job(services, job, await enqueue(services, job), preferred=True)
    async with submitted(services, request, job, keyed=keyed) as ticket:
        if body.streams:
            renderer = StreamRenderer(face.kind, _rendering(ticket))
            return await OpenAIStream(request, ticket, renderer, include_usage=body.includes_usage).run()
        return await _whole(request, ticket, body)


async def _whole(request: GatewayRequest, ticket: Ticket, body: Body) -> web.Response:
    answer = await answered(request, ticket)
    rendering = _rendering(ticket)
    if isinstance(answer, EmbeddingAnswer):
        assert isinstance(body, EmbeddingBody)
        return json_response(embedding_body(rendering, answer, body.encoding_format or "float"))
    assert isinstance(answer, TextAnswer)
    if ticket.job.kind is Kind.CHAT:
        return json_response(chat_body(rendering, answer))
    return json_response(completion_body(rendering, answer))


def _rendering(ticket: Ticket) -> Rendering:
    return Rendering.for_job(ticket.job.kind, ticket.job.id, int(time.time()), ticket.job.shown_model)


async def chat_completions(request: GatewayRequest) -> web.StreamResponse:
    return await infer(request, CHAT)


async def completions(request: GatewayRequest) -> web.StreamResponse:
    return await infer(request, COMPLETION)


async def embeddings(request: GatewayRequest) -> web.StreamResponse:
    return await infer(request, EMBEDDING)


def model_object(info: ModelInfo, registry: Registry) -> dict[str, Any]:
    """A model as OpenAI lists it. `created` is 0 where the host does not say."""
    service = parse(info.name, registry, registry.default_service).service
    owner = OLLAMA_OWNER if service == OLLAMA else service
    return {"id": info.name, "object": "model", "created": unix_seconds(info.modified_at), "owned_by": owner}


def unix_seconds(moment: str) -> int:
    """Of RFC 3339 text; 0 for anything else."""
    try:
        return max(0, int(datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()))
    except ValueError:
        return 0


async def models(request: GatewayRequest) -> web.Response:
    """The default service's models under their own names, the others' as `service~model`."""
    services = request.services
    installed = await services.catalogue.installed()
    listed = sorted(installed.values(), key=lambda info: info.name)
    return json_response({"object": "list", "data": [model_object(info, services.registry) for info in listed]})


async def model(request: GatewayRequest) -> web.Response:
    services, asked = request.services, request.match_info["model"]
    registry = services.registry
    name = parse(asked, registry, registry.default_service)
    installed = await services.catalogue.installed()
    is_default = name.service == registry.default_service
    info = installed.get(canonical_name(name.model if is_default else name.qualified))
    if info is None:
        raise not_found(asked, (known.name for known in installed.values()))
    return json_response(model_object(info, registry))


_INFERENCE_HEADERS = (
    request_options.IDEMPOTENCY_HEADER,
    "Prefer",
    "Cache-Control",
    request_options.CACHE_HEADER,
    request_options.DEADLINE_HEADER,
    request_options.SDK_TIMEOUT_HEADER,
    request_options.PROVIDER_HEADER,
    request_options.PRIVATE_HEADER,
    "x-request-id",
)
_INFERENCE_ERRORS = (404, 408, 409, 413, 415, 422, 429, 500, 502, 503, 504)

ROUTES = [
    Route(
        method="POST",
        path="/v1/chat/completions",
        handler=chat_completions,
        role=Role.INFERENCE,
        summary="Continue a conversation",
        description="Waits for the answer, streams it with `stream`, or returns the job with `Prefer: respond-async`.",
        tag="OpenAI",
        body=ChatCompletionBody,
        headers=_INFERENCE_HEADERS,
        answers={200: "ChatCompletion | text/event-stream", 202: "Job"},
        errors=_INFERENCE_ERRORS,
    ),
    Route(
        method="POST",
        path="/v1/completions",
        handler=completions,
        role=Role.INFERENCE,
        summary="Continue a text",
        tag="OpenAI",
        body=CompletionBody,
        headers=_INFERENCE_HEADERS,
        answers={200: "Completion | text/event-stream", 202: "Job"},
        errors=_INFERENCE_ERRORS,
    ),
    Route(
        method="POST",
        path="/v1/embeddings",
        handler=embeddings,
        role=Role.INFERENCE,
        summary="Turn texts into vectors",
        tag="OpenAI",
        body=EmbeddingBody,
        headers=_INFERENCE_HEADERS,
        answers={200: "EmbeddingList", 202: "Job"},
        errors=_INFERENCE_ERRORS,
    ),
    Route(
        method="GET",
        path="/v1/models",
        handler=models,
        role=Role.INFERENCE,
        summary="List the models of all services",
        tag="OpenAI",
        answers={200: "ModelList"},
        errors=(503,),
    ),
    Route(
        method="GET",
        path="/v1/models/{model:.+}",
        handler=model,
        role=Role.INFERENCE,
        summary="Look up one model",
        tag="OpenAI",
        answers={200: "Model"},
        errors=(404, 503),
    ),
]
