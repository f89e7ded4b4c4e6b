"""Which models the services have, as far as the gateway knows: to say no early, and helpfully.

A stale list may advise but must not lose work: only when every host answered does a missing model mean 404.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from gateway.routing_errors import Offer, model_missing
from shared.backends.base import ModelInfo
from shared.background import end_task
from shared.errors import BackendError, BackendUnreachable, ModelNotFound
from shared.model_names import is_allowed
from shared.services.config import ServiceConfig
from shared.services.names import TILDE
from shared.services.settings import OLLAMA
from shared.telemetry.logging import logger

log = logger("catalogue")

FRESH_FOR_S = 5.0
REFUSAL_FRESH_FOR_S = 0.5
"""A model that was pulled a moment ago must not be refused; nor may wrong names have the hosts asked all the time."""
CLOUD_FRESH_FOR_S = 300.0
"""Somebody else's servers are asked less often; what they offer changes slowly."""
LOOK_EVERY_S = 0.25
HOST_LIMIT_S = 2.0


def canonical_name(name: str) -> str:
    """The form in which names are compared: lower case, with `:latest` where no tag is given."""
    lowered = name.lower()
    last = lowered.rpartition("/")[2]
    return lowered if ":" in last else lowered + ":latest"


def nobody_answers() -> BackendUnreachable:
    """The 503 for a question about models that no host answers."""
    return BackendUnreachable(
        "No model host answers, so their models are unknown. GET /health/ollama says why.", retry_after_s=5
    )


def not_found(name: str, installed: Iterable[str]) -> ModelNotFound:
    """The 404 for a model nobody has."""
    return model_missing(name, [Offer(OLLAMA, list(installed), takes_pulls=True)])


@dataclass(frozen=True, slots=True)
class Listing:
    """What the hosts said. `complete` only if every one of them answered."""

    models: dict[str, ModelInfo] = field(default_factory=dict)
    complete: bool = False
    answered: int = 0


class Offers(Protocol):
    """The services in force and their backends."""

    @property
    def services(self) -> tuple[ServiceConfig, ...]: ...

    def of(self, service: str) -> Sequence[ListsModels]: ...


class ListsModels(Protocol):
    async def models(self) -> list[ModelInfo]: ...


class Catalogue:
    """The cached lists. Asking them costs nothing while they are fresh, and at most 2 s when they were never filled."""

    def __init__(
        self, offers: Offers, allowed: Collection[str] = (), *, default: Callable[[], str] = lambda: OLLAMA
    ) -> None:
        """`allowed`: ALLOWED_MODELS; other models are neither listed nor found. Empty: all are. `default`: the service
        whose models are listed by their bare names."""
        self._offers = offers
        self._allowed = allowed
        self._default = default
        self._services: tuple[ServiceConfig, ...] = ()
        self._shelves: dict[str, _Shelf] = {}
        self._looked_at = float("-inf")
        self.revision = 0
        """Grows with every reading, and with every change of the services."""
        self._together: tuple[int, str, Listing] = (-1, "", Listing())

    async def listing(self, *, wait: bool = False) -> Listing:
        """All services' models. Old lists are renewed behind the caller's back, unless there is none yet. With `wait`
        they are as of now, give or take half a second, as a refusal needs them.

        The default service's models have their bare names, the others' `service~model`.
        """
        now = time.monotonic()
        fresh_for_s = REFUSAL_FRESH_FOR_S if wait else FRESH_FOR_S
        stale = [shelf for shelf in self._follow().values() if shelf.is_stale(now, fresh_for_s)]
        if stale:
            awaited = [(shelf.renewal(), wait or not shelf.is_read) for shelf in stale]
            await asyncio.gather(*(asyncio.shield(renewal) for renewal, is_needed in awaited if is_needed))
        return self._all()

    def freshen(self) -> None:
        """Have old lists renewed behind the caller's back, and wait for none. For every request: looks four times a
        second at most."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_EVERY_S:
            return
        self._looked_at = now
        for shelf in self._follow().values():
            if shelf.is_stale(now):
                shelf.renewal()

    def listing_of(self, service: str) -> Listing:
        """What is known of one service's models now; nothing is asked."""
        shelf = self._follow().get(service)
        return Listing() if shelf is None else shelf.listing

    def models_of(self, service: str) -> dict[str, ModelInfo] | None:
        """A service's models by canonical name, as last read; None while it has told of none."""
        listing = self.listing_of(service)
        return listing.models if listing.answered or listing.models else None

    async def installed(self) -> dict[str, ModelInfo]:
        """The models by canonical name, as of now. Raises BackendUnreachable when no host answers."""
        listing = await self.listing(wait=True)
        if not listing.answered:
            raise nobody_answers()
        return listing.models

    async def require(self, name: str) -> None:
        """Raise ModelNotFound if the model is not allowed, or all hosts answered and none has it."""
        if not is_allowed(name, self._allowed):
            raise ModelNotFound(
                "This gateway does not serve that model. GET /v1/models lists those it does.", param="model"
            )
        wanted = canonical_name(name)
        if wanted in self._all().models:
            await self.listing()
            return
        # Not in the list we have: it may have been installed a moment ago, so a refusal needs a fresh one.
        listing = await self.listing(wait=True)
        if wanted not in listing.models and listing.complete:
            raise not_found(name, (info.name for info in listing.models.values()))

    async def stop(self) -> None:
        for shelf in self._shelves.values():
            await shelf.stop()

    def _follow(self) -> dict[str, _Shelf]:
        """One shelf for each service in force; a service that is another thing now has to be asked anew."""
        services = self._offers.services
        if services is not self._services:
            kept = {
                service.name: self._shelves[service.name]
                for service in self._services
                if service in services and service.name in self._shelves
            }
            self._shelves = {
                service.name: kept.get(service.name) or _Shelf(service, self._offers, self._allowed, self._noted)
                for service in services
            }
            self._services = services
            self.revision += 1
        return self._shelves

    def _noted(self) -> None:
        self.revision += 1

    def _all(self) -> Listing:
        shelves, default = self._follow(), self._default()
        revision, for_default, together = self._together
        if (revision, for_default) != (self.revision, default):
            together = _together(shelves, default)
            self._together = (self.revision, default, together)
        return together


