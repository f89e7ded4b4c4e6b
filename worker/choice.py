"""Which of a job's routes is free to be called now: not paced out, not open, not known to lack the model."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from shared.backends.base import CallTimeouts
from shared.errors import ArrieroError, ModelNotFound, NoLocalBackend
from shared.queue.running import RunningJob
from shared.resilience.breaker_store import Admission
from shared.wire.canonical import Request
from worker.fallback import Leg, Route, needs, routes
from worker.guards import Guards
from worker.hosts import Hosts
from worker.itinerary import Itinerary, Origin, Step
from worker.places import Places
from worker.scheduling.facts import Swap

WAIT_HERE_S = 2.0
"""How long a job waits in the worker for room on a busy host, before it goes back to the queue."""
FULL_PAUSE_S = 0.5


@dataclass(slots=True, kw_only=True)
class Trip:
    """A job on its way along its itinerary. `failed` are the counted failures so far, in order."""

    job: RunningJob
    request: Request
    kind: str
    itinerary: Itinerary
    request_id: str = ""
    """What the call is known by to the host; empty: the job's id."""
    failed: list[Route]
    absent: list[Route] = field(default_factory=list)
    """Routes of this run that cannot serve the model."""
    missing: ModelNotFound | None = None
    options: Sequence[Route] = ()
    steps: dict[Route, Step] = field(default_factory=dict)
    """Of each option, why it is in the itinerary."""
    timeouts: CallTimeouts | None = None
    """Of the call under way, if it got that far."""
    is_cut: bool = False
    """The job's deadline leaves that call less time in all than such calls are given."""
    is_as_asked: bool = False
    """It was answered by the model and service that the job asked for."""
    full_wait: bool = True
    """That call may be silent for as long as such calls may."""

    @property
    def why_nothing(self) -> ArrieroError:
        """The error of a job that nobody could be asked to serve."""
        return self.missing or (NoLocalBackend() if self.job.local_only else ModelNotFound(param="model"))

    def is_asked(self, route: Route) -> bool:
        """Whether it is what the job asked for, and no fallback."""
        step = self.steps[route]
        return (step.service, step.model) == (self.itinerary.asked.service, self.itinerary.asked.model)

    def is_last(self, route: Route, tries: int) -> bool:
        """Whether there is no other place, or no other try, after this one."""
        elsewhere = any(other != route and other not in self.failed for other in self.options)
        return len(self.failed) + 1 >= tries or not elsewhere


class CallFailed(Exception):
    """A call that counts: where, and how."""

    def __init__(self, route: Route, error: ArrieroError) -> None:
        self.route = route
        self.error = error
        super().__init__(error.message)


class NothingFree(Exception):
    """No route may be called for `pause_s`. `is_broken`: because every breaker is open, not because of a queue."""

    def __init__(self, pause_s: float, *, is_broken: bool) -> None:
        self.pause_s = pause_s
        self.is_broken = is_broken
        self.reason = "circuit open" if is_broken else "backend busy"
        super().__init__(self.reason)


class NothingInstalled(Exception):
    """No host has any model of the itinerary."""

    def __init__(self, error: ArrieroError) -> None:
        self.error = error
        super().__init__(error.message)


