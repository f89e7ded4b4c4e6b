"""The requests in flight, and the text of /metrics."""

from __future__ import annotations

import asyncio

from gateway.metrics import GatewayMetrics
from gateway.request import GatewayRequest
from shared.errors import ArrieroError
from shared.queue.client import QueueClient
from shared.telemetry.metrics import PAGE_LIMIT_S


class RequestMeter:
    """Knows the requests in flight, and counts those that were answered."""

    def __init__(self, metrics: GatewayMetrics) -> None:
        self._answered = metrics.requests
        self._duration = metrics.duration
        self.requests: set[GatewayRequest] = set()
        """Those in flight."""
        self.idle = asyncio.Event()
        self.idle.set()
        metrics.in_flight.set_function(lambda: len(self.requests))

    def began(self, request: GatewayRequest) -> None:
        if not self.requests:
            self.idle.clear()
        self.requests.add(request)

    def ended(self, request: GatewayRequest, route: str, method: str, status: int, seconds: float) -> None:
        """`route`, `method` and `status` are from closed sets, since `route` is a path pattern."""
        self.requests.discard(request)
        if not self.requests:
            self.idle.set()
        self._answered.counts[route, method, status] += 1
        self._duration.observe(route, seconds)


async def render(metrics: GatewayMetrics, queue: QueueClient) -> bytes:
    """The metrics page, with the queue as Redis has it now. Without Redis the rest is still served."""
    try:
        async with asyncio.timeout(PAGE_LIMIT_S):
            stats = await queue.stats()
    except (ArrieroError, TimeoutError):
        stats = None
    metrics.redis_up.set(stats is not None)
    metrics.queue.show(stats)
    return metrics.render()
