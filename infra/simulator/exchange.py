"""One HTTP call to the simulator: body read and parsed, fault drawn, log line begun and ended."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from infra.simulator.calls import Call, CallLog
from infra.simulator.failures import ApiError, default_text
from infra.simulator.faults import FAULT_HEADER, Fault, FaultBook, FaultError, parse_fault

JSON_TYPE = "application/json"
CLIENT_GONE_S = 60.0
"""Longest wait for aiohttp to notice a connection that we cut ourselves."""
FLUSH_S = 0.01
HTML = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>\n"


def chosen_id(request: web.Request) -> str | None:
    """The id that the caller chose for this call; the second name is OpenAI's."""
    return request.headers.get("x-request-id") or request.headers.get("x-client-request-id")


class Exchange:
    """A call under way."""

    __slots__ = ("body", "call", "fault", "is_openai", "received", "request", "was_cut")

    def __init__(self, request: web.Request, call: Call | None, *, is_openai: bool) -> None:
        self.request = request
        self.call = call
        self.is_openai = is_openai
        self.received = time.perf_counter()
        self.body: dict[str, Any] = {}
        self.fault: Fault | None = None
        self.was_cut = False

    @property
    def request_id(self) -> str | None:
        return chosen_id(self.request)

    def failure(self, error: ApiError) -> web.Response:
        body = error.openai_body() if self.is_openai else error.native_body()
        charset = None if self.is_openai else "utf-8"
        return web.Response(body=body, status=error.status, content_type=JSON_TYPE, charset=charset)

    async def cut(self, *, status: int | None, reset: bool = False) -> None:
        """Drop the connection, by a reset if asked. Never returns: aiohttp cancels the handler."""
        self.was_cut = True
        if self.call is not None:
            self.call.end(status)
        transport = self.request.transport
        if transport is not None:
            if reset and (raw := transport.get_extra_info("socket")) is not None:
                # Lingering for 0 s makes the kernel send RST instead of FIN.
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                # uvloop writes at the end of a turn, and an abort drops what is not yet written.
                await asyncio.sleep(FLUSH_S)
            transport.abort()
        await asyncio.sleep(CLIENT_GONE_S)
        raise asyncio.CancelledError


Handler = Callable[[Exchange], Awaitable[web.StreamResponse]]


def parse_body(raw: bytes) -> dict[str, Any]:
    """The JSON object of a request. Raises ApiError 400 in Ollama's words."""
    if not raw.strip():
        raise ApiError(400, "missing request body")
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise ApiError(400, f"invalid character in request body: {exc}") from None
    if not isinstance(value, dict):
        raise ApiError(400, f"json: cannot unmarshal {type(value).__name__} into Go value of type api.Request")
    return value


class Front:
    """Wraps handlers with what every call needs."""

    def __init__(self, calls: CallLog, faults: FaultBook) -> None:
        self._calls = calls
        self._faults = faults

    def serve(
        self,
        handler: Handler,
        *,
        inference: bool = False,
        logged: bool = False,
        openai: bool = False,
        body: bool = True,
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """`inference` calls are what a fault without a path hits; `logged` ones get a line in the call log."""

        async def served(request: web.Request) -> web.StreamResponse:
            path = request.path
            call = None
            if inference or logged:
                call = self._calls.begin("call", path=path, request_id=chosen_id(request))
            x = Exchange(request, call, is_openai=openai)
            try:
                response = await self._handle(x, handler, inference, body)
            except ApiError as error:
                response = x.failure(error)
            except (asyncio.CancelledError, ConnectionError):
                if call is not None:
                    call.end(499, cancelled=not x.was_cut)
                raise
            except BaseException:
                if call is not None:
                    call.end(500)
                raise
            if call is not None:
                call.end(response.status)
            return response

        return served

    async def _handle(self, x: Exchange, handler: Handler, inference: bool, body: bool) -> web.StreamResponse:
        problem: ApiError | None = None
        if body:
            try:
                x.body = parse_body(await x.request.read())
            except ApiError as exc:
                problem = exc
        asked = x.body.get("model") or x.body.get("name") or ""
        model = asked if isinstance(asked, str) else ""
        if x.call is not None:
            x.call.model = model
        if described := x.request.headers.get(FAULT_HEADER):
            try:
                x.fault = parse_fault(described)
            except FaultError as exc:
                raise ApiError(400, f"header {FAULT_HEADER}: {exc}") from None
        else:
            x.fault = self._faults.strike(x.request.path, model, is_inference=inference)
        if x.fault is not None and (struck := await strike_first(x, x.fault)) is not None:
            return struck
        if problem is not None:
            raise problem
        return await handler(x)


async def strike_first(x: Exchange, fault: Fault) -> web.Response | None:
    """The answer of a fault that comes before the first byte; None: the call goes on, perhaps to be struck later."""
    if fault.kind == "hang" and fault.strikes_first:
        await hang(fault)
        return None
    if fault.kind not in ("hang", "drip") and fault.delay_seconds:
        await asyncio.sleep(fault.delay_seconds)
    if not fault.strikes_first:
        return None
    if fault.kind == "refuse":
        await x.cut(status=None, reset=True)
    headers = {} if fault.retry_after is None else {"Retry-After": f"{fault.retry_after:g}"}
    if fault.kind == "garbage":
        text = HTML if fault.body is None else fault.body
        kind = "text/html" if fault.variant == "html" else JSON_TYPE
        return web.Response(text=text, status=200, content_type=kind, headers=headers)
    if fault.body is not None:
        return web.Response(text=fault.body, status=fault.status, content_type=JSON_TYPE, headers=headers)
    response = x.failure(ApiError(fault.status, default_text(fault.status)))
    response.headers.update(headers)
    return response


async def hang(fault: Fault) -> None:
    """Say nothing: for `delay_seconds`, or until the client leaves and the call is cancelled."""
    if fault.delay_seconds is None:
        await asyncio.Event().wait()
    else:
        await asyncio.sleep(fault.delay_seconds)
