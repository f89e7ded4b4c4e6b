"""The direct face: one prompt or one message to a worker type, answered with its text.

Direct is only the form: each call is a job in the queue like every other.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from gateway import request_options
from gateway.answers import json_response
from gateway.body import read_json
from gateway.conversations import Exchange, to_messages
from gateway.direct_stream import DirectStream
from gateway.inference import Face, answered, as_job, submitted
from gateway.request import GatewayRequest
from gateway.route_table import Handler, Role, Route
from gateway.routes.direct_bodies import DirectChatBody, DirectGenerateBody, generation_body, reply_body
from gateway.routing_inputs import AUTO, NamedBeside, Wish
from gateway.services import Services
from gateway.templates import render
from gateway.worker_types import choose, type_of, worker_types
from shared.errors import BadRequest
from shared.jobs import Kind, NewJob
from shared.wire.canonical import ChatRequest, CompletionRequest, Message, Request, TextAnswer
from shared.wire.openai_validation import validate


@dataclass(frozen=True, slots=True)
class Call:
    """What `as_job` needs to know of a checked body."""

    request: ChatRequest | CompletionRequest
    wish: Wish
    streams: bool = False


def _request_of(call: Call) -> Request:
    return call.request


def _wish_of(call: Call) -> Wish:
    return call.wish


GENERATE = Face(Kind.COMPLETION, DirectGenerateBody, _request_of, _wish_of)
CHAT = Face(Kind.CHAT, DirectChatBody, _request_of, _wish_of)


def counted(handler: Handler) -> Handler:
    """The handler, for callers without a key only as often as RATE_LIMIT_PER_MINUTE allows."""

    @functools.wraps(handler)
    async def within_limit(request: GatewayRequest) -> web.StreamResponse:
        if not request.caller.key_id:
            # The connection's own address: whoever may write X-Forwarded-For could be anyone.
            request.services.keyless.admit(request.remote or "")
        return await handler(request)

    return within_limit


def _of_fitting_length(services: Services, text: str, field: str) -> str:
    """The text as it is. Raises BadRequest for one over MAX_PROMPT_CHARS."""
    most = services.settings.max_prompt_chars
    if len(text) > most:
        raise BadRequest(
            f"`{field}`: has {len(text)} characters, {most} is the most here. Longer ones go to /v1/chat/completions.",
            param=field,
        )
    return text


def _prompt_of(services: Services, body: DirectGenerateBody) -> str:
    """The prompt, given or filled in. Raises BadRequest."""
    if body.template is None:
        if body.prompt is None:
            raise BadRequest("`prompt`: is required, or a `template` in its place.", param="prompt")
        return _of_fitting_length(services, body.prompt, "prompt")
    if body.prompt is not None:
        raise BadRequest("`template`: stands in the place of `prompt`; send one of them.", param="template")
    text = render(services.settings.prompt_templates, body.template, body.variables)
    return _of_fitting_length(services, text, "template")


def _service(services: Services, worker_type: str) -> NamedBeside | None:
    """Where the worker type's models are; None: routing chooses. Raises WorkerTypeNotFound."""
    kind = choose(worker_type, worker_types(services.router.world()))
    return None if kind is None else NamedBeside(kind.service, "worker_type")


def _served_by(services: Services, job: NewJob) -> str:
    """The worker type that a job went to."""
    assert job.route is not None
    return type_of(job.route.candidates[0].service, worker_types(services.router.world()))


async def generate(request: GatewayRequest) -> web.Response:
    services = request.services
    data = await read_json(request)
    body = validate(DirectGenerateBody, data)
    text = _prompt_of(services, body)
    wish = Wish(_service(services, body.worker_type))
    prompt = CompletionRequest(model=body.model_id or AUTO, prompt=text)
    job, keyed = await as_job(request, GENERATE, Call(prompt, wish), data)
    async with submitted(services, request, job, keyed=keyed) as ticket:
        answer = await answered(request, ticket)
    assert isinstance(answer, TextAnswer)
    return json_response(generation_body(job, _served_by(services, job), answer))


class Talk:
    """One message of a chat, from its body to the answer's."""

    def __init__(self, services: Services, body: DirectChatBody, worker_type: str, job: NewJob) -> None:
        self._conversations = services.conversations
        self._body = body
        self._worker_type = worker_type
        self._job = job

    async def conclude(self, answer: TextAnswer) -> dict[str, Any]:
        """Remember what was said, if it is to be, and write the answer's body."""
        job, conversation_id = self._job, self._body.conversation_id
        remembered = False
        if conversation_id is not None and answer.content and not job.no_store:
            exchange = Exchange(
                job_id=job.id, message=self._body.message, answer=answer.content, local_only=job.local_only
            )
            remembered = await self._conversations.remember(job.tenant, conversation_id, exchange)
        return reply_body(job, self._worker_type, answer, conversation_id, remembered=remembered)


async def _talk(request: GatewayRequest, *, streams: bool) -> tuple[Talk, NewJob, bool]:
    """The talk, its job, and whether that has an Idempotency-Key."""
    services = request.services
    data = await read_json(request)
    body = validate(DirectChatBody, data)
    _of_fitting_length(services, body.message, "message")
    service = _service(services, body.worker_type)
    earlier: list[Exchange] = []
    if body.conversation_id is not None:
        earlier = await services.conversations.recall(request.caller.tenant, body.conversation_id)
    messages = [*to_messages(earlier), Message(role="user", content=body.message)]
    # What was private stays so: the earlier turns go along.
    wish = Wish(service, True if any(exchange.local_only for exchange in earlier) else None)
    chat_request = ChatRequest(model=body.model_id or AUTO, messages=messages)
    job, keyed = await as_job(request, CHAT, Call(chat_request, wish, streams), data)
    job.metadata = body.context
    return Talk(services, body, _served_by(services, job), job), job, keyed


async def chat(request: GatewayRequest) -> web.Response:
    talk, job, keyed = await _talk(request, streams=False)
    async with submitted(request.services, request, job, keyed=keyed) as ticket:
        answer = await answered(request, ticket)
    assert isinstance(answer, TextAnswer)
    return json_response(await talk.conclude(answer))


async def chat_stream(request: GatewayRequest) -> web.StreamResponse:
    talk, job, keyed = await _talk(request, streams=True)
    async with submitted(request.services, request, job, keyed=keyed) as ticket:
        return await DirectStream(request, ticket, talk.conclude).run()


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

ROUTES = [
    Route(
        method="POST",
        path="/generate",
        handler=counted(generate),
        role=Role.INFERENCE,
        summary="Run one prompt on a worker type",
        tag="Direct",
        body=DirectGenerateBody,
        headers=_HEADERS,
        answers={200: "DirectGeneration"},
        errors=_ERRORS,
    ),
    Route(
        method="POST",
        path="/chat",
        handler=counted(chat),
        role=Role.INFERENCE,
        summary="Say one thing, in a conversation if it is named",
        tag="Direct",
        body=DirectChatBody,
        headers=_HEADERS,
        answers={200: "DirectReply"},
        errors=_ERRORS,
    ),
    Route(
        method="POST",
        path="/chat/stream",
        handler=counted(chat_stream),
        role=Role.INFERENCE,
        summary="The same, with the answer as it comes",
        description="Events: `delta` with what is new, then `done` with what /chat answers, or `error`.",
        tag="Direct",
        body=DirectChatBody,
        headers=_HEADERS,
        answers={200: "text/event-stream"},
        errors=_ERRORS,
    ),
]
