"""Which handler gets a request: those of fixed paths by one look-up, all others by aiohttp's router."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from gateway.request import GatewayRequest
from gateway.services import Services

Respond = Callable[[Any], Awaitable[web.StreamResponse]]


class Dispatcher:
    """What the server calls for every request. Both ways lead through the application's one middleware.

    `by_router`: the application's own way, which also answers what nobody serves, other methods and `Expect`.
    """

    def __init__(self, app: web.Application, services: Services, by_router: Respond) -> None:
        (front,) = app.middlewares
        self._front: Any = front
        self._by_router = by_router
        self.fixed = {
            (route.method, route.resource.canonical): (services.routes[route], route.handler)
            for route in app.router.routes()
            if isinstance(route.resource, web.PlainResource)
        }

    def __call__(self, request: GatewayRequest) -> Awaitable[web.StreamResponse]:
        found = self.fixed.get(request.target)
        if found is None or "Expect" in request.headers:
            return self._by_router(request)
        request.route, handler = found
        answer: Awaitable[web.StreamResponse] = self._front(request, handler)
        return answer
