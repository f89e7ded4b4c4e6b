"""Submitting jobs, one or many at a time: what a description of a job may hold, and how it becomes a job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from aiohttp import web
from msgspec import Meta
from msgspec.json import Decoder
from pydantic import BaseModel, ConfigDict, Field, RootModel, StringConstraints

from gateway import request_options
from gateway.answers import accepted_job, job_of, json_response
from gateway.body import read_json, read_plain_or_json
from gateway.in_step import next_turn
from gateway.inference import Face, count, enqueue, routed
from gateway.request import GatewayRequest
from gateway.route_table import Role, Route
from gateway.routes.openai import CHAT, COMPLETION, EMBEDDING
from gateway.templates import MOST_VARIABLES, NAME_PATTERN, render
from shared.errors import ArrieroError, BadRequest, NotFound, Overloaded
from shared.jobs import Kind, NewJob, Priority
from shared.routes import Route as JobRoute
from shared.usage.sizes import size_of
from shared.wire.canonical import Request
from shared.wire.openai import ChatCompletionBody, CompletionBody, EmbeddingBody, validate
from shared.wire.openai_plain import PlainChat
from shared.wire.openai_render import error_body

MAX_DEADLINE_S = 86_400.0
MAX_DELAY_S = 30 * 86_400.0
MAX_METADATA = 16
MAX_METADATA_NAME = 64
MAX_METADATA_TEXT = 512
MAX_BATCH = 1000

FACES: dict[str, Face] = {"chat.completion": CHAT, "completion": COMPLETION, "embedding": EMBEDDING}
PRIORITIES: Mapping[str, Priority] = {priority.value: priority for priority in Priority}

ErrorT = TypeVar("ErrorT", bound=ArrieroError)
MetadataName = Annotated[str, StringConstraints(min_length=1, max_length=MAX_METADATA_NAME)]
MetadataText = Annotated[str, StringConstraints(max_length=MAX_METADATA_TEXT)]
TemplateName = Annotated[str, Field(pattern=NAME_PATTERN, description="One of GET /templates, to be filled in.")]
Variables = Annotated[
    dict[str, str], Field(max_length=MOST_VARIABLES, description="What the template's variables stand for.")
]


class JobOptions(BaseModel):
    """What every job can be told. A misspelt option is refused: ignored, it would cost the job its priority unseen."""

    model_config = ConfigDict(extra="forbid", strict=True)

    priority: Literal["high", "normal", "low"] = "normal"
    delay_seconds: float = Field(
        0, ge=0, le=MAX_DELAY_S, allow_inf_nan=False, description="Start so many seconds from now, or later."
    )
    deadline_seconds: float | None = Field(
        None,
        ge=request_options.LEAST_DEADLINE_S,
        le=MAX_DEADLINE_S,
        allow_inf_nan=False,
        description="The job expires when it has not ended this long after its start became due.",
    )
    metadata: dict[MetadataName, MetadataText] = Field(
        default_factory=dict, max_length=MAX_METADATA, description="Up to 16 texts of your own."
    )


class Submission(JobOptions):
    """POST /v1/jobs as it is read: the request is checked once its type is known, so that errors name its fields."""

    type: Literal["chat.completion", "completion", "embedding"]
    request: dict[str, Any]
    template: TemplateName | None = None
    variables: Variables = Field(default_factory=dict)
    webhook_url: str | None = None


class PlainChatJob(msgspec.Struct, forbid_unknown_fields=True):
    """POST /v1/jobs as most clients send it; see `shared.wire.openai_plain`."""

    type: Literal["chat.completion"]
    request: PlainChat
    priority: Priority = Priority.NORMAL
    delay_seconds: Annotated[float, Meta(ge=0, le=MAX_DELAY_S)] = 0
    deadline_seconds: Annotated[float, Meta(ge=request_options.LEAST_DEADLINE_S, le=MAX_DEADLINE_S)] | None = None
    metadata: Annotated[
        dict[
            Annotated[str, Meta(min_length=1, max_length=MAX_METADATA_NAME)],
            Annotated[str, Meta(max_length=MAX_METADATA_TEXT)],
        ],
        Meta(max_length=MAX_METADATA),
    ] = msgspec.field(default_factory=dict)


_plain_jobs = Decoder(PlainChatJob)


class DescribedJob(JobOptions):
    """The part of a job's description that does not depend on its type."""

    webhook_url: None = Field(None, description="Not available: webhooks are off.")


