"""Ollama's face: chat, generate, embed. Its clients get the queue by changing their host."""

from __future__ import annotations

import time
from typing import Any

from aiohttp import web

from gateway import request_options
from gateway.answers import json_response
from gateway.body import read_json
from gateway.inference import Face, answered, as_job, submitted
from gateway.ndjson import OllamaStream
from gateway.request import GatewayRequest
from gateway.route_table import Role, Route
from shared.errors import Forbidden
from shared.jobs import Kind
from shared.wire.canonical import EmbeddingAnswer
from shared.wire.ollama import (
    OllamaBody,
    OllamaChatBody,
    OllamaEmbedBody,
    OllamaEmbeddingsBody,
    OllamaGenerateBody,
    OllamaTextBody,
    to_chat,
    to_completion,
    to_embedding,
    to_one_embedding,
)
from shared.wire.ollama_render import Rendering, embed_body, one_embedding_body, text_body
from shared.wire.ollama_stream import LineRenderer
from shared.wire.openai_validation import validate

CHAT = Face(Kind.CHAT, OllamaChatBody, to_chat, fills_in=False)
GENERATE = Face(Kind.COMPLETION, OllamaGenerateBody, to_completion, fills_in=False)
EMBED = Face(Kind.EMBEDDING, OllamaEmbedBody, to_embedding)
EMBEDDINGS = Face(Kind.EMBEDDING, OllamaEmbeddingsBody, to_one_embedding)


async def infer(request: GatewayRequest, face: Face) -> web.StreamResponse:
    """The whole of an inference route.

    A request without any text, to Ollama an order to load the model, is a job like every other: its answer comes once
    a host has the model in memory.
    """
    services = request.services
    data = await read_json(request, any_type=True)
    body: Any = validate(face.body, data)
    if isinstance(body, OllamaTextBody) and body.stream is None:
        body.stream = services.settings.ollama_streaming
    if body.unloads:
        raise Forbidden(
            f"How long models stay in memory is for the operator to decide: `arriero models unload {body.model}`."
        )
    job, keyed = await as_job(request, face, body, data)
    async with submitted(services, request, job, keyed=keyed) as ticket:
        rendering = _rendering(request, face, body, job.shown_model)
        if body.streams:
            return await OllamaStream(request, ticket, LineRenderer(rendering)).run()
        answer = await answered(request, ticket)
        if not isinstance(answer, EmbeddingAnswer):
            return json_response(text_body(rendering, answer))
        return json_response(embed_body(rendering, answer) if face is EMBED else one_embedding_body(answer))


def _rendering(request: GatewayRequest, face: Face, body: OllamaBody, model: str) -> Rendering:
    waited_s = time.monotonic() - request.started_at
    only_loads = isinstance(body, OllamaTextBody) and body.only_loads
    return Rendering(kind=face.kind, model=model, began=time.time() - waited_s, only_loads=only_loads)


async def chat(request: GatewayRequest) -> web.StreamResponse:
    return await infer(request, CHAT)


async def generate(request: GatewayRequest) -> web.StreamResponse:
    return await infer(request, GENERATE)


async def embed(request: GatewayRequest) -> web.StreamResponse:
    return await infer(request, EMBED)


async def embeddings(request: GatewayRequest) -> web.StreamResponse:
    return await infer(request, EMBEDDINGS)


_HEADERS = (
    request_options.IDEMPOTENCY_HEADER,
    "Cache-Control",
    request_options.CACHE_HEADER,
    request_options.DEADLINE_HEADER,
    request_options.PROVIDER_HEADER,
    request_options.PRIVATE_HEADER,
    "x-request-id",
)
_ERRORS = (404, 408, 409, 413, 415, 422, 429, 500, 502, 503, 504)
_LOADS = "Without any text it answers once the model is loaded."

ROUTES = [
    Route(
        method="POST",
        path="/api/chat",
        handler=chat,
        role=Role.INFERENCE,
        summary="Continue a conversation, as Ollama does",
        description=f"Streams lines of JSON unless `stream` is false. {_LOADS}",
        tag="Ollama",
        body=OllamaChatBody,
        headers=_HEADERS,
        answers={200: "OllamaChat | application/x-ndjson"},
        errors=_ERRORS,
    ),
    Route(
        method="POST",
        path="/api/generate",
        handler=generate,
        role=Role.INFERENCE,
        summary="Continue a text, as Ollama does",
        description=f"Streams lines of JSON unless `stream` is false. {_LOADS}",
        tag="Ollama",
        body=OllamaGenerateBody,
        headers=_HEADERS,
        answers={200: "OllamaGeneration | application/x-ndjson"},
        errors=_ERRORS,
    ),
    Route(
        method="POST",
        path="/api/embed",
        handler=embed,
        role=Role.INFERENCE,
        summary="Turn texts into vectors, as Ollama does",
        description=_LOADS,
        tag="Ollama",
        body=OllamaEmbedBody,
        headers=_HEADERS,
        answers={200: "OllamaVectors"},
        errors=_ERRORS,
    ),
    Route(
        method="POST",
        path="/api/embeddings",
        handler=embeddings,
        role=Role.INFERENCE,
        summary="Turn one text into a vector, as older clients ask",
        description=_LOADS,
        tag="Ollama",
        body=OllamaEmbeddingsBody,
        headers=_HEADERS,
        answers={200: "OllamaVector"},
        errors=_ERRORS,
    ),
]