class Choice:
    """Takes the itinerary's routes in order and asks of each whether it is free."""

    def __init__(self, hosts: Hosts, guards: Guards, places: Places, *, tries: int) -> None:
        self._places = places
        self._hosts = hosts
        self._guards = guards
        self._tries = tries

    async def choose(self, trip: Trip) -> tuple[Route, Admission]:
        """A route with its admission, which must be given to `Guards.ended`. Raises NothingFree, NothingInstalled."""
        waited_until = asyncio.get_running_loop().time() + WAIT_HERE_S
        while True:
            pause_s, chosen = await self._first_free(trip)
            if chosen is not None:
                return chosen
            left = waited_until - asyncio.get_running_loop().time()
            if pause_s > left:
                raise NothingFree(max(FULL_PAUSE_S, pause_s) * random.uniform(1.0, 1.2), is_broken=False)
            await self._hosts.wait_for_room(min(left, pause_s or left))

    async def _first_free(self, trip: Trip) -> tuple[float, tuple[Route, Admission] | None]:
        """The first route that is free; else in how many seconds one that is only busy may have room."""
        legs = self.legs(trip, trip.job.attempt)
        planned = routes(legs, trip.failed, tries=self._tries, doubted=self._hosts.doubted())
        trip.options = [route for route in planned if route not in trip.absent]
        if not trip.options:
            raise NothingInstalled(trip.why_nothing)
        busy: dict[Step, list[float]] = {}
        failed_at_full: float = math.inf
        open_for: list[float] = []
        for route in trip.options:
            step = trip.steps[route]
            if busy and step not in busy:
                break  # waiting a moment for the better model beats a worse one now
            if trip.failed.count(route) > failed_at_full:
                break  # and so does waiting for a full host beat another try where the last one failed
            if busy and self._places.swaps(step.service, step.model, trip.request)(route.host) is Swap.EVICT:
                break  # and taking the memory from a model in use, which the host does not do at once either
            pause_s = self._hosts.pause_s(route.host)
            if pause_s is not None:
                busy.setdefault(step, []).append(pause_s)
                if not pause_s:
                    failed_at_full = min(failed_at_full, trip.failed.count(route))
            elif not await self._suits(trip, route):
                trip.absent.append(route)
            else:
                admission = await self._guards.admit(trip.kind, route)
                if not admission.allowed:
                    open_for.append(admission.retry_in_s)
                elif await self._places.hold(trip.job, route, trip.request):
                    return 0.0, (route, admission)
                else:
                    self._guards.withdraw(admission)
                    busy.setdefault(step, []).append(0.0)
                    failed_at_full = min(failed_at_full, trip.failed.count(route))
        if busy:
            return min(min(pauses) for pauses in busy.values()), None
        if open_for:
            raise NothingFree(min(open_for) + random.uniform(0.0, 0.1), is_broken=True)
        raise NothingInstalled(trip.why_nothing)

    def legs(self, trip: Trip, attempt: int) -> list[Leg]:
        """The itinerary with the hosts there are now, best first for that attempt. Notes whose step each of them is."""
        legs = []
        for step in trip.itinerary.steps:
            swap = self._places.swaps(step.service, step.model, trip.request)
            hosts = self._hosts.preferred(step.model, attempt, step.service, swap=swap)
            hosts.sort(key=lambda host: host != trip.job.host)  # where it has a slot
            for host in hosts:
                trip.steps.setdefault(Route(host, step.model), step)
            if step.origin is Origin.ELSEWHERE:
                hosts = [host for host in hosts if Route(host, step.model) not in trip.absent]
            if hosts or step.origin is Origin.ASKED:
                legs.append(Leg(step.model, hosts))
        return legs

    async def look_elsewhere(self, trip: Trip) -> None:
        """Find out which services that nobody named have the model: they are what a failed job may go on at."""
        asked = [
            route for route, step in trip.steps.items() if step.origin is Origin.ELSEWHERE and route not in trip.absent
        ]
        has = await asyncio.gather(*(self._hosts.has_model(route) for route in asked))
        trip.absent += [route for route, there in zip(asked, has, strict=True) if not there]

    async def _suits(self, trip: Trip, route: Route) -> bool:
        """Whether it makes sense to ask there: the service is known to have a model that nobody sent to it, a stand-in
        can take such a request at all, even simplified."""
        match trip.steps[route].origin:
            case Origin.ELSEWHERE:
                return await self._hosts.has_model(route)
            case Origin.STAND_IN if needed := needs(trip.request):
                return needed <= set(await self._hosts.capabilities(route))
        return True

    def lacks_model(self, trip: Trip, route: Route, error: ArrieroError) -> bool:
        """Note that the host does not have the model. Nothing was spent on it, and another host may."""
        if not isinstance(error, ModelNotFound):
            return False
        trip.absent.append(route)
        self._hosts.note_missing(route)
        if trip.missing is None or trip.is_asked(route):
            trip.missing = error
        return True
