"""The kinds of worker that the direct face knows by name, and which of them can be asked. Pure."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Final

from shared.errors import NotFound

AUTO: Final = "auto"
WORKER_TYPE_PATTERN: Final = r"^[a-z][a-z0-9_-]{0,31}$"


class WorkerTypeNotFound(NotFound):
    """There is no such worker type, or nothing here that could serve it."""

    code = "worker_type_not_found"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerType:
    """`missing` says why it cannot be asked; empty: it can."""

    name: str
    description: str
    aliases: tuple[str, ...] = ()
    missing: str = ""


LOCAL = WorkerType(name="local_llm", description="Models on machines of your own, served by Ollama.")
WORKER_TYPES = (
    LOCAL,
    WorkerType(name="openai", description="Models of OpenAI.", missing="no adapter for OpenAI is configured"),
    WorkerType(
        name="anthropic",
        description="Models of Anthropic.",
        aliases=("claude",),
        missing="no adapter for Anthropic is configured",
    ),
)
_BY_NAME = {name: kind for kind in WORKER_TYPES for name in (kind.name, *kind.aliases)}


def find(name: str) -> WorkerType:
    """The type of this name or alias that can be asked. Raises WorkerTypeNotFound, with near names.

    `auto` leaves the choice to the gateway, which has one to choose from.
    """
    if name == AUTO:
        return LOCAL
    kind = _BY_NAME.get(name)
    if kind is None:
        near = difflib.get_close_matches(name, _BY_NAME, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise WorkerTypeNotFound(
            f"No worker type has that name.{hint} GET /workers/types lists them.", param="worker_type"
        )
    if kind.missing:
        raise WorkerTypeNotFound(
            f"The worker type {kind.name} cannot be used: {kind.missing}. GET /workers lists those that can.",
            param="worker_type",
        )
    return kind
