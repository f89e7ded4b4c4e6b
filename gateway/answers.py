"""JSON answers, and the one that stands for a job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from gateway.request import NO_HEADERS
from gateway.services import Services
from gateway.waits import Outlook
from gateway.whole_answer import WholeAnswer
from shared.envelope import JSON
from shared.errors import JobNotFound
from shared.jobs import JobRecord, NewJob, State
from shared.queue.arrivals import Accepted
from shared.wire.openai_render import job_body, to_json


def json_response(body: dict[str, Any], status: int = 200, headers: Mapping[str, str] = NO_HEADERS) -> web.Response:
    return WholeAnswer(status, to_json(body), {"Content-Type": JSON, **headers})


def job_headers(job: NewJob) -> dict[str, str]:
    """The headers that tell of a job from its acceptance on."""
    headers = route_headers(job)
    headers["x-arriero-job-id"] = job.id
    if job.cache_as:
        headers["x-cache"] = "miss"
    return headers


def route_headers(job: NewJob) -> dict[str, str]:
    """The header that says where it was to be answered, and why."""
    if job.route is None:
        return {}
    return {"x-arriero-route": f"{job.route.candidates[0].qualified}; reason={job.route.reason}"}


def fresh_record(job: NewJob, accepted: Accepted) -> JobRecord:
    """The record of a job that was accepted this moment, without asking Redis for what we just told it."""
    now = accepted.at
    return JobRecord(
        id=job.id,
        kind=job.kind,
        state=accepted.state,
        priority=job.priority,
        tenant=job.tenant,
        model=job.model,
        created_at=now,
        deadline_at=now + job.timeout_s,
        updated_at=now,
        scheduled_for=now + job.delay_s if job.delay_s > 0 else None,
        metadata=job.metadata,
        route=job.route,
        request_id=job.request_id,
        keeps_events=job.keep_events,
    )


def body_of(record: JobRecord, outlook: Outlook | None) -> dict[str, Any]:
    """The job's body, with what it waits for."""
    if outlook is None:
        return job_body(record)
    return job_body(record, outlook.position, outlook.wait_s, outlook.reason)


async def render_job(services: Services, record: JobRecord) -> dict[str, Any]:
    """The job's body, with what it waits for now."""
    if record.state not in (State.QUEUED, State.RUNNING):
        return job_body(record)
    standing = await services.positions.ask(record.id)
    if services.load.is_old:
        await services.load.refresh()
    return body_of(record, services.load.outlook(standing))


async def job_of(services: Services, job: NewJob, accepted: Accepted) -> dict[str, Any]:
    """The body of a job that the queue has taken, or had already."""
    if accepted.duplicate:
        record = await services.queue.get(job.id)
        if record is None:
            raise JobNotFound()
        return await render_job(services, record)
    if services.load.is_old:
        await services.load.refresh()
    return body_of(fresh_record(job, accepted), services.load.outlook(accepted.standing))


async def accepted_job(services: Services, job: NewJob, accepted: Accepted, *, preferred: bool = False) -> web.Response:
    """202 with the job and where to follow it."""
    headers = job_headers(job)
    headers["Location"] = f"/v1/jobs/{job.id}"
    if preferred:
        headers["Preference-Applied"] = "respond-async"
    return json_response(await job_of(services, job, accepted), 202, headers)
