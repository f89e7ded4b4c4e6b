"""OpenAI's batches: a file of requests, answered when there is room."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import replace

from aiohttp import web

from gateway import request_options
from gateway.answers import json_response
from gateway.batches.lines import RequestLine, at_line, read_requests
from gateway.batches.model import JOB_TYPES, REFUSED, WINDOW_S, Batch, FileNotFound, Progress, batch_body, key_of
from gateway.batches.outputs import AT_A_TIME, advanced
from gateway.batches.store import beginning
from gateway.body import read_json
from gateway.inference import count
from gateway.request import GatewayRequest
from gateway.route_table import Role, Route
from gateway.routes import files
from gateway.routes.batch_bodies import BATCH_ANSWERS as BATCH_ANSWERS
from gateway.routes.batch_bodies import BatchBody, PageQuery
from gateway.routes.files import batch_of
from gateway.routes.submission import new_job
from shared.errors import ArrieroError, BadRequest, IdempotencyMismatch, NotFound
from shared.jobs import NewJob
from shared.wire.openai_validation import validate

BREATH = 20
"""Requests that are checked before others get a turn."""


def _new_id(tenant: str, key: str | None) -> str:
    """A batch's id; a repetition with the same Idempotency-Key gets the same one."""
    if key is None:
        return f"batch_{secrets.token_hex(16)}"
    named = f"{tenant}\0{key}".encode()
    return f"batch_{hashlib.blake2b(named, digest_size=16, person=b'batch').hexdigest()}"


async def create(request: GatewayRequest) -> web.Response:
    """All requests are checked before any job exists; the queue may then still refuse some of them."""
    services, tenant = request.services, request.caller.tenant
    sent = await read_json(request)
    body, fingerprint = validate(BatchBody, sent), request_options.fingerprint("batch", sent)
    batch_id = _new_id(tenant, request_options.idempotency_key(request.headers))
    if (known := await services.batches.get(tenant, batch_id)) is not None:
        batch, progress = known
        if batch.fingerprint != fingerprint:
            raise IdempotencyMismatch(param=request_options.IDEMPOTENCY_HEADER)
        return json_response(batch_body(batch, await advanced(services.queue, services.batches, batch, progress)))
    try:
        data = await services.files.read(tenant, await services.files.get(tenant, body.input_file_id))
    except FileNotFound as error:
        raise FileNotFound(error.message, param="input_file_id") from None
    # Thousands of lines: whoever streams meanwhile must not notice.
    requests = await asyncio.to_thread(read_requests, data, body.endpoint, services.settings.max_body_bytes)
    keep_s = WINDOW_S + int(services.settings.result_ttl)
    jobs = await _jobs(request, body, batch_id, requests, keep_s)
    outcomes = await services.queue.enqueue_many(jobs)
    for job, outcome in zip(jobs, outcomes, strict=True):
        count(services, job, outcome)
    refused = {place: outcome for place, outcome in enumerate(outcomes) if isinstance(outcome, ArrieroError)}
    if len(refused) == len(jobs):
        raise refused[0]
    now = await services.batches.now()
    batch = Batch(
        id=batch_id,
        tenant=tenant,
        endpoint=body.endpoint,
        input_file_id=body.input_file_id,
        metadata=body.metadata or {},
        created_at=now,
        kept_until=now + keep_s,
        fingerprint=fingerprint,
        custom_ids=[one.custom_id for _, one in requests],
        refused={place: error.record() for place, error in refused.items()},
    )
    progress = Progress(beginning(len(jobs), list(refused), REFUSED))
    await services.batches.put(batch, progress)
    return json_response(batch_body(batch, progress))


async def _jobs(
    request: GatewayRequest, body: BatchBody, batch_id: str, requests: Sequence[tuple[int, RequestLine]], keep_s: int
) -> list[NewJob]:
    """A job for each request. Raises BadRequest or NotFound that names the line, and what `new_job` raises."""
    jobs = []
    for place, (number, one) in enumerate(requests):
        described = {
            "type": JOB_TYPES[body.endpoint],
            "request": one.body,
            "priority": "low",
            "deadline_seconds": WINDOW_S,
            "metadata": {**(body.metadata or {}), "batch_id": batch_id, "custom_id": one.custom_id},
        }
        try:
            job = await new_job(request, described, key_of(batch_id, place))
        except (BadRequest, NotFound) as error:
            raise at_line(number, error) from None
        # The output is written from the jobs: none may go before the batch does.
        job.retention_s = keep_s
        jobs.append(job)
        if place % BREATH == 0:
            await asyncio.sleep(0)
    return jobs


async def show(request: GatewayRequest) -> web.Response:
    return json_response(batch_body(*await batch_of(request, request.match_info["batch_id"])))


async def listing(request: GatewayRequest) -> web.Response:
    services, tenant = request.services, request.caller.tenant
    query = validate(PageQuery, dict(request.query))
    ids = list(await services.batches.ids(tenant))
    if query.after and query.after not in ids:
        raise BadRequest("`after`: no batch here has that id. Leave it out to start anew.", param="after")
    start = ids.index(query.after) + 1 if query.after else 0
    page = ids[start : start + query.limit]
    found = [one for batch_id in page if (one := await services.batches.get(tenant, batch_id)) is not None]
    rows = [
        batch_body(batch, await advanced(services.queue, services.batches, batch, progress))
        for batch, progress in found
    ]
    return json_response({"object": "list", "data": rows, "has_more": start + len(page) < len(ids)})


async def cancel(request: GatewayRequest) -> web.Response:
    """Requests that have an answer keep it. Those that run are stopped within two seconds."""
    services = request.services
    batch, progress = await batch_of(request, request.match_info["batch_id"])
    if progress.is_over or progress.cancelling_at:
        return json_response(batch_body(batch, progress))
    progress = replace(progress, cancelling_at=await services.batches.now())
    await services.batches.note(batch, progress, cancelling=True)
    waiting = progress.unfinished
    for start in range(0, len(waiting), AT_A_TIME):
        ids = [batch.job_id(place) for place in waiting[start : start + AT_A_TIME]]
        await asyncio.gather(*(services.queue.cancel(job_id) for job_id in ids))
    progress = await advanced(services.queue, services.batches, batch, progress)
    return json_response(batch_body(batch, progress))


_ONE = "/v1/batches/{batch_id}"
ROUTES = [
    *files.ROUTES,
    Route(
        method="POST",
        path="/v1/batches",
        handler=create,
        role=Role.INFERENCE,
        summary="Have a file of requests answered",
        description="Each line becomes a job of low priority. An error in one line refuses them all, and names it.",
        tag="Batches",
        body=BatchBody,
        headers=(request_options.IDEMPOTENCY_HEADER, request_options.PRIVATE_HEADER, "x-request-id"),
        answers={200: "BatchAnswer"},
        errors=(404, 408, 409, 413, 415, 422, 429, 503),
    ),
    Route(
        method="GET",
        path="/v1/batches",
        handler=listing,
        role=Role.INFERENCE,
        summary="List the batches",
        tag="Batches",
        query=PageQuery,
        answers={200: "BatchList"},
    ),
    Route(
        method="GET",
        path=_ONE,
        handler=show,
        role=Role.INFERENCE,
        summary="See how far a batch is",
        tag="Batches",
        answers={200: "BatchAnswer"},
    ),
    Route(
        method="POST",
        path=_ONE + "/cancel",
        handler=cancel,
        role=Role.INFERENCE,
        summary="Cancel what is left of a batch",
        tag="Batches",
        answers={200: "BatchAnswer"},
    ),
]