class ChatJob(DescribedJob):
    type: Literal["chat.completion"]
    request: ChatCompletionBody


class CompletionJob(DescribedJob):
    type: Literal["completion"]
    request: CompletionBody


class EmbeddingJob(DescribedJob):
    type: Literal["embedding"]
    request: EmbeddingBody


class TemplateJob(DescribedJob):
    """A job whose prompt, or last message, is a filled-in template."""

    type: Literal["chat.completion", "completion"]
    request: dict[str, Any] = Field(description="The OpenAI body of its type, without what the template gives.")
    template: TemplateName
    variables: Variables = Field(default_factory=dict)


class JobBody(RootModel[ChatJob | CompletionJob | EmbeddingJob | TemplateJob]):
    """POST /v1/jobs as it is described. `request` is the OpenAI body of its type; `stream` in it is ignored."""


class Batch(BaseModel):
    """POST /v1/jobs:batch as it is read."""

    jobs: list[Any] = Field(min_length=1, max_length=MAX_BATCH)


class JobBatchBody(BaseModel):
    """POST /v1/jobs:batch as it is described. An error in one description refuses them all, and names it."""

    jobs: list[JobBody] = Field(min_length=1, max_length=MAX_BATCH)


def _filled_in(wanted: Submission, templates: Mapping[str, str]) -> dict[str, Any]:
    """The request with its template's text as the prompt, or as the last message. Raises BadRequest."""
    request = wanted.request
    if wanted.template is None:
        return request
    text = render(templates, wanted.template, wanted.variables)
    if wanted.type == "chat.completion":
        earlier = request.get("messages", [])
        if not isinstance(earlier, list):
            return request  # which is refused, by that field's name
        return {**request, "messages": [*earlier, {"role": "user", "content": text}]}
    if wanted.type == "embedding" or "prompt" in request:
        where = "an embedding takes none" if wanted.type == "embedding" else "it stands in the place of `prompt`"
        raise BadRequest(f"`template`: {where}.", param="template")
    return {**request, "prompt": text}


def checked(data: object, templates: Mapping[str, str]) -> tuple[Submission, Face, Any]:
    """A job's description, its face and its request's body. `templates`: PROMPT_TEMPLATES. Raises BadRequest."""
    wanted = validate(Submission, data)
    if wanted.webhook_url is not None:
        raise BadRequest(
            "Webhooks are off on this gateway. Leave `webhook_url` null and follow the job with "
            "GET /v1/jobs/{id}?wait=30 or its /events.",
            param="webhook_url",
        )
    face = FACES[wanted.type]
    request = _filled_in(wanted, templates)
    try:
        return wanted, face, validate(face.body, request)
    except BadRequest as error:
        raise _at("request", error) from None


async def new_job(request: GatewayRequest, data: object, key: str | None) -> NewJob:
    """The job that `data` describes. `key`: its Idempotency-Key. Raises BadRequest and what `routed` raises."""
    wanted, face, body = checked(data, request.services.settings.prompt_templates)
    job = _job(request, wanted, face, *await routed(request, face, body))
    if key is not None:
        job.id = request_options.idempotent_job_id(job.tenant, key)
        job.fingerprint = request_options.fingerprint("job", data)
    return job


