"""Anthropic's face: messages. Its clients get the queue, and every backend behind it, by changing their base URL."""

from __future__ import annotations

from aiohttp import web

from gateway import request_options
from gateway.answers import json_response
from gateway.anthropic_stream import AnthropicStream
from gateway.body import read_json
from gateway.inference import Face, answered, as_job, submitted
from gateway.request import GatewayRequest
from gateway.route_table import Role, Route
from shared.errors import NotFound
from shared.jobs import Kind
from shared.wire.anthropic import AnthropicMessagesBody, to_chat
from shared.wire.anthropic_render import Rendering, message_body
from shared.wire.anthropic_stream import EventRenderer
from shared.wire.canonical import TextAnswer
from shared.wire.openai_validation import validate

MESSAGES = Face(Kind.CHAT, AnthropicMessagesBody, to_chat, fills_in=False)


class TokensNotCounted(NotFound):
    """Tokens are not counted here: each model cuts text in its own way. The `usage` of an answer tells what it took."""

    code = "tokens_not_counted"


async def messages(request: GatewayRequest) -> web.StreamResponse:
    """The whole of the route: read, check, enqueue, then answer as one body or as a stream."""
    services = request.services
    data = await read_json(request)
    body = validate(AnthropicMessagesBody, data)
    job, keyed = await as_job(request, MESSAGES, body, data)
    async with submitted(services, request, job, keyed=keyed) as ticket:
        rendering = Rendering.for_job(job.id, job.shown_model, request.request_id)
        if body.streams:
            return await AnthropicStream(request, ticket, EventRenderer(rendering)).run()
        answer = await answered(request, ticket)
        assert isinstance(answer, TextAnswer)
        return json_response(message_body(rendering, answer))


async def count_tokens(request: GatewayRequest) -> web.StreamResponse:
    raise TokensNotCounted()


_HEADERS = (
    request_options.IDEMPOTENCY_HEADER,
    "Cache-Control",
    request_options.CACHE_HEADER,
    request_options.DEADLINE_HEADER,
    request_options.SDK_TIMEOUT_HEADER,
    request_options.PROVIDER_HEADER,
    request_options.PRIVATE_HEADER,
    "anthropic-version",
    "x-request-id",
)

ROUTES = [
    Route(
        method="POST",
        path="/v1/messages",
        handler=messages,
        role=Role.INFERENCE,
        summary="Continue a conversation, as Anthropic does",
        description="Waits for the answer, or streams it with `stream`. The key may come as `x-api-key` too.",
        tag="Anthropic",
        body=AnthropicMessagesBody,
        headers=_HEADERS,
        answers={200: "AnthropicAnswer | text/event-stream"},
        errors=(404, 408, 409, 413, 415, 422, 429, 500, 502, 503, 504),
    ),
    Route(
        method="POST",
        path="/v1/messages/count_tokens",
        handler=count_tokens,
        role=Role.INFERENCE,
        summary="Say that tokens are not counted here",
        description="Always 404: only a model itself knows how it cuts a text.",
        tag="Anthropic",
        errors=(404,),
    ),
]
