"""What the service hub's face answers: models that only describe, and the bodies that fit them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import Field

from gateway.openapi_answers import Answer, Count, UnixSeconds
from shared.catalogue.record import ModelRecord, ModelState, ModelType
from shared.services.presets import ServiceCapabilities

ApiFormatName = Literal["ollama", "openai", "anthropic", "mock"]


class LlmCapabilities(Answer):
    """What can be asked of a service here. `load_*`: while a model comes into memory."""

    install: bool
    import_model: bool
    update: bool
    load: bool
    unload: bool
    delete: bool
    load_progress: bool
    load_cancel: bool
    load_timeout: bool
    hugging_face_models: bool
    ollama_models: bool
    inference: bool
    streaming: bool
    embedding: bool


class LlmService(Answer):
    name: str
    api_format: ApiFormatName
    local: Annotated[bool, Field(description="Its machines are ours.")]
    default: Annotated[bool, Field(description="Names without a service are at this one.")]
    hosts: Annotated[list[str], Field(description="Its machines, host:port.")]
    capabilities: LlmCapabilities


class LlmServiceOff(Answer):
    name: str
    reason: str


class LlmServices(Answer):
    services: list[LlmService]
    off: Annotated[list[LlmServiceOff], Field(description="Configured, and not in force.")]
    default_service: str


class LlmServiceCapabilities(Answer):
    service: str
    capabilities: LlmCapabilities


class HostPing(Answer):
    host: str
    status: Literal["alive", "silent"]
    seconds: Annotated[float, Field(ge=0, description="It took to answer, or to give up.")]
    error: Annotated[str | None, Field(description="Code of what went wrong.")]


class LlmPing(Answer):
    """`alive`: at least one of its machines answers."""

    service: str
    status: Literal["alive", "silent"]
    hosts: list[HostPing]


class LlmModel(Answer):
    """Told by the server, else guessed from the name. 0 and empty: unknown."""

    name: Annotated[str, Field(description="`service~upstream_name`.")]
    service: str
    upstream_name: str
    type: ModelType
    state: Annotated[ModelState, Field(description="`ready`: its service does not say what is in memory.")]
    description: str
    publisher: str
    architecture: str
    quantization: str
    runtime: str
    max_tokens: Annotated[Count, Field(description="Context length.")]
    size_bytes: Count
    parameters: Count
    streaming: bool
    instructed: bool
    coding: bool
    tooling: bool
    is_mlx: bool
    is_gguf: bool
    capabilities: list[str]
    hosts: list[str]
    digest: str
    modified_at: str
    seen_at: UnixSeconds


class LlmModels(Answer):
    models: list[LlmModel]


LLM_ANSWERS: tuple[type[Answer], ...] = (
    LlmService,
    LlmServices,
    LlmServiceCapabilities,
    LlmPing,
    LlmModel,
    LlmModels,
)


def llm_model_body(record: ModelRecord) -> dict[str, Any]:
    return {"name": record.name, **asdict(record)}


def capabilities_body(capabilities: ServiceCapabilities) -> dict[str, bool]:
    return asdict(capabilities)
