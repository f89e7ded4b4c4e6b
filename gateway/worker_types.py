"""The kinds of worker that the direct face knows by name: services, under the names that its callers use. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateway.routing_errors import NEAR_SERVICE
from gateway.routing_inputs import World
from shared.errors import NotFound

WORKER_TYPE_PATTERN: Final = r"^[a-z][a-z0-9_-]{0,31}$"
LOCAL: Final = "local_llm"


class WorkerTypeNotFound(NotFound):
    """There is no such worker type, or nothing here that could serve it."""

    code = "worker_type_not_found"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerType:
    """`service`: where its models are; `missing` says why it cannot be asked, empty: it can."""

    name: str
    service: str
    description: str
    aliases: tuple[str, ...] = ()
    missing: str = ""


_STANDING = (
    WorkerType(name=LOCAL, service="ollama", description="Models on machines of your own, served by Ollama."),
    WorkerType(name="openai", service="openai", description="Models of OpenAI."),
    WorkerType(name="anthropic", service="anthropic", description="Models of Anthropic.", aliases=("claude",)),
)
"""Listed always, and with what is missing while they cannot be used."""


def worker_types(world: World) -> list[WorkerType]:
    """The standing ones, then every other service in force under its own name."""
    standing = [_as_it_is(kind, world) for kind in _STANDING]
    named = {kind.service for kind in standing}
    others = (place for place in world.places.values() if place.name not in named)
    where = {True: "machines of your own", False: "machines elsewhere"}
    return standing + [
        WorkerType(
            name=place.name,
            service=place.name,
            description=f"Models of the service {place.name}, on {where[place.is_local]}.",
        )
        for place in others
    ]


def _as_it_is(kind: WorkerType, world: World) -> WorkerType:
    if kind.service in world.places:
        return kind
    if kind.name == LOCAL:
        # Any service on machines of ours is as good as Ollama where there is no Ollama.
        ours = next((place.name for place in world.places.values() if place.is_local), "")
        if ours:
            return WorkerType(name=LOCAL, service=ours, description="Models on machines of your own.")
    missing = world.off.get(kind.service, f"No service {kind.service} is configured.")
    return WorkerType(
        name=kind.name, service=kind.service, description=kind.description, aliases=kind.aliases, missing=missing
    )


def choose(name: str, kinds: Sequence[WorkerType]) -> WorkerType | None:
    """The type of this name or alias; None for `auto` and for a name nobody knows: then routing chooses.

    Raises WorkerTypeNotFound for one that is known and cannot be asked.
    """
    kind = _by_name(kinds).get(name)
    if kind is not None and kind.missing:
        raise WorkerTypeNotFound(
            f"The worker type {kind.name} cannot be used. {kind.missing} GET /workers lists those that can.",
            param="worker_type",
        )
    return kind


def find(name: str, kinds: Sequence[WorkerType]) -> WorkerType:
    """The type of this name or alias that can be asked. Raises WorkerTypeNotFound, with near names."""
    kind = choose(name, kinds)
    if kind is None:
        near = difflib.get_close_matches(name, _by_name(kinds), n=1, cutoff=NEAR_SERVICE)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise WorkerTypeNotFound(
            f"No worker type has that name.{hint} GET /workers/types lists them.", param="worker_type"
        )
    return kind


def type_of(service: str, kinds: Sequence[WorkerType]) -> str:
    """The name of the type whose models are at a service."""
    return next((kind.name for kind in kinds if kind.service == service), service)


def _by_name(kinds: Sequence[WorkerType]) -> dict[str, WorkerType]:
    return {known: kind for kind in kinds for known in (kind.name, *kind.aliases)}
