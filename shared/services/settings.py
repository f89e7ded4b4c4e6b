"""The settings of the services: which there are, with which keys, which one bare names mean, what may leave."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

from shared import egress
from shared.secret_files import read_secret_files
from shared.services.checks import default_conflicts, default_remarks, service_conflicts, url_conflicts
from shared.services.config import ServiceConfig
from shared.services.credentials import check_key, text_of, with_key
from shared.services.registry import Registry
from shared.setting_types import NameList

KEYED = ("openai", "openrouter", "anthropic")
"""Services that a key alone switches on."""
OLLAMA = "ollama"
URL_NAMES = ("urls", "url", "base_url")
"""Under which a service's addresses may stand."""
NO_OLLAMA = "Ollama is switched off (OLLAMA_ENABLED, SERVICES.ollama): its hosts are left alone"
"""What managers and monitors say of themselves where it is."""


def split_services(value: Any) -> Any:
    """{name: what is said of it} from JSON text; a mapping stays, `openai:` with nothing after it means its preset."""
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else {}
        except ValueError:
            # Not what json says: its words may quote a key.
            raise ValueError(
                'SERVICES: expected JSON such as {"openai": {"api_key_env_var": "OPENAI_API_KEY"}}'
            ) from None
    if not isinstance(value, Mapping):
        raise ValueError("SERVICES: expected a mapping of service names to their settings")
    services: dict[str, Any] = {}
    for name, given in value.items():
        if isinstance(given, ServiceConfig):
            services[given.name] = given
        elif isinstance(given, Mapping) or not given:
            services[str(name).lower()] = {"name": str(name).lower()} | dict(given or {})
        else:
            raise ValueError(f"SERVICES.{name}: expected its settings, such as urls and api_key_env_var")
    return services


ServiceTable = Annotated[dict[str, ServiceConfig], NoDecode, BeforeValidator(split_services)]


