"""A job's itinerary, from what is in force at this moment."""

from __future__ import annotations

from collections.abc import Collection

from shared.errors import NoLocalBackend, ServiceUnavailable
from shared.queue.running import HandBack, RunningJob
from shared.routes import Route
from shared.services.registrations import READ_EVERY_S
from shared.services.registry import Registry
from shared.wire.canonical import Request
from worker.fallback import FallbackPolicy, is_for_one_model
from worker.itinerary import Itinerary, itinerary

MOST_KEPT = 1000
NEWCOMER_PATIENCE = 2
"""Runs in which a service may be unknown that was registered a moment ago."""


class Itineraries:
    """Holds what all itineraries are made from."""

    def __init__(
        self,
        services: Registry,
        policy: FallbackPolicy,
        *,
        allowed: Collection[str] = (),
        across: bool = True,
        newcomers: bool = False,
    ) -> None:
        """`allowed`: ALLOWED_MODELS. `across`: when one service fails, go on at the others. `newcomers`: services are
        registered at run time, so a gateway may know one that this worker is yet to hear of."""
        self._services = services
        self._policy = policy
        self._allowed = allowed
        self._across = across
        self._newcomers = newcomers
        # Making one takes 25 us, and most jobs ask for the same: what one depends on is its key.
        self._kept: dict[tuple[Route | None, str, bool, bool], Itinerary] = {}
        self._made_from: tuple[int, str] = (-1, "")

    def of(self, job: RunningJob, request: Request) -> Itinerary:
        """Raises what `worker.itinerary.itinerary` raises, and HandBack for a service that may become known soon."""
        made_from = (self._services.version, self._services.default_service)
        if made_from != self._made_from or len(self._kept) >= MOST_KEPT:
            self._kept.clear()
            self._made_from = made_from
        asked = (job.route, request.model, job.local_only, is_for_one_model(request))
        found = self._kept.get(asked)
        if found is None:
            found = self._kept[asked] = self._make(job, request)
        return found

    def _make(self, job: RunningJob, request: Request) -> Itinerary:
        try:
            return itinerary(
                request, job.route, self._services, self._policy, local_only=job.local_only, allowed=self._allowed,
                across=self._across,
            )  # fmt: skip
        except NoLocalBackend:
            raise
        except ServiceUnavailable:
            if self._newcomers and job.attempt <= NEWCOMER_PATIENCE:
                raise HandBack(delay_s=READ_EVERY_S, reason="service not known yet") from None
            raise
