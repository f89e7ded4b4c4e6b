"""OpenAI's face: chat, completions, embeddings, models."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from gateway import request_options
from gateway.answers import accepted_job, json_response
from gateway.body import read_json
from gateway.catalogue import canonical_name, not_found
from gateway.inference import Ticket, enqueue, note_end, submitted
from gateway.route_table import Role, Route
from gateway.services import CALLER, REQUEST_ID, SERVICES, Services
from gateway.streaming import OpenAIStream
from shared.backends.base import ModelInfo
from shared.errors import BackendUnreachable
from shared.jobs import Kind, NewJob, State, new_job_id
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
from shared.wire.openai_render import (
    Rendering,
    StreamRenderer,
    chat_body,
    completion_body,
    embedding_body,
)

Body = ChatCompletionBody | CompletionBody | EmbeddingBody


@dataclass(frozen=True, slots=True)
class Face:
    """How one inference route reads its body and writes its answer."""

    kind: Kind
    body: type[BaseModel]
    to_canonical: Callable[[Any], object]


CHAT = Face(Kind.CHAT, ChatCompletionBody, to_chat)
COMPLETION = Face(Kind.COMPLETION, CompletionBody, to_completion)
EMBEDDING = Face(Kind.EMBEDDING, EmbeddingBody, to_embedding)


def as_job(request: web.Request, face: Face, body: Any, data: object) -> tuple[NewJob, bool]:
    """The job for a validated body, and whether it carries an Idempotency-Key."""
    settings = request.app[SERVICES].settings
    tenant = request[CALLER].tenant
    headers = request.headers
    key = request_options.idempotency_key(headers)
    streams = bool(body.streams)
    comes_back = key is not None or request_options.wants_no_wait(headers)
    job = NewJob(
        id=new_job_id() if key is None else request_options.idempotent_job_id(tenant, key),
        kind=face.kind,
        model=body.model,
        request=face.to_canonical(body),
        tenant=tenant,
        timeout_s=request_options.deadline_s(headers, settings.request_timeout, silent=not (streams or comes_back)),
        retention_s=settings.sync_result_ttl if key is None else settings.result_ttl,
        # With a key, a repetition may join in the middle.
        keep_events=streams or (key is not None and face.kind is not Kind.EMBEDDING),
        request_id=request[REQUEST_ID],
        fingerprint="" if key is None else request_options.fingerprint(face.kind, data),
        private=request_options.wants_no_copy(headers),
    )
    return job, key is not None


async def infer(request: web.Request, face: Face) -> web.StreamResponse:
    """The whole of an inference route: read, check, enqueue, then answer at once, as one body or as a stream."""
    services = request.app[SERVICES]
    data = await read_json(request)
    body: Any = validate(face.body, data)
    job, keyed = as_job(request, face, body, data)
    await services.catalogue.require(job.model)
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


async def _whole(request: web.Request, ticket: Ticket, body: Body) -> web.Response:
    end = await ticket.ended()
    if end.state is not State.SUCCEEDED:
        note_end(request, ticket.job, end)
    answer = ticket.answer(end)
    note_end(request, ticket.job, end, answer)
    rendering = _rendering(ticket)
    if isinstance(answer, EmbeddingAnswer):
        assert isinstance(body, EmbeddingBody)
        return json_response(embedding_body(rendering, answer, body.encoding_format or "float"))
    assert isinstance(answer, TextAnswer)
    if ticket.job.kind is Kind.CHAT:
        return json_response(chat_body(rendering, answer))
    return json_response(completion_body(rendering, answer))


def _rendering(ticket: Ticket) -> Rendering:
    return Rendering.for_job(ticket.job.kind, ticket.job.id, int(time.time()), ticket.job.model)


async def chat_completions(request: web.Request) -> web.StreamResponse:
    return await infer(request, CHAT)


async def completions(request: web.Request) -> web.StreamResponse:
    return await infer(request, COMPLETION)


async def embeddings(request: web.Request) -> web.StreamResponse:
    return await infer(request, EMBEDDING)


def model_object(info: ModelInfo) -> dict[str, Any]:
    """A model as OpenAI lists it. `created` is 0 where the host does not say."""
    return {"id": info.name, "object": "model", "created": _unix(info.modified_at), "owned_by": "library"}


def _unix(moment: str) -> int:
    try:
        return max(0, int(datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()))
    except ValueError:
        return 0


async def _installed(services: Services) -> dict[str, ModelInfo]:
    listing = await services.catalogue.listing(wait=True)
    if not listing.answered:
        raise BackendUnreachable(
            "No model host answers, so their models are unknown. GET /health/ollama says why.", retry_after_s=5
        )
    return listing.models


async def models(request: web.Request) -> web.Response:
    installed = await _installed(request.app[SERVICES])
    listed = sorted(installed.values(), key=lambda info: info.name)
    return json_response({"object": "list", "data": [model_object(info) for info in listed]})


async def model(request: web.Request) -> web.Response:
    name = request.match_info["model"]
    installed = await _installed(request.app[SERVICES])
    info = installed.get(canonical_name(name))
    if info is None:
        raise not_found(name, (known.name for known in installed.values()))
    return json_response(model_object(info))


_INFERENCE_HEADERS = (
    request_options.IDEMPOTENCY_HEADER,
    "Prefer",
    "Cache-Control",
    request_options.DEADLINE_HEADER,
    request_options.SDK_TIMEOUT_HEADER,
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
        summary="List the installed models",
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
