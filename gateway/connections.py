"""Guards on the connection itself, below any request: how many, how slow a request head may be, how a malformed one is
answered.

aiohttp limits the size of a head but not the time it takes, and answers parse errors with text. `GuardedHandler` adds
the missing limits; it reads some of `web.RequestHandler`'s attributes, pinned by `tests/gateway/test_connections.py`.
"""

from __future__ import annotations

import asyncio
import functools
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from gateway.dispatch import Dispatcher
from gateway.metrics import GatewayMetrics
from gateway.request import GatewayRequest
from gateway.services import Services
from gateway.whole_answer import WholeAnswer
from shared.envelope import error_response, new_request_id, raw_answer
from shared.errors import ArrieroError, BadRequest, QueueUnavailable, RequestTimeout

LINGER_S = 2.0
"""How long the rest of a refused body is read and thrown away, so that the client gets to see the answer."""

READ_BUFFER_BYTES = 64 * 1024
"""Also bounds how many one-byte chunks are parsed in one go: aiohttp pauses at a sixteenth of it, 4096 chunks, about
10 ms.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    max_connections: int
    header_timeout_s: float
    keepalive_timeout_s: float
    max_line_bytes: int
    max_headers: int


class HeaderTooLarge(BadRequest):
    """The request line or a header is too long, or there are too many headers."""

    code, http_status = "header_too_large", 431


class GuardedHandler(web.RequestHandler):
    """One connection."""

    __slots__ = ("_guard", "_head_begun", "_head_timer", "_refused")

    def __init__(self, manager: GuardedServer, **kwargs: Any) -> None:
        super().__init__(manager, **kwargs)
        self._guard = manager
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_begun = False
        self._refused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not self._guard.admit():
            self._refused = True
            assert isinstance(transport, asyncio.WriteTransport)
            busy = QueueUnavailable("Too many open connections. Reuse them, or come back shortly.", retry_after_s=1.0)
            transport.write(raw_answer(busy))
            transport.close()
            return
        super().connection_made(transport)
        self._arm()

    def connection_lost(self, exc: BaseException | None) -> None:
        if not self._refused:
            self._guard.release()
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        heads = self._request_count
        super().data_received(data)
        if self._request_count != heads:
            if self._head_timer is not None:
                self._disarm()
            self._head_begun = False
        elif not self._request_in_progress and not self._messages:
            # Bytes, but no whole head, and nobody reading a body: the head has begun.
            self._head_begun = True
            if self._head_timer is None:
                self._arm()

    def resume_reading(self, resume_parser: bool = True) -> None:
        # aiohttp calls this for every body, paused or not, and would each time parse nothing anew.
        if self._reading_paused:
            super().resume_reading(resume_parser)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        if isinstance(resp, WholeAnswer) and not self._upgraded and resp.send(request):
            return resp, False
        return await super().finish_response(request, resp, start_time)

    def _arm(self) -> None:
        self._head_timer = self._guard.loop.call_later(self._guard.limits.header_timeout_s, self._head_is_late)

    def _disarm(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self._request_in_progress or self._messages:
            return
        self._guard.metrics.heads_timed_out.inc()
        transport = self.transport
        if self._head_begun and transport is not None:
            late = RequestTimeout(f"The request head was not complete after {self._guard.limits.header_timeout_s:g} s.")
            transport.write(raw_answer(late))
        self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to a head that cannot be parsed, or to a fault outside of every handler. Tells nothing about the
        inside.
        """
        error: ArrieroError
        if isinstance(exc, LineTooLong) or (message is not None and "too many" in message.lower()):
            error = HeaderTooLarge()
        elif status == 400:
            error = BadRequest("This is not a well-formed HTTP/1.1 request.")
        else:
            self.log_exception("Error outside of a handler", exc_info=exc)
            error = ArrieroError()
        response = error_response(error.record(), new_request_id())
        response.force_close()
        return response


class GuardedServer(web.Server):
    """All connections of one listener."""

    def __init__(self, *args: Any, limits: ConnectionLimits, metrics: GatewayMetrics, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.limits = limits
        self.metrics = metrics
        self.loop = asyncio.get_running_loop()
        self.open = 0
        self._handler_options = {
            "loop": self.loop,
            "access_log": None,
            "keepalive_timeout": limits.keepalive_timeout_s,
            "max_line_size": limits.max_line_bytes,
            "max_field_size": limits.max_line_bytes,
            "max_headers": limits.max_headers,
            "lingering_time": LINGER_S,
            "read_bufsize": READ_BUFFER_BYTES,
            # A compressed body is refused; unpacking it first would be the attack.
            "auto_decompress": False,
        }

    def admit(self) -> bool:
        if self.open >= self.limits.max_connections:
            self.metrics.connections_refused.inc()
            return False
        self.open += 1
        self.metrics.connections.set(self.open)
        return True

    def release(self) -> None:
        self.open -= 1
        self.metrics.connections.set(self.open)

    def __call__(self) -> web.RequestHandler:
        return GuardedHandler(self, **self._handler_options)


class GuardedRunner(web.AppRunner):
    """`web.AppRunner` whose server has the guards. A client that goes away cancels its handler."""

    def __init__(self, app: web.Application, services: Services, limits: ConnectionLimits) -> None:
        super().__init__(app, handler_cancellation=True, shutdown_timeout=1.0)
        self._services = services
        self._limits = limits

    async def _make_server(self) -> web.Server:
        plain = await super()._make_server()
        return GuardedServer(
            Dispatcher(self.app, self._services, plain.request_handler),
            request_factory=functools.partial(GatewayRequest, self._services, asyncio.get_running_loop()),
            handler_cancellation=plain.handler_cancellation,
            limits=self._limits,
            metrics=self._services.metrics,
        )