class ServiceSettings(BaseModel):
    """What every process needs to know of the services."""

    ollama_enabled: bool = Field(True, description="Ollama is one of the services.")
    ollama_base_urls: NameList = Field(
        default_factory=lambda: ["http://localhost:11434"],
        validation_alias=AliasChoices("ollama_base_urls", "ollama_base_url", "ollama_api_url", "ollama_url"),
        description="Ollama hosts, comma-separated. Also read as OLLAMA_BASE_URL, OLLAMA_API_URL, OLLAMA_URL.",
    )
    services: ServiceTable = Field(
        default_factory=dict,
        description="Further services, as JSON, or in YAML as a mapping: docs/services.md. "
        "A key below is enough for its service.",
    )
    openai_api_key: SecretStr = Field(SecretStr(""), description="Switches the service openai on.")
    openai_api_key_file: str = Field("", description="File that holds that key; read when OPENAI_API_KEY is empty.")
    openai_default_model: str = Field(
        "", max_length=256, description="Model there that stands in when other services fail. Empty: none."
    )
    openrouter_api_key: SecretStr = Field(SecretStr(""), description="Switches the service openrouter on.")
    openrouter_api_key_file: str = Field(
        "", description="File that holds that key; read when OPENROUTER_API_KEY is empty."
    )
    openrouter_default_model: str = Field(
        "", max_length=256, description="Model there that stands in when other services fail. Empty: none."
    )
    anthropic_api_key: SecretStr = Field(SecretStr(""), description="Switches the service anthropic on.")
    anthropic_api_key_file: str = Field(
        "", description="File that holds that key; read when ANTHROPIC_API_KEY is empty."
    )
    anthropic_default_model: str = Field(
        "", max_length=256, description="Model there that stands in when other services fail. Empty: none."
    )
    default_service: str = Field(
        OLLAMA,
        validation_alias=AliasChoices(
            "default_service", "llm_default_service", "llm_default_provider", "preferred_provider"
        ),
        description="Service that model names without one are at; auto: the first that has the model, ours before the "
        "cloud's. Also read as LLM_DEFAULT_PROVIDER, PREFERRED_PROVIDER.",
    )
    enable_fallback: bool = Field(
        True,
        validation_alias=AliasChoices("enable_fallback", "llm_enable_fallback"),
        description="When a service fails, go on at the others that have the model, or a default model. "
        "Private requests stay on our machines. Also read as LLM_ENABLE_FALLBACK.",
    )
    airgap_mode: bool = Field(
        False,
        validation_alias=AliasChoices("airgap_mode", "llm_airgap_mode"),
        description="No cloud service exists, and model servers and receivers of alerts are connected to at local "
        "addresses only. Also read as LLM_AIRGAP_MODE.",
    )
    airgap_allowed_networks: NameList = Field(
        default_factory=list,
        description="Addresses and networks, comma-separated, that count as local besides loopback, private and "
        "link-local ones: 203.0.113.7,198.51.100.0/24.",
    )
    allow_service_registration: bool = Field(
        False, description="Let admins add services, and change the default one, while the gateway runs."
    )

    @model_validator(mode="before")
    @classmethod
    def _complete_services(cls, values: Any) -> Any:
        """Keys from files and variables into their services; Ollama's hosts, wherever they were given, into both."""
        files = {f"{name}_api_key": f"{name}_api_key_file" for name in KEYED}
        found = read_secret_files(values, files)
        if not isinstance(found, dict):
            return found
        services = split_services(found.get("services", {}))
        for name in KEYED:
            key = found.get(f"{name}_api_key")
            if text_of(key):
                check_key(text_of(key), f"{name.upper()}_API_KEY: ")
                services.setdefault(name, {"name": name})
            entry = services.get(name)
            if isinstance(entry, dict):
                named = entry.get("api_key") or entry.get("api_key_env_var") or entry.get("api_key_file")
                services[name] = entry | ({} if named or not text_of(key) else {"api_key": key}) | _default(found, name)
        for name, entry in services.items():
            if isinstance(entry, dict):
                services[name] = with_key(entry)
        return found | {"services": services} | _ollama_urls(found, services.get(OLLAMA))

    @field_validator("default_service")
    @classmethod
    def _in_lower_case(cls, name: str) -> str:
        return name.strip().lower()

    @field_validator("airgap_allowed_networks")
    @classmethod
    def _are_networks(cls, texts: list[str]) -> list[str]:
        egress.networks(texts)
        return texts

    @property
    def configured_services(self) -> list[ServiceConfig]:
        """All that are configured, Ollama first, whether or not they can be used."""
        ollama = self.services.get(OLLAMA) or ServiceConfig.model_validate(
            {"name": OLLAMA, "urls": self.ollama_base_urls}
        )
        others = [service for name, service in self.services.items() if name != OLLAMA]
        return [ollama, *others] if self.ollama_enabled else others

    @property
    def ollama_hosts(self) -> tuple[str, ...]:
        """The hosts that managers look after and monitors watch; none where Ollama is not in force."""
        ollama = self.new_registry().get(OLLAMA)
        return () if ollama is None else ollama.urls

    @property
    def inside(self) -> tuple[egress.IPNetwork, ...] | None:
        """The networks of airgap mode; None: it is off."""
        if not self.airgap_mode:
            return None
        return (*egress.LOCAL_NETWORKS, *egress.networks(self.airgap_allowed_networks))

    def new_registry(self) -> Registry:
        """The services in force, by these settings alone."""
        return Registry(self.configured_services, default=self.default_service, airgap=self.airgap_mode)

    def guard_egress(self) -> None:
        """Hold this process to local addresses if that is wanted."""
        if self.airgap_mode:
            egress.keep_inside(egress.networks(self.airgap_allowed_networks))
        else:
            egress.allow_all()

    def service_conflicts(self) -> Iterator[str]:
        """A sentence for everything about the services that cannot work."""
        wrong = list(url_conflicts(self.ollama_base_urls, self.services.get(OLLAMA)))
        yield from wrong
        if wrong:
            return
        for service in self.configured_services:
            yield from service_conflicts(service, self.inside)
        yield from default_conflicts(
            self.new_registry(), self.default_service, registers=self.allow_service_registration
        )

    def service_remarks(self) -> Iterator[str]:
        """A sentence for each configured service that is off, and for a default one that is not there yet."""
        registry = self.new_registry()
        for off in registry.off:
            yield off.reason
        yield from default_remarks(registry, self.default_service)


def _default(found: Mapping[str, Any], name: str) -> dict[str, str]:
    model = found.get(f"{name}_default_model")
    return {"default_model": model} if model else {}


def _ollama_urls(found: Mapping[str, Any], entry: Any) -> dict[str, Any]:
    """OLLAMA_BASE_URLS and the urls of the service are one setting: what was given under one name counts for both."""
    names: Iterable[str] = ("ollama_base_urls", "ollama_base_url", "ollama_api_url", "ollama_url")
    given = next((found[name] for name in names if found.get(name)), None)
    if not isinstance(entry, dict):
        return {}
    urls = next((entry[name] for name in URL_NAMES if entry.get(name)), None)
    if urls is None and given is not None:
        entry["urls"] = given
    return {"ollama_base_urls": urls} if urls is not None and given is None else {}
