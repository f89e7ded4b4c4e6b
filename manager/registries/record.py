"""A model that an outside registry has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import msgspec

RegistryName = Literal["huggingface", "ollama"]
REGISTRY_NAMES: tuple[RegistryName, ...] = ("ollama", "huggingface")


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryModel:
    """Counts are -1, and texts empty, where the registry does not say."""

    registry: RegistryName
    id: str
    """Its name there."""
    pull_name: str
    """What a model server can pull it as."""
    description: str = ""
    likes: int = -1
    trend: float = -1.0
    """What the registry calls its trend; comparable within one registry only."""
    downloads: int = -1
    tags: tuple[str, ...] = ()
    url: str = ""
    created_at: str = ""
    """RFC 3339 text."""
    updated: str = ""
    """As the registry words it."""


def pack(model: RegistryModel) -> dict[str, str]:
    """The fields of its hash in Redis. Tags lie apart by line breaks, which readers take out of them."""
    values = {field.name: getattr(model, field.name) for field in fields(model)}
    return {name: "\n".join(value) if isinstance(value, tuple) else str(value) for name, value in values.items()}


def unpack(stored: Mapping[bytes, bytes]) -> RegistryModel | None:
    """None for a hash that is gone, or is not one of ours."""
    values: dict[str, Any] = {name.decode(): value.decode() for name, value in stored.items()}
    values["tags"] = tuple(filter(None, values.get("tags", "").split("\n")))
    try:
        return msgspec.convert(values, RegistryModel, strict=False)
    except msgspec.ValidationError:
        return None
