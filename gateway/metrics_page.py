"""Counting requests cheaply, and the text of /metrics."""

from __future__ import annotations

import asyncio

from prometheus_client import Counter, Histogram

from gateway.metrics import GatewayMetrics
from gateway.request import GatewayRequest
from shared.errors import ArrieroError
from shared.jobs import Kind, Priority
from shared.queue.client import QueueClient
from shared.telemetry.metrics import PAGE_LIMIT_S

OUTCOMES = ("accepted", "duplicate", "overloaded", "refused")
"""What becomes of a job at the door."""


class RequestMeter:
    """Counts requests by route, method and status: all three from closed sets, since `route` is a path pattern."""

    def __init__(self, metrics: GatewayMetrics) -> None:
        self._metrics = metrics
        self.tasks: set[asyncio.Task[object]] = set()
        """The handlers of the requests in flight."""
        self.idle = asyncio.Event()
        self.idle.set()
        metrics.in_flight.set_function(lambda: len(self.tasks))
        # Finding a labelled child anew for every request costs more than counting it.
        self._counters: dict[tuple[str, str, int], Counter] = {}
        # All are shown from the start: Prometheus sees no increase in a first value.
        self._jobs = {
            (str(kind), str(priority), outcome): metrics.jobs.labels(kind, priority, outcome)
            for kind in Kind
            for priority in Priority
            for outcome in OUTCOMES
        }
        self._observe: dict[str, Histogram] = {}

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        key = (route, method, status)
        counter = self._counters.get(key)
        if counter is None:
            counter = self._counters[key] = self._metrics.requests.labels(route, method, str(status))
        timer = self._observe.get(route)
        if timer is None:
            timer = self._observe[route] = self._metrics.duration.labels(route)
        counter.inc()
        timer.observe(seconds)

    def began(self, request: GatewayRequest) -> asyncio.Task[object]:
        """Count the request that the current task handles; give the task to `ended` afterwards."""
        # Before Python 3.12, to look for the running loop costs a system call.
        task = asyncio.current_task(request.task.get_loop())
        assert task is not None
        if not self.tasks:
            self.idle.clear()
        self.tasks.add(task)
        return task

    def ended(self, task: asyncio.Task[object]) -> None:
        self.tasks.discard(task)
        if not self.tasks:
            self.idle.set()

    def enqueued(self, kind: str, priority: str, outcome: str) -> None:
        """`outcome`: one of OUTCOMES."""
        self._jobs[kind, priority, outcome].inc()


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
