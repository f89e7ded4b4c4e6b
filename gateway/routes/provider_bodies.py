"""What the providers' face reads and answers: bodies that are checked, and answers, which only describe."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.openapi_answers import Answer, Count, UnixSeconds
from gateway.routes.llm_answers import ApiFormatName
from shared.catalogue.record import ModelRecord, ModelType
from shared.services.config import NAME
from shared.services.health import ServiceHealth
from shared.services.statistics import ServiceStatistics

ProviderStatus = Literal["healthy", "unhealthy", "unknown", "off"]
Address = Annotated[str, Field(min_length=1, max_length=2048, pattern=r"^https?://[^/?#\s@]+([/?#]\S*)?$")]
ModelAtProvider = Annotated[str, Field(min_length=1, max_length=256)]


class _Strict(BaseModel):
    # A misspelt field is refused: ignored, it would leave certificates unchecked or a cloud service called ours.
    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())


class ProviderBody(_Strict):
    """POST /v1/providers: a service as in the settings, without its key."""

    name: str = Field(pattern=NAME, description="What stands before `~` in its models' names.")
    preset: str | None = Field(None, max_length=32, description="Known service whose dialect and quirks it shares.")
    api_format: ApiFormatName | None = Field(None, description="Its dialect; needed for a name that is no preset's.")
    urls: list[Address] = Field(
        default_factory=list, max_length=64, description="Where it listens; needed for a name that is no preset's."
    )
    api_key_env_var: str | None = Field(
        None,
        pattern=r"^SERVICE_KEY_[A-Z0-9_]{1,64}$",
        description="Variable SERVICE_KEY_... of gateways and workers that holds its key.",
    )
    local: bool | None = Field(None, description="Its machines are ours, at a local address.")
    verify_cert: bool = True
    enable_discovery: bool = True
    short_timeout_sec: float | None = Field(None, gt=0, le=120, allow_inf_nan=False)
    long_timeout_sec: float | None = Field(None, gt=0, le=86_400, allow_inf_nan=False)
    models: list[ModelAtProvider] = Field(default_factory=list, max_length=1000)
    default_model: ModelAtProvider | None = None

    @property
    def said(self) -> dict[str, Any]:
        """What was said, and nothing else: a preset fills in the rest."""
        return self.model_dump(exclude_unset=True, exclude_none=True)


class DefaultProviderBody(_Strict):
    """PUT /v1/providers/default."""

    name: str = Field(
        max_length=32, description="A provider in force; `auto`: the first that has the model; empty: as configured."
    )


class ProviderHost(Answer):
    host: str
    status: Literal["healthy", "unhealthy"]
    latency_seconds: Annotated[float, Field(ge=0)]
    error: Annotated[str | None, Field(description="Code of what went wrong.")]


class ProviderUse(Answer):
    """Since recording began."""

    requests: Count
    failures: Count
    tokens_in: Count
    tokens_out: Count
    mean_latency_seconds: float | None
    p95_latency_seconds: float | None
    last_used_at: UnixSeconds | None


class Provider(Answer):
    id: str
    object: Literal["provider"]
    status: Annotated[ProviderStatus, Field(description="`unknown`: not asked yet; `off`: configured, not in force.")]
    reason: Annotated[str | None, Field(description="Why it is off, and what would change that.")]
    api_format: ApiFormatName | None
    local: bool | None
    default: Annotated[bool, Field(description="Names without a provider are at this one.")]
    registered: Annotated[bool, Field(description="At run time, and not in the settings.")]
    checked_at: UnixSeconds | None
    hosts: list[ProviderHost]
    use: ProviderUse | None


class ProviderList(Answer):
    object: Literal["list"]
    default: str
    data: list[Provider]


class ProviderModel(Answer):
    """A model with what it can do. 0 and empty: unknown."""

    id: Annotated[str, Field(description="`provider~model`.")]
    object: Literal["model"]
    created: Count
    owned_by: str
    type: ModelType
    context_length: Count
    tools: bool
    streaming: bool


class ProviderModelList(Answer):
    object: Literal["list"]
    data: list[ProviderModel]


class ProviderRemoved(Answer):
    id: str
    object: Literal["provider.removed"]
    removed: Literal[True]


class DefaultProvider(Answer):
    object: Literal["provider.default"]
    name: Annotated[str, Field(description="The provider that names without one are at now.")]
    preferred: Annotated[str, Field(description="As chosen: may be `auto`, or one that is not in force.")]


PROVIDER_ANSWERS: tuple[type[Answer], ...] = (
    Provider,
    ProviderList,
    ProviderModelList,
    ProviderRemoved,
    DefaultProvider,
)
_WORDS: dict[bool, ProviderStatus] = {True: "healthy", False: "unhealthy"}


def health_body(health: ServiceHealth | None) -> dict[str, Any]:
    if health is None:
        return {"status": "unknown", "checked_at": None, "hosts": []}
    hosts = [
        {
            "host": host.host,
            "status": _WORDS[host.is_up],
            "latency_seconds": host.latency_s,
            "error": host.error or None,
        }
        for host in health.hosts
    ]
    return {"status": _WORDS[health.is_up], "checked_at": health.checked_at, "hosts": hosts}


def use_body(statistics: ServiceStatistics) -> dict[str, Any]:
    return {
        "requests": statistics.requests,
        "failures": statistics.failures,
        "tokens_in": statistics.tokens_in,
        "tokens_out": statistics.tokens_out,
        "mean_latency_seconds": statistics.mean_latency_s,
        "p95_latency_seconds": statistics.p95_latency_s,
        "last_used_at": statistics.last_used_at or None,
    }


def provider_model_body(record: ModelRecord, created: int) -> dict[str, Any]:
    return {
        "id": record.name,
        "object": "model",
        "created": created,
        "owned_by": record.publisher or record.service,
        "type": record.type,
        "context_length": record.max_tokens,
        "tools": record.tooling,
        "streaming": record.streaming,
    }
