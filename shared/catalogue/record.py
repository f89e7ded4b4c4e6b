"""One model of one service as the catalogue keeps it, and its form as a Redis hash: a field for each column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import msgspec

ModelType = Literal["llm", "vlm", "embeddings", "vision", "unknown"]
"""`vlm` reads images and writes text; `vision` works on images alone."""
ModelState = Literal["loaded", "loading", "not_loaded", "downloading", "ready", "error"]
"""`ready`: its service does not say what is in memory, or has no such notion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecord:
    """A model. 0 and empty mean unknown. `modified_at` is RFC 3339 text, `seen_at` Unix seconds."""

    service: str
    upstream_name: str
    """Its name at the service."""
    type: ModelType = "unknown"
    state: ModelState = "ready"
    description: str = ""
    publisher: str = ""
    architecture: str = ""
    quantization: str = ""
    runtime: str = ""
    """What runs it: llama.cpp, MLX; empty where the service does not matter or tell."""
    max_tokens: int = 0
    """Context length, tokens."""
    size_bytes: int = 0
    parameters: int = 0
    streaming: bool = False
    instructed: bool = False
    """Tuned to follow instructions, so of use in a chat."""
    coding: bool = False
    tooling: bool = False
    is_mlx: bool = False
    is_gguf: bool = False
    capabilities: tuple[str, ...] = ()
    """As the server words them; empty where it says nothing."""
    hosts: tuple[str, ...] = ()
    """Those of the service's machines that have it."""
    digest: str = ""
    modified_at: str = ""
    seen_at: float = 0.0

    @property
    def name(self) -> str:
        """The qualified name, `service~model`."""
        return f"{self.service}~{self.upstream_name}"


_LISTS = frozenset({"capabilities", "hosts"})


def pack(record: ModelRecord) -> dict[str, str]:
    """The hash's fields. Whatever holds a comma in a list would come apart, so lists hold names only."""
    return {field.name: _text(getattr(record, field.name)) for field in fields(record)}


def unpack(stored: Mapping[bytes, bytes]) -> ModelRecord | None:
    """None for a hash that is gone, or is not one of ours."""
    values: dict[str, Any] = {name.decode(): value.decode() for name, value in stored.items()}
    for name in _LISTS & values.keys():
        values[name] = tuple(filter(None, values[name].split(",")))
    try:
        return msgspec.convert(values, ModelRecord, strict=False)
    except msgspec.ValidationError:
        return None


def _text(value: object) -> str:
    match value:
        case bool():
            return "1" if value else "0"
        case tuple():
            return ",".join(map(str, value))
        case _:
            return str(value)
