"""The catalogue, kept up to date by whoever reads it: machines are asked again when the last look is a while ago.

So nobody asks them while nobody wants to know, and any number of readers in any number of processes ask once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar, runtime_checkable

from redis.asyncio import Redis

from shared.backends.base import Backend, LoadedModel, ModelInfo
from shared.backends.ollama_models import ModelDetails
from shared.catalogue.build import HostAnswer, records
from shared.catalogue.record import ModelRecord
from shared.catalogue.store import CatalogueStore
from shared.errors import ArrieroError
from shared.model_names import same
from shared.queue.keys import Keys
from shared.telemetry.logging import logger

log = logger("catalogue")

FRESH_FOR_S = 10.0
RETRY_S = 2.0
"""The same where a machine gave no answer, so that not every reader waits for it."""
DETAILS_AT_A_TIME = 4
MOST_DETAILS = 200
"""Models of a service that are asked about one by one in one look; the next look goes on."""
MOST_REMEMBERED = 2000

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A service to be looked at. `loads`: it tells what is in memory; `limit_s`: on each question to a machine."""

    service: str
    backends: Sequence[Backend]
    loads: bool
    limit_s: float = 5.0
    fresh_for_s: float = FRESH_FOR_S
    """How long a look at it is good for."""
    listed: Sequence[str] = ()
    """Models that the configuration says it has."""
    asks: bool = True
    """Its machines tell their models; if not, there are only the listed ones."""


@runtime_checkable
class ShowsModels(Protocol):
    """A backend that can say more of a single model."""

    async def show(self, model: str) -> ModelDetails: ...


class ModelTable:
    """Reading raises QueueUnavailable while Redis is away; machines that are away leave what was known of them."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._store = CatalogueStore(redis, keys)
        self._looks: dict[str, asyncio.Task[bool]] = {}
        self._told: dict[str, ModelDetails] = {}

    async def of(self, place: Place) -> list[ModelRecord]:
        """A service's models, none older than its `fresh_for_s` unless a machine is away."""
        if not await self._store.is_fresh(place.service):
            await self.look(place)
        return await self._store.read(place.service)

    async def known(self, service: str) -> list[ModelRecord]:
        """A service's models as they were last seen, by whomever."""
        return await self._store.read(service)

    async def look(self, place: Place) -> bool:
        """Ask the service's machines now; who comes meanwhile waits for the same answers. Whether all of them gave
        one."""
        task = self._looks.get(place.service)
        if task is None:
            task = self._looks[place.service] = asyncio.create_task(self._look(place), name=f"look {place.service}")
            task.add_done_callback(lambda done: self._ended(place.service, done))
        return await asyncio.shield(task)

    async def outdated(self, service: str) -> None:
        """Something has changed there: the next reader looks anew."""
        await self._store.unmark(service)

    async def stop(self) -> None:
        looks = list(self._looks.values())
        for task in looks:
            task.cancel()
        await asyncio.gather(*looks, return_exceptions=True)

    def _ended(self, service: str, task: asyncio.Task[bool]) -> None:
        del self._looks[service]
        if not task.cancelled():
            task.exception()  # looked at here, because everyone who waited may have left

    async def _look(self, place: Place) -> bool:
        asked = place.backends if place.asks else ()
        answers = await asyncio.gather(*(_ask(backend, place.limit_s) for backend in asked))
        given = [answer for answer in answers if answer is not None]
        details = await self._details(place, given)
        found = records(place.service, given, details, loads=place.loads, listed=place.listed, now=time.time())
        complete = len(given) == len(asked)
        await self._store.write(place.service, found, complete=complete)
        await self._store.mark_fresh(place.service, place.fresh_for_s if complete else RETRY_S)
        return complete

    async def _details(self, place: Place, answers: Sequence[HostAnswer]) -> Mapping[str, ModelDetails]:
        """What the machines that can say more say of each model, by `same` name. Asked once for each digest."""
        showing = {backend.name: backend for backend in place.backends if isinstance(backend, ShowsModels)}
        models = {
            same(model.name): (showing[answer.host], model)
            for answer in answers
            if answer.host in showing
            for model in answer.models
        }
        new = {key: found for key, found in models.items() if found[1].digest not in self._told}
        gate = asyncio.Semaphore(DETAILS_AT_A_TIME)

        async def ask(backend: ShowsModels, model: ModelInfo) -> ModelDetails | None:
            async with gate:
                return await _details_of(backend, model.name, place.limit_s)

        chosen = dict(list(new.items())[:MOST_DETAILS])
        told = await asyncio.gather(*(ask(backend, model) for backend, model in chosen.values()))
        found = {key: details for key, details in zip(chosen, told, strict=True) if details is not None}
        if len(self._told) > MOST_REMEMBERED:
            self._told.clear()
        self._told |= {models[key][1].digest: details for key, details in found.items() if models[key][1].digest}
        known = {key: self._told[model.digest] for key, (_, model) in models.items() if model.digest in self._told}
        return {**known, **found}


async def _ask(backend: Backend, limit_s: float) -> HostAnswer | None:
    """None when the machine does not tell its models. That it does not tell what is in memory is no fault."""
    models, loaded = await asyncio.gather(
        _limited(backend.models, limit_s), _limited(backend.loaded, limit_s), return_exceptions=True
    )
    for answer in (models, loaded):
        if isinstance(answer, BaseException) and not isinstance(answer, ArrieroError | TimeoutError):
            raise answer
    if isinstance(models, BaseException):
        log.debug("catalogue.host_silent", host=backend.name, error=type(models).__name__)
        return None
    in_memory: Sequence[LoadedModel] = () if isinstance(loaded, BaseException) else loaded
    return HostAnswer(host=backend.name, models=models, loaded=in_memory)


async def _details_of(backend: ShowsModels, model: str, limit_s: float) -> ModelDetails | None:
    try:
        details = await _limited(lambda: backend.show(model), limit_s)
    except (ArrieroError, TimeoutError):  # gone since, or slow: the name has to do
        return None
    # Without the long texts, which the catalogue has no column for.
    general = {name: value for name, value in details.info.items() if name.startswith("general.")}
    return replace(details, template="", system="", parameters="", modelfile="", license="", info=general)


async def _limited(ask: Callable[[], Awaitable[T]], limit_s: float) -> T:
    async with asyncio.timeout(limit_s):
        return await ask()
