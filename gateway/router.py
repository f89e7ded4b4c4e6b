"""Routing at work: what is known of the services at this moment, the decision, and what is counted of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Hashable, Sequence

from msgspec import structs

from gateway.catalogue import Catalogue
from gateway.classifier import Task, facts_of, task_of
from gateway.metrics import GatewayMetrics
from gateway.routing import BY_NAME, Reason, decide, stays_home
from gateway.routing_inputs import Ask, Place, Role, RoutingPolicy, World, is_auto
from shared.errors import ArrieroError, BackendError, ModelNotFound
from shared.routes import Candidate, Route
from shared.services.config import ServiceConfig
from shared.services.names import parse
from shared.services.registry import Registry
from shared.services.settings import OLLAMA
from shared.wire.canonical import EmbeddingRequest, Request

ReadLoaded = Callable[[], Awaitable[Sequence[Candidate]]]
MOST_KEPT = 1000
"""Decisions kept at a time: callers may spell one name in many ways."""


class Router:
    """Asks `decide` about the services in force. While the lists of models are fresh that costs microseconds."""

    def __init__(
        self,
        registry: Registry,
        catalogue: Catalogue,
        policy: RoutingPolicy,
        metrics: GatewayMetrics,
        *,
        loaded: ReadLoaded,
        shows_qualified: bool = False,
    ) -> None:
        """`loaded` reads which models are in memory; asked only for FIRST_LOADED_MODEL. `shows_qualified`: answers say
        `service~model`, not the name asked for."""
        self._registry = registry
        self._catalogue = catalogue
        self._policy = policy
        self._loaded = loaded
        self._shows_qualified = shows_qualified

        # What the world was made from; it is made anew when one of these is another.
        self._seen: tuple[object, ...] = ()
        self._world = World({})
        # What was decided for a name in this world.
        self._kept: dict[Hashable, Route] = {}
        self._counts = metrics.routes.counts

    async def route(self, ask: Ask) -> Route:
        """The route of a request that is to become a job, counted. Raises what `decide` raises."""
        route = self._at_once(ask) or await self._anew(ask)
        self._counts[route.candidates[0].service, route.reason] += 1
        return route

    async def explain(self, ask: Ask) -> Route:
        """The route that such a request would take. Raises what `decide` raises."""
        return self._at_once(ask) or await self._anew(ask)

    def _at_once(self, ask: Ask) -> Route | None:
        """The route by what is known now, None where that would be a guess or a refusal."""
        self._catalogue.freshen()
        world = self.world()
        try:
            private = stays_home(ask, world, self._policy)
            # All that counts of a request, where its name decides.
            terms = (ask.name, ask.service, private, ask.is_fixed, type(ask.request))
            kept = self._kept.get(terms)
            if kept is not None:
                return kept
            route = decide(ask, world, self._policy, private=private)
        except ArrieroError:
            return None
        if not _is_known(route.candidates[0], world):
            return None
        route = self._shown(ask, route)
        if route.reason in BY_NAME and len(self._kept) < MOST_KEPT:
            self._kept[terms] = route
        return route

    def _shown(self, ask: Ask, route: Route) -> Route:
        """The route with the name that answers are to call the model by."""
        first = route.candidates[0]
        shown = first.qualified if self._shows_qualified else "" if is_auto(ask.name) else ask.name
        # Most ask by the very name that the model has there.
        return route if shown in ("", first.model) else structs.replace(route, shown_as=shown)

    async def _anew(self, ask: Ask) -> Route:
        # It may have been installed a moment ago, so a refusal, or a guess, needs a fresh list.
        await self._catalogue.listing(wait=True)
        world = self.world()
        try:
            route = decide(ask, world, self._policy)
        except ModelNotFound:
            if not self._policy.first_loaded or ask.is_fixed:
                raise
            route = decide(ask, dataclasses.replace(world, loaded=await self._in_memory()), self._policy)
        return self._shown(ask, route)

    def task_of(self, request: Request) -> Task | None:
        """What `auto` takes the request for; None: it chooses no model for such."""
        if isinstance(request, EmbeddingRequest):
            return None
        return task_of(facts_of(request), self._policy.vocabulary)

    def is_local(self, route: Route) -> bool:
        """Whether the first to try is a machine of ours, as it was when the last route was made."""
        place = self._world.places.get(route.candidates[0].service)
        return place is not None and place.is_local

    def world(self) -> World:
        """The services in force, and what is known of their models."""
        registry, catalogue = self._registry, self._catalogue
        seen = (registry.version, registry.default_service, registry.off, catalogue.revision)
        if seen != self._seen:
            self._seen = seen
            self._kept = {}
            self._world = World(
                {service.name: self._place(service) for service in registry.all()},
                registry.default_service,
                registry.reasons_off,
            )
        return self._world

    def _place(self, service: ServiceConfig) -> Place:
        for reason in Reason:  # all are shown from the start: Prometheus sees no increase in a first value
            self._counts[service.name, reason] += 0
        listing = self._catalogue.listing_of(service.name)
        tells = service.enable_discovery or bool(service.models)
        return Place(
            name=service.name,
            is_local=service.local,
            models={key: info.name for key, info in listing.models.items()},
            is_complete=listing.complete and tells,
            tells=tells,
            is_available=listing.answered > 0,
            is_exact=service.api_format != "ollama",
            default_model=service.default_model or self._default_model(service.name),
            takes_pulls=service.capabilities.install,
        )

    def _default_model(self, service: str) -> str:
        name = parse(self._policy.models[Role.DEFAULT], self._registry, OLLAMA)
        return name.model if name.service == service else ""

    async def _in_memory(self) -> Sequence[Candidate]:
        try:
            return await self._loaded()
        except BackendError:
            return ()


def _is_known(target: Candidate, world: World) -> bool:
    return bool(world.places[target.service].has(target.model))
