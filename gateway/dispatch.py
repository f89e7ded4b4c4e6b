"""What a request is born with, and which handler gets it: those of fixed paths by one look-up, all others by aiohttp's
router.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader

from gateway.request import GatewayRequest
from gateway.services import Services

Respond = Callable[[Any], Awaitable[web.StreamResponse]]


class RequestFactory:
    """Makes the request of a head that was just read."""

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
    ) -> GatewayRequest:
        return GatewayRequest(self._services, message, payload, protocol, writer, task, self._loop)


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

    async def __call__(self, request: GatewayRequest) -> web.StreamResponse:
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
