"""The requests in flight, and the text of /metrics."""

from __future__ import annotations

import asyncio

from gateway.metrics import GatewayMetrics
from shared.errors import ArrieroError
from shared.queue.client import QueueClient
from shared.telemetry.metrics import PAGE_LIMIT_S


class RequestMeter:
    """Knows the requests in flight, and counts those that were answered."""

    def __init__(self, metrics: GatewayMetrics) -> None:
        self._requests = metrics.requests
        self._duration = metrics.duration
        # Before Python 3.12, to look for the running loop costs a system call.
        self._loop = asyncio.get_running_loop()
        self.tasks: set[asyncio.Task[object]] = set()
        """The handlers of the requests in flight."""
        self.idle = asyncio.Event()
        self.idle.set()
        metrics.in_flight.set_function(lambda: len(self.tasks))

    def began(self) -> asyncio.Task[object]:
        """Note the request that the current task handles; give the task to `ended` afterwards."""
        task = asyncio.current_task(self._loop)
        assert task is not None
        if not self.tasks:
            self.idle.clear()
        self.tasks.add(task)
        return task

    def ended(self, task: asyncio.Task[object], route: str, method: str, status: int, seconds: float) -> None:
        """`route`, `method` and `status` are from closed sets, since `route` is a path pattern."""
        self.tasks.discard(task)
        if not self.tasks:
            self.idle.set()
        self._requests.counts[route, method, status] += 1
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
