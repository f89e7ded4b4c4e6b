"""A request with all that the gateway keeps about one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader

from shared.access import ANYONE, Caller
from shared.envelope import accepted_request_id

if TYPE_CHECKING:
    from gateway.route_table import Route
    from gateway.services import Services

NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


class GatewayRequest(web.Request):
    """What every handler gets. Attributes, because a look-up through the application or by key costs each request a
    microsecond every time.
    """

    ATTRS = web.Request.ATTRS | frozenset(
        ("services", "target", "route", "started_at", "request_id", "caller", "cors_headers", "job_headers")
    )

    __hash__ = object.__hash__

    def __init__(
        self,
        services: Services,
        loop: asyncio.AbstractEventLoop,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> None:
        # Body sizes are enforced in gateway/body.py, before aiohttp would gather anything.
        super().__init__(message, payload, protocol, writer, task, loop, client_max_size=0)
        self.services = services
        self.target = (message.method, message.path)
        """Method and path with query, as they were sent."""
        self.route: Route | None = None
        """What its path is declared as, once that was looked up."""
        self.started_at = time.monotonic()
        """When the request's head was read, on the monotonic clock, seconds."""
        self.request_id = accepted_request_id(message.headers.get("x-request-id"))
        self.caller: Caller = ANYONE
        self.cors_headers = NO_HEADERS
        """What the answer tells a browser about pages of other origins."""
        self.job_headers = NO_HEADERS
        """Headers about the job behind a request; every answer of the request carries them, errors too."""
