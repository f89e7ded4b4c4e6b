"""The job face: submit, look, wait, list, cancel."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, RootModel, StringConstraints

from gateway import request_options
from gateway.answers import accepted_job, json_response, render_job
from gateway.body import read_json
from gateway.inference import enqueue
from gateway.route_table import Role, Route
from gateway.routes.job_events import job_events
from gateway.routes.openai import CHAT, COMPLETION, EMBEDDING, Face
from gateway.services import CALLER, REQUEST_ID, SERVICES, Services
from shared.errors import BadRequest, JobNotFound
from shared.jobs import JobRecord, Kind, NewJob, Priority, State, new_job_id
from shared.wire.openai import ChatCompletionBody, CompletionBody, EmbeddingBody, validate
from shared.wire.openai_render import job_body

MAX_WAIT_S = 60.0
MAX_DEADLINE_S = 86_400.0
MAX_DELAY_S = 30 * 86_400.0
MAX_METADATA = 16
MAX_PAGE = 100

FACES: dict[str, Face] = {"chat.completion": CHAT, "completion": COMPLETION, "embedding": EMBEDDING}

MetadataName = Annotated[str, StringConstraints(min_length=1, max_length=64)]
MetadataText = Annotated[str, StringConstraints(max_length=512)]


class JobOptions(BaseModel):
    """What every job can be told."""

    model_config = ConfigDict(extra="ignore", strict=True)

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
    webhook_url: str | None = None


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


class JobBody(RootModel[ChatJob | CompletionJob | EmbeddingJob]):
    """POST /v1/jobs as it is described. `request` is the OpenAI body of its type; `stream` in it is ignored."""


class JobQuery(BaseModel):
    """Query of GET /v1/jobs/{id}."""

    model_config = ConfigDict(extra="ignore")

    wait: float = Field(
        0,
        ge=0,
        le=MAX_WAIT_S,
        allow_inf_nan=False,
        description="Answer when the job has ended, or after so many seconds.",
    )


class JobListQuery(BaseModel):
    """Query of GET /v1/jobs."""

    model_config = ConfigDict(extra="ignore")

    status: State | None = Field(None, description="Only jobs in this state.")
    model: str = Field("", max_length=255, description="Only jobs for this model, as it was asked for.")
    cursor: str = Field("", pattern="^[0-9]{0,9}$", description="`next_cursor` of the page before.")
    limit: int = Field(20, ge=1, le=MAX_PAGE, description="Most jobs on a page.")


def _validate_request(face: Face, request: dict[str, Any]) -> Any:
    try:
        return validate(face.body, request)
    except BadRequest as error:
        raise BadRequest(error.message, param=f"request.{error.param}" if error.param else "request") from None


async def submit(request: web.Request) -> web.Response:
    services, caller = request.app[SERVICES], request[CALLER]
    data = await read_json(request)
    wanted = validate(Submission, data)
    if wanted.webhook_url is not None:
        raise BadRequest(
            "Webhooks are off on this gateway. Leave `webhook_url` null and follow the job with "
            "GET /v1/jobs/{id}?wait=30 or its /events.",
            param="webhook_url",
        )
    face = FACES[wanted.type]
    body = _validate_request(face, wanted.request)
    await services.catalogue.require(body.model)
    key = request_options.idempotency_key(request.headers)
    deadline_s = wanted.deadline_seconds or request_options.deadline_s(
        request.headers, services.settings.request_timeout, silent=False
    )
    job = NewJob(
        id=new_job_id() if key is None else request_options.idempotent_job_id(caller.tenant, key),
        kind=face.kind,
        model=body.model,
        request=face.to_canonical(body),
        tenant=caller.tenant,
        priority=Priority(wanted.priority),
        # The queue counts from acceptance.
        timeout_s=wanted.delay_seconds + deadline_s,
        delay_s=wanted.delay_seconds,
        retention_s=services.settings.result_ttl,
        keep_events=face.kind is not Kind.EMBEDDING,
        restartable=True,
        request_id=request[REQUEST_ID],
        metadata=wanted.metadata,
        fingerprint="" if key is None else request_options.fingerprint("job", data),
        private=request_options.wants_no_copy(request.headers),
    )
    return await accepted_job(services, job, await enqueue(services, job))


async def own_job(request: web.Request, services: Services) -> JobRecord:
    """The job in the path, if it is the caller's. Raises JobNotFound, alike for another tenant's and for none."""
    record = await services.queue.get(job_id_of(request))
    if record is None or record.tenant != request[CALLER].tenant:
        raise JobNotFound()
    return record


def job_id_of(request: web.Request) -> str:
    job_id: str = request.match_info["job_id"]
    if len(job_id) > 64 or not job_id.isascii() or not job_id.replace("_", "").isalnum():
        raise JobNotFound()
    return job_id


async def show(request: web.Request) -> web.Response:
    services = request.app[SERVICES]
    query = validate(JobQuery, dict(request.query))
    record = await own_job(request, services)
    if query.wait and not record.state.is_terminal and await _ends_within(services, record.id, query.wait):
        record = await own_job(request, services)
    return json_response(await render_job(services, record))


async def _ends_within(services: Services, job_id: str, seconds: float) -> bool:
    subscription = await services.replies.attach(job_id)
    if subscription is None:
        return True
    with subscription:
        return await subscription.ended(seconds) is not None


async def list_jobs(request: web.Request) -> web.Response:
    services = request.app[SERVICES]
    query = validate(JobListQuery, dict(request.query))
    page = await services.queue.list(
        request[CALLER].tenant, state=query.status, model=query.model, cursor=query.cursor, limit=query.limit
    )
    waiting = [record.id for record in page.jobs if record.state is State.QUEUED]
    positions = await services.queue.positions(waiting) if waiting else {}
    waits = await asyncio.gather(*(services.load.expected_wait_s(positions.get(record.id)) for record in page.jobs))
    return json_response(
        {
            "object": "list",
            "data": [
                job_body(record, position=positions.get(record.id), expected_wait_seconds=wait_s)
                for record, wait_s in zip(page.jobs, waits, strict=True)
            ],
            "has_more": bool(page.next_cursor),
            "next_cursor": page.next_cursor,
        }
    )


async def cancel(request: web.Request) -> web.Response:
    services = request.app[SERVICES]
    record = await own_job(request, services)
    if not record.state.is_terminal:
        await services.queue.cancel(record.id)
        record = await own_job(request, services)
    return json_response(await render_job(services, record))


async def events(request: web.Request) -> web.StreamResponse:
    services = request.app[SERVICES]
    record = await own_job(request, services)
    return await job_events(request, services, record.id)


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
        headers=(request_options.IDEMPOTENCY_HEADER, request_options.DEADLINE_HEADER, "x-request-id"),
        answers={202: "Job"},
        errors=(404, 408, 413, 415, 422, 429, 503),
    ),
    Route(
        method="GET",
        path="/v1/jobs",
        handler=list_jobs,
        role=Role.INFERENCE,
        summary="List your jobs, newest first",
        tag="Jobs",
        query=JobListQuery,
        answers={200: "JobList"},
        errors=(503,),
    ),
    Route(
        method="GET",
        path="/v1/jobs/{job_id}",
        handler=show,
        role=Role.INFERENCE,
        summary="Look at a job, or wait for its end",
        tag="Jobs",
        query=JobQuery,
        answers={200: "Job"},
        errors=(404, 503),
    ),
    Route(
        method="DELETE",
        path="/v1/jobs/{job_id}",
        handler=cancel,
        role=Role.INFERENCE,
        summary="Cancel a job",
        description="A waiting job ends at once, a running one within 2 s. A job that has ended stays as it is.",
        tag="Jobs",
        answers={200: "Job"},
        errors=(404, 503),
    ),
    Route(
        method="GET",
        path="/v1/jobs/{job_id}/events",
        handler=events,
        role=Role.INFERENCE,
        summary="Follow a job",
        description="Server-sent events `started`, `chunk`, `restart` (what earlier runs sent is void) and `ended`.",
        tag="Jobs",
        headers=(request_options.LAST_EVENT_HEADER,),
        answers={200: "text/event-stream"},
        errors=(404, 503),
    ),
]
