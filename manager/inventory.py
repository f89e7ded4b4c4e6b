"""Installed and loaded models of every host. A host that does not answer is part of the answer, not an error."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from shared.backends.base import Backend, LoadedModel, ModelInfo
from shared.errors import ArrieroError
from shared.model_names import same


@dataclass(frozen=True, slots=True, kw_only=True)
class HostInventory:
    """One host. `error` is empty when it answered."""

    host: str
    installed: Sequence[ModelInfo] = ()
    loaded: Sequence[LoadedModel] = ()
    error: str = ""

    def has(self, model: str) -> bool:
        """Whether it has the model on disk or, though its files are gone, in memory."""
        names = {known.name for known in self.installed} | {known.name for known in self.loaded}
        return same(model) in map(same, names)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPlaces:
    """One model over all hosts."""

    name: str
    size_bytes: int
    installed_on: list[str] = field(default_factory=list)
    loaded_on: list[str] = field(default_factory=list)


async def ask_host(backend: Backend, timeout_s: float) -> HostInventory:
    """What `backend` has, within `timeout_s`."""
    try:
        async with asyncio.timeout(timeout_s):
            installed, loaded = await asyncio.gather(backend.models(), backend.loaded())
    except TimeoutError:
        return HostInventory(host=backend.name, error=f"no answer within {timeout_s:g} s")
    except ArrieroError as error:
        return HostInventory(host=backend.name, error=error.message)
    return HostInventory(host=backend.name, installed=installed, loaded=loaded)


async def ask_hosts(backends: Iterable[Backend], timeout_s: float) -> list[HostInventory]:
    return list(await asyncio.gather(*(ask_host(backend, timeout_s) for backend in backends)))


def near_names(model: str, hosts: Iterable[HostInventory]) -> list[str]:
    """Installed models with a name like this one, the likeliest first; for a message, so a few at most."""
    installed = {same(known.name): known.name for host in hosts for known in host.installed}
    return [installed[name] for name in difflib.get_close_matches(same(model), installed, cutoff=0.5)]


def by_model(hosts: Iterable[HostInventory]) -> list[ModelPlaces]:
    """The same facts model by model, in name order."""
    places: dict[str, ModelPlaces] = {}
    for host in hosts:
        for model in host.installed:
            place = places.setdefault(model.name, ModelPlaces(name=model.name, size_bytes=model.size_bytes))
            place.installed_on.append(host.host)
        for loaded in host.loaded:
            # A model may still be in memory after its files were deleted.
            place = places.setdefault(loaded.name, ModelPlaces(name=loaded.name, size_bytes=loaded.size_bytes))
            place.loaded_on.append(host.host)
    return sorted(places.values(), key=lambda place: place.name)
