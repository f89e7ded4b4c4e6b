"""Model names with a service in front: `ollama~llama3.2:3b`.

The tilde is the canonical sign. A colon also stands before the tag of a model, so it counts only after the name of a
service that exists: `ollama:llama3.2` names one, `llama3.2:3b` does not.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

TILDE = "~"


@dataclass(frozen=True, slots=True)
class ModelName:
    """A model at a service. `prefixed`: whoever wrote the name named the service."""

    service: str
    model: str
    prefixed: bool = False

    @property
    def qualified(self) -> str:
        return f"{self.service}{TILDE}{self.model}"


def parse(text: str, services: Container[str], default: str) -> ModelName:
    """The service and the model that a name means. A tilde's left part is returned even if no such service exists, so
    that the caller can say so; a name without a service is at the `default` one.

    Slashes are part of the model's name: `openrouter:vendor/model` is `vendor/model` at `openrouter`.
    """
    left, tilde, right = text.partition(TILDE)
    if tilde:
        return ModelName(left.strip().lower(), right.strip(), prefixed=True)
    left, colon, right = text.partition(":")
    service = left.strip().lower()
    if colon and right.strip() and service in services:
        return ModelName(service, right.strip(), prefixed=True)
    return ModelName(default, text)
