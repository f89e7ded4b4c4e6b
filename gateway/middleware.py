"""What happens around every handler: request id, host and key check, error envelope, headers, one log line, one
count.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web
from multidict import CIMultiDict

from gateway.cors import CorsPolicy
from gateway.direct_errors import DirectErrors
from gateway.request import GatewayRequest
from gateway.route_table import ErrorForm, Role, Route, error_form, is_anthropic
from gateway.services import Services
from shared.access import allowed_host_names, check_host, identify
from shared.envelope import SERVER_NAME, error_response
from shared.errors import (
    ArrieroError,
    ErrorRecord,
    Forbidden,
    MethodNotAllowed,
    RouteNotFound,
)
from shared.telemetry.logging import REQUEST_ID, logger
from shared.wire.anthropic_render import error_body as anthropic_error_body
from shared.wire.ollama_render import error_body as ollama_error_body

log = logger("http")

CLIENT_CLOSED_REQUEST = 499
NO_ROUTE = "none"
_TOO_LATE_TO_GO_ON = frozenset({408, 413, 415})
"""After these, what the client is still sending is not read, so the connection cannot be used again."""

Handler = Callable[[GatewayRequest], Awaitable[web.StreamResponse]]


def stamp(request: GatewayRequest, headers: CIMultiDict[str]) -> None:
    """Put on an answer what every answer has. For a stream, call it before the first byte."""
    headers["x-request-id"] = request.request_id
    headers["openai-processing-ms"] = str(int((time.monotonic() - request.started_at) * 1000))
    headers["Server"] = SERVER_NAME
    if is_anthropic(request.target[1]):
        headers["request-id"] = request.request_id
    if job_headers := request.job_headers:
        headers.update(job_headers)
    if cors_headers := request.cors_headers:
        headers.update(cors_headers)


class GatewayStopping(ArrieroError):
    """This gateway is shutting down. Try again: another one, or its successor, will answer."""

    code, http_status, retryable = "gateway_stopping", 503, True


def stopping(request: GatewayRequest) -> GatewayStopping:
    """The error for a request that is cut off by the end of the drain; its job, if it has one, goes on."""
    job_id = request.job_headers.get("x-arriero-job-id")
    if job_id is None:
        return GatewayStopping()
    return GatewayStopping(
        f"This gateway is shutting down. The job goes on; its answer will be at GET /v1/jobs/{job_id}."
    )


def route_of(request: GatewayRequest) -> Route:
    """The declared route of a request that the router looked up. Raises RouteNotFound or MethodNotAllowed; a route
    nobody declared does not exist.
    """
    matched = request.match_info
    if matched.http_exception is not None:
        if isinstance(matched.http_exception, web.HTTPMethodNotAllowed):
            allowed = ", ".join(sorted(matched.http_exception.allowed_methods))
            request.job_headers = {"Allow": allowed}
            raise MethodNotAllowed(f"This path takes {allowed}, not {request.method[:20]}.")
        raise RouteNotFound()
    route = request.services.routes.get(matched.route)
    if route is None:
        raise RouteNotFound()
    return route


class FrontMiddleware:
    """The one middleware. Kept to one, because each layer costs every request."""

    __middleware_version__ = 1

    def __init__(self, services: Services) -> None:
        self._services = services
        settings = services.settings
        self._hosts = allowed_host_names(settings.allowed_hosts, settings.gateway_host)
        self._on_loopback = settings.on_loopback
        self._logs_requests = settings.most_logged in ("DEBUG", "INFO")
        self._debug = settings.debug
        self._other_forms: Mapping[ErrorForm, Callable[[ErrorRecord, str], dict[str, Any]]] = {
            ErrorForm.OLLAMA: lambda record, request_id: ollama_error_body(record),
            ErrorForm.DIRECT: DirectErrors.of(settings).body,
            ErrorForm.ANTHROPIC: anthropic_error_body,
        }
        self._cors = CorsPolicy(frozenset(settings.cors_allowed_origins), settings.cors_allow_credentials)

    async def __call__(self, request: GatewayRequest, handler: Handler) -> web.StreamResponse:
        services = self._services
        REQUEST_ID.set(request.request_id)
        services.meter.began(request)
        path, status = NO_ROUTE, CLIENT_CLOSED_REQUEST
        try:
            try:
                if self._on_loopback:
                    check_host(request.host, self._hosts)
                if self._cors.origins:
                    request.cors_headers = self._cors.answer_headers(request.headers.get("Origin"))
                    if request.method == "OPTIONS" and (asked := self._cors.preflight_headers(request.headers)):
                        status = 204
                        allowed = web.Response(status=status, headers=asked)
                        stamp(request, allowed.headers)
                        return allowed
                route = request.route = request.route or route_of(request)
                path = route.path
                if route.role is not Role.PUBLIC:
                    caller = request.caller = await identify(
                        request.headers, services.keys, on_loopback=self._on_loopback
                    )
                    if not caller.role.allows(route.role):
                        raise Forbidden(f"This needs a key with the role {route.role} or higher.")
                response = await handler(request)
            except ArrieroError as error:
                response = self._refuse(request, error.record())
            except asyncio.CancelledError:
                if not services.cutting_off:
                    raise
                # It is we who go, and the client gets an answer.
                response = self._refuse(request, stopping(request).record())
            except web.HTTPException as error:
                # aiohttp's own, e.g. for a body it cannot read: same envelope as ours.
                response = self._refuse(request, _from_http(error))
            except Exception as error:
                if isinstance(error, ConnectionError) and _has_left(request):
                    # Nobody reads this; aiohttp would log the error itself as a fault of ours.
                    response = web.Response(status=CLIENT_CLOSED_REQUEST)
                else:
                    response = self._refuse(request, self._unexpected(request, path, error))
            status = response.status
            if not response.prepared:
                stamp(request, response.headers)
                if services.draining or status in _TOO_LATE_TO_GO_ON:
                    response.force_close()
            return response
        finally:
            seconds = time.monotonic() - request.started_at
            services.meter.ended(request, path, request.target[0] if path != NO_ROUTE else "any", status, seconds)
            if self._logs_requests:
                self._log(request, path, status, seconds)

    def _unexpected(self, request: GatewayRequest, path: str, error: Exception) -> ErrorRecord:
        """What the caller learns of a fault in our code; the log has the rest. Call it while handling the error."""
        log.exception("http.unexpected_error", request_id=request.request_id, route=path)
        record = ArrieroError("Something went wrong; the gateway's log has it under this request id.").record()
        if self._debug:
            record.message += f" ({type(error).__name__})"
        return record

    def _refuse(self, request: GatewayRequest, record: ErrorRecord) -> web.Response:
        write = self._other_forms.get(error_form(request.path))
        body = None if write is None else write(record, request.request_id)
        response = error_response(record, request.request_id, body)
        if record.http_status == 401:
            response.headers["WWW-Authenticate"] = "Bearer"
        return response

    def _log(self, request: GatewayRequest, path: str, status: int, seconds: float) -> None:
        caller = request.caller
        # Probes and scrapes come every few seconds for ever.
        write = log.debug if path.startswith(("/health", "/metrics")) and status < 500 else log.info
        write(
            "http.request",
            request_id=request.request_id,
            method=request.method[:20],
            route=path,
            status=status,
            ms=round(seconds * 1000, 1),
            tenant=caller.tenant,
            key_id=caller.key_id,
            job_id=request.job_headers.get("x-arriero-job-id", ""),
            sdk_retry=request.headers.get("x-stainless-retry-count", "")[:8],
        )


def _has_left(request: GatewayRequest) -> bool:
    """Whether the client's connection is lost, or has failed and is about to be."""
    return request.transport is None or request.transport.is_closing()


def _from_http(error: web.HTTPException) -> ErrorRecord:
    kind = "invalid_request_error" if error.status < 500 else "server_error"
    return ErrorRecord(code="http_error", message=error.reason, kind=kind, http_status=error.status)
