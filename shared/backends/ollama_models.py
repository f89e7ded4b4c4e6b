"""What Ollama says about its models: tags, ps, show and the progress of a pull. Pure readers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from shared.backends import ollama_errors
from shared.backends.base import LoadedModel, ModelInfo
from shared.backends.ollama_answers import not_understood


@dataclass(slots=True, frozen=True, kw_only=True)
class ModelDetails:
    """What /api/show knows of one model. `info` is the weights file's own metadata; 0 and empty where the server is
    silent."""

    family: str = ""
    parameter_size: str = ""
    quantization: str = ""
    capabilities: tuple[str, ...] = ()
    context_length: int = 0
    """Tokens the model was trained for, not what a runner is given."""
    embedding_length: int = 0
    """Dimension of its vectors."""
    template: str = ""
    system: str = ""
    parameters: str = ""
    modelfile: str = ""
    license: str = ""
    modified_at: str = ""
    info: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True, frozen=True, kw_only=True)
class PullProgress:
    """One step of a download. Bytes are of the layer `digest`; 0 while unknown."""

    status: str
    digest: str = ""
    total_bytes: int = 0
    completed_bytes: int = 0

    @property
    def is_done(self) -> bool:
        return self.status == "success"


class _Details(msgspec.Struct):
    family: str | None = None
    parameter_size: str | None = None
    quantization_level: str | None = None


class _Tag(msgspec.Struct):
    name: str
    size: int = 0
    digest: str = ""
    modified_at: str = ""
    details: _Details | None = None
    capabilities: list[str] | None = None
    remote_host: str | None = None


class _Tags(msgspec.Struct):
    models: list[_Tag] | None


class _Running(msgspec.Struct):
    name: str
    size: int = 0
    size_vram: int = 0
    expires_at: str = ""
    context_length: int = 0


class _Ps(msgspec.Struct):
    models: list[_Running] | None


class _Version(msgspec.Struct):
    version: str


class _Show(msgspec.Struct):
    details: _Details | None = None
    capabilities: list[str] | None = None
    model_info: dict[str, Any] | None = None
    template: str | None = None
    system: str | None = None
    parameters: str | None = None
    modelfile: str | None = None
    license: str | list[str] | None = None
    modified_at: str | None = None


class _Progress(msgspec.Struct):
    status: str = ""
    digest: str = ""
    total: int = 0
    completed: int = 0
    error: str | None = None


class _Loaded(msgspec.Struct):
    done: bool = False
    embeddings: list[object] | None = None


T = TypeVar("T")

_TAGS = msgspec.json.Decoder(_Tags)
_PS = msgspec.json.Decoder(_Ps)
_VERSION = msgspec.json.Decoder(_Version)
_SHOW = msgspec.json.Decoder(_Show)
_PROGRESS = msgspec.json.Decoder(_Progress)
_LOADED = msgspec.json.Decoder(_Loaded)


def _decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    try:
        return decoder.decode(body)
    except (ValueError, RecursionError) as exc:
        raise not_understood("it is not the JSON expected here", exc) from None


def read_tags(body: bytes, *, with_cloud: bool = False) -> list[ModelInfo]:
    """Installed models. Stubs that stand for a model in Ollama's cloud are left out unless asked for."""
    return [_info(tag) for tag in _decode(_TAGS, body).models or () if with_cloud or not _is_cloud(tag)]


def _is_cloud(tag: _Tag) -> bool:
    return bool(tag.remote_host) or ollama_errors.is_cloud_model(tag.name)


def _info(tag: _Tag) -> ModelInfo:
    details = tag.details or _Details()
    return ModelInfo(
        name=tag.name,
        size_bytes=tag.size,
        digest=tag.digest,
        modified_at=tag.modified_at,
        family=details.family or "",
        parameter_size=details.parameter_size or "",
        quantization=details.quantization_level or "",
        capabilities=tuple(tag.capabilities or ()),
    )


def read_ps(body: bytes) -> list[LoadedModel]:
    return [
        LoadedModel(
            name=running.name,
            size_bytes=running.size,
            vram_bytes=running.size_vram,
            expires_at=running.expires_at,
            context_length=running.context_length,
        )
        for running in _decode(_PS, body).models or ()
    ]


def read_version(body: bytes) -> str:
    return _decode(_VERSION, body).version


def read_show(body: bytes) -> ModelDetails:
    found = _decode(_SHOW, body)
    details = found.details or _Details()
    info = found.model_info or {}
    architecture = info.get("general.architecture", "")
    return ModelDetails(
        family=details.family or "",
        parameter_size=details.parameter_size or "",
        quantization=details.quantization_level or "",
        capabilities=tuple(found.capabilities or ()),
        context_length=_count(info.get(f"{architecture}.context_length")),
        embedding_length=_count(info.get(f"{architecture}.embedding_length")),
        template=found.template or "",
        system=found.system or "",
        parameters=found.parameters or "",
        modelfile=found.modelfile or "",
        license="\n".join(found.license) if isinstance(found.license, list) else found.license or "",
        modified_at=found.modified_at or "",
        info=info,
    )


def _count(value: object) -> int:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0


def read_pull_line(line: bytes, model: str) -> PullProgress:
    """One step. Raises the classified error of an `error` line, which here comes under a status of 200."""
    found = _decode(_PROGRESS, line)
    if found.error is not None:
        raise ollama_errors.classify_line(found.error, endpoint=ollama_errors.PULL, model=model)
    return PullProgress(
        status=found.status, digest=found.digest, total_bytes=found.total, completed_bytes=found.completed
    )


def check_loaded(body: bytes) -> None:
    """Raises BackendProtocolError unless the answer says that a load or unload was done."""
    found = _decode(_LOADED, body)
    if not found.done and found.embeddings is None:
        raise not_understood("it does not say that the model was loaded or unloaded")
