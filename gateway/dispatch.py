"""What a request is born with, and which handler gets it: those of fixed paths by one look-up, all others by aiohttp's
router.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader

from gateway.services import CALLER, CORS_HEADERS, JOB_HEADERS, NO_HEADERS, REQUEST_ID, SERVICES, STARTED_AT, Services
from shared.access import ANYONE
from shared.envelope import accepted_request_id

Respond = Callable[[Any], Awaitable[web.StreamResponse]]


class RequestFactory:
    """Makes the request of a head that was just read, with all that the gateway keeps about one."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._loop = asyncio.get_running_loop()

    def __call__(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.Request:
        state: dict[web.RequestKey[Any] | str, Any] = {
            SERVICES: self._services,
            STARTED_AT: time.monotonic(),
            REQUEST_ID: accepted_request_id(message.headers.get("x-request-id")),
            CALLER: ANYONE,
            CORS_HEADERS: NO_HEADERS,
            JOB_HEADERS: NO_HEADERS,
        }
        # Body sizes are enforced in gateway/body.py, before aiohttp would gather anything.
        return web.Request(message, payload, protocol, writer, task, self._loop, client_max_size=0, state=state)


class Dispatcher:
    """What the server calls for every request. Both ways lead through the application's one middleware.

    `by_router`: the application's own way, which also answers what nobody serves, other methods and `Expect`.
    """

    def __init__(self, app: web.Application, by_router: Respond) -> None:
        (front,) = app.middlewares
        self._front: Any = front
        self._by_router = by_router
        self.matches = {
            (route.method, route.resource.canonical): _match(app, route)
            for route in app.router.routes()
            if isinstance(route.resource, web.PlainResource)
        }

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        match = self.matches.get((request.method, request.raw_path))
        if match is None or "Expect" in request.headers:
            return await self._by_router(request)
        # As `web.Application` does once it has searched; what else it does is for applications within applications.
        request._match_info = match
        answer: web.StreamResponse = await self._front(request, match.handler)
        return answer


def _match(app: web.Application, route: web.AbstractRoute) -> web.UrlMappingMatchInfo:
    """What the router would find on a path without variables; the same for every request."""
    match = web.UrlMappingMatchInfo({}, route)
    match.add_app(app)
    match.freeze()
    return match
