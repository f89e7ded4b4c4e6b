"""The job face once a job exists: look, wait, list, cancel, follow."""

from __future__ import annotations

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from gateway import request_options
from gateway.answers import body_of, json_response, render_job
from gateway.request import GatewayRequest
from gateway.route_table import Role, Route
from gateway.routes.job_events import job_events
from gateway.services import Services
from shared.errors import JobNotFound
from shared.jobs import JobRecord, State
from shared.wire.openai import validate

MAX_WAIT_S = 60.0
MAX_PAGE = 100


class JobQuery(BaseModel):
    """Query of GET /v1/jobs/{id}."""

    model_config = ConfigDict(extra="forbid")

    wait: float = Field(
        0,
        ge=0,
        le=MAX_WAIT_S,
        allow_inf_nan=False,
        description="Answer when the job has ended, or after so many seconds.",
    )


class JobListQuery(BaseModel):
    """Query of GET /v1/jobs."""

    model_config = ConfigDict(extra="forbid")

    status: State | None = Field(None, description="Only jobs in this state.")
    model: str = Field("", max_length=255, description="Only jobs for this model, as it was asked for.")
    cursor: str = Field("", pattern="^[0-9]{0,9}$", description="`next_cursor` of the page before.")
    limit: int = Field(20, ge=1, le=MAX_PAGE, description="Most jobs on a page.")


async def own_job(request: GatewayRequest, services: Services) -> JobRecord:
    """The job in the path, if it is the caller's. Raises JobNotFound, alike for another tenant's and for none."""
    record = await services.queue.get(job_id_of(request))
    if record is None or record.tenant != request.caller.tenant:
        raise JobNotFound()
    return record


def job_id_of(request: GatewayRequest) -> str:
    job_id: str = request.match_info["job_id"]
    if len(job_id) > 64 or not job_id.isascii() or not job_id.replace("_", "").isalnum():
        raise JobNotFound()
    return job_id


async def show(request: GatewayRequest) -> web.Response:
    services = request.services
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


async def list_jobs(request: GatewayRequest) -> web.Response:
    services = request.services
    query = validate(JobListQuery, dict(request.query))
    page = await services.queue.list(
        request.caller.tenant, state=query.status, model=query.model, cursor=query.cursor, limit=query.limit
    )
    unfinished = [record.id for record in page.jobs if record.state in (State.QUEUED, State.RUNNING)]
    standings = await services.queue.standings(unfinished)
    if standings:
        await services.load.refresh()
    return json_response(
        {
            "object": "list",
            "data": [body_of(record, services.load.outlook(standings.get(record.id))) for record in page.jobs],
            "has_more": bool(page.next_cursor),
            "next_cursor": page.next_cursor,
        }
    )


async def cancel(request: GatewayRequest) -> web.Response:
    services = request.services
    record = await own_job(request, services)
    if not record.state.is_terminal:
        await services.queue.cancel(record.id)
        record = await own_job(request, services)
    return json_response(await render_job(services, record))


async def events(request: GatewayRequest) -> web.StreamResponse:
    services = request.services
    record = await own_job(request, services)
    return await job_events(request, services, record.id)


ROUTES = [
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
