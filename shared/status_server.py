"""The status pages of a daemon: /health, /health/live, /health/ready and /metrics, on an aiohttp server of its own,
with whatever pages the daemon adds (`shared.pages`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

from aiohttp import web

from shared.api_keys import Role
from shared.errors import RouteNotFound
from shared.lifecycle import StopSignal, announce, listen
from shared.pages import Handler, Page, PageGuard, json_response
from shared.telemetry.metrics import CONTENT_TYPE, METRICS_OFF, Metrics

HEALTHY = "healthy"
MAX_BODY_BYTES = 16 * 1024

Readiness = Callable[[], Awaitable[Mapping[str, str]]]
"""State by dependency: `healthy`, or what is wrong."""
Refresh = Callable[[], Awaitable[None]]


def own_version() -> str:
    try:
        return version("arriero")
    except PackageNotFoundError:
        return "unknown"


def now_rfc3339() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class StatusServer:
    """Serves the status pages, and `pages`. `refresh` runs before the metrics are rendered."""

    def __init__(
        self,
        service: str,
        metrics: Metrics,
        readiness: Readiness,
        *,
        refresh: Refresh | None = None,
        pages: Sequence[Page] = (),
        guard: PageGuard | None = None,
        identity: Mapping[str, str] | None = None,
        optional: tuple[str, ...] = (),
        metrics_enabled: bool = True,
    ) -> None:
        """`guard` says who may call `pages`, and is needed for them. `identity` goes into every health body. A
        dependency in `optional` may be away: the service then counts as ready, and says that it is degraded."""
        if pages and guard is None:
            raise ValueError("pages need a guard")
        self._service = service
        self._metrics = metrics
        self._readiness = readiness
        self._refresh = refresh
        self._identity = identity or {}
        self._optional = optional
        self._guard = guard or PageGuard("")
        self.app = web.Application(middlewares=[self._guard], client_max_size=MAX_BODY_BYTES)
        open_pages: dict[str, Handler] = {
            "/health": self._health,
            "/health/live": self._live,
            "/health/ready": self._ready,
            "/metrics": self._render_metrics if metrics_enabled else _no_metrics,
        }
        for path, handler in open_pages.items():
            self._add(Page(method="GET", path=path, handler=handler, role=Role.PUBLIC))
        for page in pages:
            self._add(page)

    def _add(self, page: Page) -> None:
        for method in ("GET", "HEAD") if page.method == "GET" else (page.method,):
            route = self.app.router.add_route(method, page.path, _sends(page.handler))
            self._guard.roles[route] = page.role

    async def serve(self, host: str, port: int, stop: StopSignal) -> None:
        """Listen until `stop`. Raises ConfigFault when the address cannot be had, or would be open to everyone."""
        runner = web.AppRunner(self.app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await self._guard.start(f"{self._service.upper()}_HOST")
            _, bound_port = await listen(runner, self._service, host, port)
            announce(self._service, host, bound_port)
            await stop.wait()
        finally:
            await runner.cleanup()
            await self._guard.stop()

    def _base(self, status: str) -> dict[str, object]:
        uptime_s = round(time.time() - self._metrics.started_at, 3)
        base = {"status": status, "service": self._service, "timestamp": now_rfc3339(), "uptime": uptime_s}
        return {**base, **self._identity}

    async def _health(self, _: web.Request) -> web.Response:
        return json_response({**self._base("healthy"), "version": own_version()})

    async def _live(self, _: web.Request) -> web.Response:
        return json_response(self._base("alive"))

    async def _ready(self, _: web.Request) -> web.Response:
        services = dict(await self._readiness())
        ready = all(state == HEALTHY for name, state in services.items() if name not in self._optional)
        degraded = any(state != HEALTHY for state in services.values())
        body = {**self._base("ready" if ready else "not ready"), "degraded": degraded, "services": services}
        return json_response(body, 200 if ready else 503)

    async def _render_metrics(self, _: web.Request) -> web.Response:
        if self._refresh is not None:
            await self._refresh()
        # Rendering walks every sample; in a thread it does not hold up a health probe.
        body = await asyncio.to_thread(self._metrics.render)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})


async def _no_metrics(_: web.Request) -> web.Response:
    raise RouteNotFound(METRICS_OFF)


def _sends(handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def send(request: web.Request) -> web.StreamResponse:
        answer = await handler(request)
        return answer if isinstance(answer, web.StreamResponse) else json_response(answer)

    return send
