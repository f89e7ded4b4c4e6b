"""Jobs that change models: install, import, load, unload, update, delete. The model managers carry them out."""

from __future__ import annotations

import re

from aiohttp import web

from gateway.answers import json_response
from gateway.body import read_json
from gateway.request import GatewayRequest
from gateway.route_table import Role, Route
from gateway.routes.model_job_bodies import (
    OPERATIONS,
    JobType,
    ModelJobBody,
    ModelJobListQuery,
    ModelJobParams,
    ModelJobQuery,
    model_job_body,
)
from gateway.routing_errors import ServiceNotConfigured
from gateway.service_models import MANAGED
from gateway.services import Services
from shared.errors import ArrieroError, BackendUnreachable, BadRequest, ModelNotFound, OperationNotFound
from shared.jobs import State
from shared.model_names import same
from shared.operations.orders import Operation
from shared.services.names import parse
from shared.telemetry.logging import logger
from shared.wire.openai import validate
from shared.wire.operations import ModelOperation

log = logger("model_jobs")

JOB_PATH = "/jobs/{model_job_id}"
_ID = re.compile(r"op_[0-9a-f]{20}_[0-9]{1,9}")
_BRINGS: frozenset[JobType] = frozenset({"install", "import"})
"""Types that need no model to be there yet."""


class NotRetryable(ArrieroError):
    """Only a job that failed, expired or was cancelled can be run again."""

    code, kind, http_status = "job_not_retryable", "invalid_request_error", 409


async def submit(request: GatewayRequest) -> web.Response:
    wanted = validate(ModelJobBody, await read_json(request))
    services = request.services
    order = order_of(services, wanted.type, wanted.params)
    if wanted.type not in _BRINGS:
        await _check_there(services, order)
    return _accepted(await _place(request, order))


def order_of(services: Services, job_type: JobType, params: ModelJobParams) -> ModelOperation:
    """What the managers are to do. Raises ServiceNotConfigured, and BadRequest for a service that they do not look
    after."""
    name = parse(params.model_name, services.registry, params.service_name or MANAGED)
    if name.prefixed and params.service_name not in (None, name.service):
        raise BadRequest(
            f"`params.model_name` says the service {name.service!a}, `params.service_name` another. Name one of them.",
            param="params.service_name",
        )
    try:
        service = services.models.service(name.service)
    except ServiceNotConfigured as missing:
        missing.param = "params.service_name"
        raise
    if service.name != MANAGED:
        raise BadRequest(
            f"Nobody changes the models of {service.name} from here: GET /llm/services/{service.name}/capabilities.",
            param="params.service_name",
        )
    return ModelOperation(op=OPERATIONS[job_type], model=name.model, host=params.host, file=params.file)


async def _place(request: GatewayRequest, order: ModelOperation) -> Operation:
    caller = request.caller
    by = f"{caller.tenant}/{caller.key_id}" if caller.key_id else caller.tenant
    try:
        operation = await request.services.orders.place(order, by=by, request_id=request.request_id)
    except BadRequest as error:
        names = {"model": "model_name"}
        raise BadRequest(error.message, param=f"params.{names.get(error.param or '', error.param)}") from None
    log.info("model_job.ordered", job_id=operation.record.id, op=order.op, model=order.model, host=order.host)
    return operation


async def _check_there(services: Services, order: ModelOperation) -> None:
    """Raises ModelNotFound for a model that is not there, and is not just coming: then its order tells which waits for
    which."""
    try:
        await services.models.one(MANAGED, order.model)
    except BackendUnreachable:
        return  # the job waits for its host
    except ModelNotFound as missing:
        missing.param = "params.model_name"
        coming = {same(operation.record.model) for operation in await services.orders.under_way()}
        if same(order.model) not in coming:
            raise


async def list_jobs(request: GatewayRequest) -> web.Response:
    query = validate(ModelJobListQuery, dict(request.query))
    operations = await request.services.orders.list(query.limit)
    return json_response({"object": "list", "data": [model_job_body(one, MANAGED) for one in operations]})


async def show(request: GatewayRequest) -> web.Response:
    query = validate(ModelJobQuery, dict(request.query))
    operation = await request.services.orders.wait(job_id_of(request), query.wait)
    return json_response(model_job_body(operation, MANAGED))


async def cancel(request: GatewayRequest) -> web.Response:
    operation = await request.services.orders.cancel(job_id_of(request))
    return json_response(model_job_body(operation, MANAGED))


async def retry(request: GatewayRequest) -> web.Response:
    """The same again, as a new job."""
    ended = await request.services.orders.get(job_id_of(request))
    state = ended.record.state
    if not state.is_terminal or state is State.SUCCEEDED:
        raise NotRetryable(f"The job is {state.value}; only one that failed, expired or was cancelled can run again.")
    order = ended.order
    order.reason = f"retry of {ended.record.id}"
    return _accepted(await _place(request, order))


def job_id_of(request: GatewayRequest) -> str:
    """Raises OperationNotFound for what is no id."""
    job_id = request.match_info["model_job_id"]
    if not _ID.fullmatch(job_id):
        raise OperationNotFound
    return job_id


def _accepted(operation: Operation) -> web.Response:
    response = json_response(model_job_body(operation, MANAGED), 202)
    response.headers["Location"] = f"/jobs/{operation.record.id}"
    return response


_ORDER_ERRORS = (404, 409, 413, 415, 429, 503)

ROUTES = [
    Route(
        method="POST",
        path="/jobs",
        handler=submit,
        role=Role.ADMIN,
        summary="Install, import, load, unload, update or delete a model",
        description="An order repeated while it is under way is the same job; a different one on that model gets 409.",
        tag="Model jobs",
        body=ModelJobBody,
        answers={202: "ModelJob"},
        errors=_ORDER_ERRORS,
    ),
    Route(
        method="GET",
        path="/jobs",
        handler=list_jobs,
        role=Role.OPERATOR,
        summary="List the latest changes to models",
        tag="Model jobs",
        query=ModelJobListQuery,
        answers={200: "ModelJobList"},
        errors=(503,),
    ),
    Route(
        method="GET",
        path=JOB_PATH,
        handler=show,
        role=Role.OPERATOR,
        summary="Look at a change to a model and how far it is, or wait for news of it",
        tag="Model jobs",
        query=ModelJobQuery,
        answers={200: "ModelJob"},
        errors=(404, 503),
    ),
    Route(
        method="DELETE",
        path=JOB_PATH,
        handler=cancel,
        role=Role.ADMIN,
        summary="Cancel a change to a model",
        description="What an installation has downloaded is kept, and the next one goes on from there.",
        tag="Model jobs",
        answers={200: "ModelJob"},
        errors=(404, 503),
    ),
    Route(
        method="POST",
        path=f"{JOB_PATH}/retry",
        handler=retry,
        role=Role.ADMIN,
        summary="Run a change to a model again that failed or was cancelled",
        tag="Model jobs",
        answers={202: "ModelJob"},
        errors=(404, 409, 429, 503),
    ),
]