class _Shelf:
    """One service's list."""

    def __init__(
        self, service: ServiceConfig, offers: Offers, allowed: Collection[str], noted: Callable[[], None]
    ) -> None:
        self._service = service
        self._offers = offers
        self._allowed = allowed
        self._noted = noted
        self._read_at = float("-inf")
        self._task: asyncio.Task[None] | None = None
        self.listing = Listing()

    @property
    def is_read(self) -> bool:
        return self._read_at != float("-inf")

    def is_stale(self, now: float, fresh_for_s: float = FRESH_FOR_S) -> bool:
        """`fresh_for_s` is for lists of ours, and for those that could not be read."""
        often = self._service.local or not self.listing.answered
        return now - self._read_at >= (fresh_for_s if often else CLOUD_FRESH_FOR_S)

    def renewal(self) -> asyncio.Task[None]:
        """The reading under way, begun if there is none."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._refresh(), name=f"catalogue {self._service.name}")
        return self._task

    async def stop(self) -> None:
        if self._task is not None:
            await end_task(self._task)

    async def _refresh(self) -> None:
        service = self._service
        asked = self._offers.of(service.name) if service.enable_discovery else ()
        answers = await asyncio.gather(*(_ask(host) for host in asked))
        said = [ModelInfo(name=name) for name in service.models]
        models: dict[str, ModelInfo] = {}
        for info in (*(info for answer in answers for info in answer or ()), *said):
            if is_allowed(info.name, self._allowed) or is_allowed(f"{service.name}{TILDE}{info.name}", self._allowed):
                models.setdefault(canonical_name(info.name), info)
        # A service that is not asked counts as one that has answered: what its configuration says is all there is.
        answered = sum(answer is not None for answer in answers) if asked else 1
        self.listing = Listing(models, complete=answered == (len(asked) or 1), answered=answered)
        self._read_at = time.monotonic()
        self._noted()


def _together(shelves: Mapping[str, _Shelf], default: str) -> Listing:
    """All lists as one."""
    if list(shelves) == [default]:
        return shelves[default].listing
    models: dict[str, ModelInfo] = {}
    for name, shelf in shelves.items():
        for key, info in shelf.listing.models.items():
            if name == default:
                models[key] = info
            else:
                qualified = f"{name}{TILDE}{info.name}"
                models[canonical_name(qualified)] = replace(info, name=qualified)
    listings = [shelf.listing for shelf in shelves.values()]
    return Listing(
        models,
        complete=all(listing.complete for listing in listings),
        answered=sum(listing.answered for listing in listings),
    )


async def _ask(host: ListsModels) -> list[ModelInfo] | None:
    try:
        async with asyncio.timeout(HOST_LIMIT_S):
            return await host.models()
    except (BackendError, TimeoutError) as error:
        log.debug("catalogue.host_silent", error=type(error).__name__)
        return None
