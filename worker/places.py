"""Where a job holds a slot, at first the one it was claimed for, and what another place would cost."""

from __future__ import annotations

from collections.abc import Callable

from shared.queue.connection import REDIS_GONE
from shared.queue.lines import unit_of
from shared.queue.running import RunningJob
from shared.queue.slots import Slots
from shared.wire.canonical import EmbeddingRequest, Request
from worker.fallback import Route
from worker.hosts import Hosts
from worker.scheduling.facts import Swap
from worker.scheduling.policy import Knobs


class Places:
    """Asked before each call. Without slots, for workers that run jobs without a plan, every place is free."""

    def __init__(
        self,
        slots: Slots | None,
        hosts: Hosts,
        knobs: Knobs,
        *,
        swap: Callable[[str, str], Swap] = lambda host, unit: Swap.NONE,
    ) -> None:
        """`swap`: what a call of a unit would make a host do."""
        self._slots = slots
        self._hosts = hosts
        self._knobs = knobs
        self._swap = swap

    def swaps(self, service: str, model: str, request: Request) -> Callable[[str], Swap]:
        """What each of a service's hosts must do before it can serve the request with that model."""
        unit = _unit(service, model, request)
        return lambda host: self._swap(host, unit)

    async def hold(self, job: RunningJob, route: Route, request: Request) -> bool:
        """Hold one call along the route. False when so many are under way there that it would only wait in line."""
        if self._slots is None:
            return True
        unit = _unit(self._hosts.service_of(route.host).name, route.model, request)
        if (job.host, job.unit) == (route.host, unit):
            return True
        calls, shared = self._knobs.limits(unit, embeds=isinstance(request, EmbeddingRequest))
        try:
            return await self._slots.move(
                job, route.host, unit, unit_calls=calls, shared_calls=shared, host_calls=self._knobs.host_calls
            )
        except REDIS_GONE:
            return True  # a job under way goes on without Redis


def _unit(service: str, model: str, request: Request) -> str:
    options = request.options if isinstance(request, EmbeddingRequest) else request.sampling.options
    return unit_of(model, options if model == request.model else None, service)
