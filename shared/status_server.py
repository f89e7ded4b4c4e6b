"""The status pages of a daemon: /health, /health/live, /health/ready and /metrics, on an aiohttp server of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import msgspec
from aiohttp import web

from shared.lifecycle import StopSignal, announce, listen
from shared.telemetry.metrics import CONTENT_TYPE, Metrics

HEALTHY = "healthy"
_encode = msgspec.json.Encoder().encode

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


def json_response(body: object, status: int = 200) -> web.Response:
    return web.Response(body=_encode(body), status=status, content_type="application/json")


class StatusServer:
    """Serves the status pages, and what `routes` adds. `refresh` runs before the metrics are rendered."""

    def __init__(
        self,
        service: str,
        metrics: Metrics,
        readiness: Readiness,
        *,
        refresh: Refresh | None = None,
        routes: Mapping[str, Callable[[], Awaitable[object]]] | None = None,
        identity: Mapping[str, str] | None = None,
        optional: tuple[str, ...] = (),
    ) -> None:
        """`routes`: path -> coroutine function whose value is sent as JSON to a GET. `identity` goes into every health
        body. A dependency in `optional` may be away: the service then counts as ready, and says that it is degraded."""
        self._service = service
        self._metrics = metrics
        self._readiness = readiness
        self._refresh = refresh
        self._identity = identity or {}
        self._optional = optional
        self.app = web.Application(client_max_size=1024)
        self.app.router.add_get("/health", self._health)
        self.app.router.add_get("/health/live", self._live)
        self.app.router.add_get("/health/ready", self._ready)
        self.app.router.add_get("/metrics", self._render_metrics)
        for path, produce in (routes or {}).items():
            self.app.router.add_get(path, _sends(produce))

    async def serve(self, host: str, port: int, stop: StopSignal) -> None:
        """Listen until `stop`. Raises ConfigFault when the address cannot be had."""
        runner = web.AppRunner(self.app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            _, bound_port = await listen(runner, self._service, host, port)
            announce(self._service, host, bound_port)
            await stop.wait()
        finally:
            await runner.cleanup()

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


def _sends(produce: Callable[[], Awaitable[object]]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handler(_: web.Request) -> web.Response:
        return json_response(await produce())

    return handler
