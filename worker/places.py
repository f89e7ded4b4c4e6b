"""Where a job holds a slot: the place it was claimed for, or another one that it is to be served at."""

from __future__ import annotations

from shared.queue.connection import REDIS_GONE
from shared.queue.lines import unit_of
from shared.queue.running import RunningJob
from shared.queue.slots import Slots
from shared.wire.canonical import EmbeddingRequest, Request
from worker.fallback import Route
from worker.hosts import Hosts
from worker.scheduling.policy import Knobs


class Places:
    """Asked before each call. Without slots, for workers that run jobs without a plan, every place is free."""

    def __init__(self, slots: Slots | None, hosts: Hosts, knobs: Knobs) -> None:
        self._slots = slots
        self._hosts = hosts
        self._knobs = knobs

    async def hold(self, job: RunningJob, route: Route, request: Request) -> bool:
        """Hold one call along the route. False when so many are under way there that it would only wait in line."""
        if self._slots is None:
            return True
        embeds = isinstance(request, EmbeddingRequest)
        options = request.options if isinstance(request, EmbeddingRequest) else request.sampling.options
        service = self._hosts.service_of(route.host).name
        unit = unit_of(route.model, options if route.model == request.model else None, service)
        if (job.host, job.unit) == (route.host, unit):
            return True
        calls = self._knobs.limit(unit, embeds=embeds)
        try:
            return await self._slots.move(
                job, route.host, unit, unit_calls=calls, host_calls=self._knobs.host_calls
            )  # fmt: skip
        except REDIS_GONE:
            return True  # a job under way goes on without Redis