def _job(
    request: GatewayRequest, wanted: Submission | PlainChatJob, face: Face, canonical: Request, route: JobRoute
) -> NewJob:
    """The job of a checked description and its routed request. Raises BadRequest."""
    services, headers = request.services, request.headers
    deadline_s = wanted.deadline_seconds or request_options.deadline_s(
        headers, services.settings.request_timeout, silent=False
    )
    return NewJob(
        kind=face.kind,
        model=canonical.model,
        request=canonical,
        route=route,
        local_only=route.local_only,
        tenant=request.caller.tenant,
        priority=PRIORITIES[wanted.priority],
        cost=services.estimates.current.cost(face.kind, canonical.model, size_of(canonical)),
        # The queue counts from acceptance.
        timeout_s=wanted.delay_seconds + deadline_s,
        delay_s=wanted.delay_seconds,
        retention_s=services.settings.result_ttl,
        keep_events=face.kind is not Kind.EMBEDDING,
        restartable=True,
        request_id=request.request_id,
        metadata=wanted.metadata,
        no_store=request_options.wants_no_copy(headers),
    )


def _at(place: str, error: ErrorT) -> ErrorT:
    """The same error, about a field within `place`."""
    return type(error)(error.message, param=f"{place}.{error.param}" if error.param else place)


async def submit(request: GatewayRequest) -> web.Response:
    services = request.services
    plain, data = await read_plain_or_json(request, _plain_jobs)
    await next_turn()
    if plain is not None:
        job = _job(request, plain, CHAT, *await routed(request, CHAT, plain.request))
    else:
        job = await new_job(request, data, request_options.idempotency_key(request.headers))
    return await accepted_job(services, job, await enqueue(services, job))


async def submit_batch(request: GatewayRequest) -> web.Response:
    """All descriptions are checked before any job exists; the queue may then still refuse some of them."""
    services = request.services
    batch = validate(Batch, await read_json(request))
    key = request_options.idempotency_key(request.headers)
    jobs = []
    for place, data in enumerate(batch.jobs):
        try:
            jobs.append(await new_job(request, data, None if key is None else f"{key}:{place}"))
        except (BadRequest, NotFound) as error:
            raise _at(f"jobs[{place}]", error) from None
    outcomes = await services.queue.enqueue_many(jobs)
    for job, outcome in zip(jobs, outcomes, strict=True):
        count(services, job, outcome)
        if isinstance(outcome, Overloaded):
            await services.load.put_right(outcome)
    refused = [outcome for outcome in outcomes if isinstance(outcome, ArrieroError)]
    if len(refused) == len(jobs):
        raise refused[0]
    rows: Sequence[Mapping[str, Any]] = [
        {"object": "job.refused", **error_body(outcome.record(), request.request_id)}
        if isinstance(outcome, ArrieroError)
        else await job_of(services, job, outcome)
        for job, outcome in zip(jobs, outcomes, strict=True)
    ]
    counts = {"accepted": len(jobs) - len(refused), "refused": len(refused)}
    return json_response({"object": "list", "data": rows, **counts}, 202)


_HEADERS = (
    request_options.IDEMPOTENCY_HEADER,
    request_options.DEADLINE_HEADER,
    request_options.PROVIDER_HEADER,
    request_options.PRIVATE_HEADER,
    "x-request-id",
)
_ERRORS = (404, 408, 413, 415, 422, 429, 503)

ROUTES = [
    Route(
        method="POST",
        path="/v1/jobs",
        handler=submit,
        role=Role.INFERENCE,
        summary="Submit a job",
        description="The job goes on when the client leaves. Follow it with ?wait=30 or by its events.",
        tag="Jobs",
        body=JobBody,
        headers=_HEADERS,
        answers={202: "Job"},
        errors=_ERRORS,
    ),
    Route(
        method="POST",
        path="/v1/jobs:batch",
        handler=submit_batch,
        role=Role.INFERENCE,
        summary="Submit up to 1000 jobs at once",
        description="Answers in the order of the jobs. What the queue has no room for is refused one by one.",
        tag="Jobs",
        body=JobBatchBody,
        headers=_HEADERS,
        answers={202: "JobBatch"},
        errors=_ERRORS,
    ),
]
