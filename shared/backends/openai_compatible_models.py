"""What servers of OpenAI's dialect say about their models. Pure readers.

The dialect itself knows an id and no more. What OpenRouter, vLLM and llama.cpp add to the list is read where it is
there; LM Studio has a list of its own beside it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from shared.backends.base import LoadedModel, ModelInfo
from shared.backends.ollama_answers import not_understood

_PARAMETERS = {"tools": "tools", "reasoning": "thinking"}
"""OpenRouter's `supported_parameters` -> Ollama's word for the capability."""
_KINDS = {"llm": ("completion",), "vlm": ("completion", "vision"), "embeddings": ("embedding",)}
"""LM Studio's `type` -> the same."""


class _Architecture(msgspec.Struct):
    input_modalities: list[str] | None = None


class _Meta(msgspec.Struct):
    """llama.cpp's facts of the weights file, and of the context it was given."""

    size: int = 0
    n_params: int = 0
    n_ctx: int = 0


class _Status(msgspec.Struct):
    value: str = "loaded"


class _Listed(msgspec.Struct):
    id: str
    created: Any = None
    supported_parameters: list[str] | None = None
    architecture: Any = None
    meta: _Meta | None = None
    status: _Status | None = None
    """Only of a llama.cpp that serves several models; a lone one is always loaded."""


class _List(msgspec.Struct):
    data: list[_Listed] | None


class _Studio(msgspec.Struct):
    id: str
    type: str = ""
    arch: str = ""
    quantization: str = ""
    state: str = ""
    max_context_length: int = 0
    loaded_context_length: int = 0
    capabilities: list[str] | None = None


class _StudioList(msgspec.Struct):
    data: list[_Studio]


T = TypeVar("T")
_LIST = msgspec.json.Decoder(_List)
_STUDIO_LIST = msgspec.json.Decoder(_StudioList)


def _decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    try:
        return decoder.decode(body)
    except (ValueError, RecursionError) as exc:
        raise not_understood("it is not the list of models expected here", exc) from None


def read_models(body: bytes) -> list[ModelInfo]:
    """The models of GET /models. Raises BackendProtocolError."""
    return [
        ModelInfo(
            name=listed.id,
            size_bytes=meta.size,
            modified_at=_time(listed.created),
            parameter_size=_count(meta.n_params),
            capabilities=_capabilities(listed),
        )
        for listed in _decode(_LIST, body).data or ()
        for meta in [listed.meta or _Meta()]
    ]


def read_loaded(body: bytes) -> list[LoadedModel]:
    """The models of llama.cpp's GET /models that are in memory."""
    return [
        LoadedModel(name=listed.id, size_bytes=meta.size, context_length=meta.n_ctx)
        for listed in _decode(_LIST, body).data or ()
        for meta in [listed.meta or _Meta()]
        if (listed.status or _Status()).value == "loaded"
    ]


def read_studio_models(body: bytes) -> list[ModelInfo]:
    """The models of LM Studio's GET /api/v0/models."""
    return [
        ModelInfo(
            name=found.id,
            family=found.arch,
            quantization=found.quantization,
            capabilities=_KINDS.get(found.type, ()) + (("tools",) if "tool_use" in (found.capabilities or ()) else ()),
        )
        for found in _decode(_STUDIO_LIST, body).data
    ]


def read_studio_loaded(body: bytes) -> list[LoadedModel]:
    """Those of them that are in memory."""
    return [
        LoadedModel(name=found.id, context_length=found.loaded_context_length or found.max_context_length)
        for found in _decode(_STUDIO_LIST, body).data
        if found.state == "loaded"
    ]


def _capabilities(listed: _Listed) -> tuple[str, ...]:
    found = [known for said, known in _PARAMETERS.items() if said in (listed.supported_parameters or ())]
    try:
        modalities = msgspec.convert(listed.architecture, _Architecture | None)
    except msgspec.ValidationError:  # others put other things there
        modalities = None
    if modalities is not None and "image" in (modalities.input_modalities or ()):
        found.append("vision")
    return tuple(found)


def _time(created: Any) -> str:
    """RFC 3339 of Unix seconds; empty for what is no such time."""
    if not isinstance(created, int | float) or not 0 < created < 2**33:
        return ""
    return datetime.fromtimestamp(created, UTC).isoformat().replace("+00:00", "Z")


def _count(parameters: int) -> str:
    """`3.2B`, `137M`; empty for 0."""
    if parameters >= 1e9:
        return f"{parameters / 1e9:.1f}B"
    return f"{parameters / 1e6:.0f}M" if parameters >= 1e6 else str(parameters or "")
