"""One configured service.

    services:
      ollama: {urls: [http://gpu1:11434, http://gpu2:11434]}
      openai: {api_key_env_var: OPENAI_API_KEY}
      team: {api_format: openai, urls: [https://llm.team.example/v1], local: true, models: [qwen3]}

A name of `presets.PRESETS` brings its dialect, URL and key variable along; any other needs `api_format` and `urls`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)
from yarl import URL

from shared.backends.base import CallTimeouts
from shared.backends.openai_quirks import QUIRKS, Quirks
from shared.egress import LOCAL_NETWORKS, IPNetwork, is_within
from shared.services.credentials import check_key
from shared.services.presets import DIALECTS, PRESETS, ApiFormat, Preset, ServiceCapabilities
from shared.setting_types import split_list

NAME = r"^[a-z0-9][a-z0-9_-]{0,31}$"
_VARIABLE = r"^([A-Za-z_][A-Za-z0-9_]*)?$"
PRIVATE_DOMAINS = (".localhost", ".local", ".internal", ".home.arpa", ".lan")


TextList = Annotated[tuple[str, ...], BeforeValidator(split_list)]


def is_address(url: str, schemes: Sequence[str] = ("http", "https")) -> bool:
    """Whether a URL names a host that can be connected to."""
    try:
        parts = urlsplit(url)
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def looks_ours(url: object, networks: Sequence[IPNetwork] = LOCAL_NETWORKS) -> bool:
    """Whether an address can only be on a network of ours: a number in `networks`, or a name that the world does not
    know."""
    host = urlsplit(str(url)).hostname or ""
    try:
        return is_within(host, networks)
    except ValueError:
        return "." not in host or host.endswith(PRIVATE_DOMAINS)


class ServiceConfig(BaseModel):
    """A service as it was configured, with what its preset adds. The key is never shown: not by `repr`, not as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, hide_input_in_errors=True)

    name: str = Field(pattern=NAME, description="Short name: what stands before `~` in a model's name.")
    preset: str = Field("", description="Known service whose quirks it shares; empty: the one of its name, if any.")
    api_format: ApiFormat = Field(description="Its dialect.")
    urls: TextList = Field(
        min_length=1,
        max_length=64,
        validation_alias=AliasChoices("urls", "url", "base_url"),
        description="Where it listens; several share the load.",
    )
    api_key: SecretStr = Field(SecretStr(""), description="Its key. Better: one of the next two.")
    api_key_env_var: str = Field("", pattern=_VARIABLE, description="Variable that holds the key.")
    api_key_file: str = Field("", description="File that holds the key.")
    short_timeout_sec: float = Field(5.0, gt=0, le=120, description="Limit on probes and lists of models, seconds.")
    long_timeout_sec: float = Field(
        300.0, gt=0, le=86400, description="Limit on the wait for an answer's first byte, seconds."
    )
    verify_cert: bool = Field(True, description="Check its TLS certificate.")
    enable_discovery: bool = Field(True, description="Ask it which models it has; off: `models` says so.")
    enabled: bool = Field(True, description="Off: as if it were not configured.")
    local: bool = Field(
        description="Its machines are ours: private requests may go there, and it exists in airgap mode."
    )
    models: TextList = Field((), description="Models it has, besides those it tells of.")
    default_model: str = Field(
        "", max_length=256, description="Model that stands in, at this service, when the services before it failed."
    )

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, given: Any) -> Any:
        """What the preset knows, under what was given. S4 puts limits and TLS under `upstream`; they mean the same."""
        if not isinstance(given, dict):
            return given
        values = {name: value for name, value in given.items() if name != "upstream"} | dict(
            given.get("upstream") or {}
        )
        known = str(values.get("preset") or values.get("name") or "").lower()
        if values.get("preset") and known not in PRESETS:
            raise ValueError(f"preset: there is no {known}; known are {', '.join(PRESETS)}")
        preset = PRESETS.get(known)
        if preset is None:
            return {"local": False} | values
        given_urls = next((values[name] for name in ("urls", "url", "base_url") if name in values), None)
        urls = {"urls": [preset.url]} if given_urls is None else {}
        # Ollama is ours wherever it is. Others' software also runs at people who sell its use.
        listed = split_list(given_urls) if isinstance(given_urls, str | list | tuple) else ()
        is_ours = known == "ollama" or all(map(looks_ours, listed))
        return {
            "api_format": preset.api_format,
            "local": preset.is_local and is_ours,
            "api_key_env_var": preset.key_variable,
        } | urls | values  # fmt: skip

    @field_validator("urls")
    @classmethod
    def _are_addresses(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            if not is_address(url, ("http", "https", "mock")):
                # The value stays out of the text: it may carry a password.
                raise ValueError("expected addresses such as http://host:11434 or https://host/v1")
        return tuple(dict.fromkeys(url.rstrip("/") for url in urls))

    @field_validator("api_key")
    @classmethod
    def _fits_a_header(cls, key: SecretStr) -> SecretStr:
        check_key(key.get_secret_value())
        return key

    @property
    def known(self) -> Preset:
        """Its preset, else what its dialect tells."""
        return PRESETS.get(self.preset or self.name) or DIALECTS[self.api_format]

    @property
    def capabilities(self) -> ServiceCapabilities:
        return self.known.capabilities

    @property
    def quirks(self) -> Quirks:
        """In what its server differs from OpenAI's dialect."""
        return QUIRKS.get(self.preset or self.name) or Quirks()

    @property
    def tells_loaded(self) -> bool:
        """Whether its server says which models it has in memory."""
        return self.api_format in ("ollama", "mock") or (
            self.api_format == "openai" and self.quirks.inventory != "models"
        )

    def __repr__(self) -> str:
        """What `arriero config show` and logs may show: no key, and no password of a URL."""
        urls = " ".join(str(URL(url).with_user(None)) for url in self.urls)
        return f"{self.api_format} at {urls}{' with a key' if self.key else ''}"

    __str__ = __repr__

    def probe_s(self, usual: float) -> float:
        """Limit on a probe, seconds: the service's own where it was given."""
        return self.short_timeout_sec if "short_timeout_sec" in self.model_fields_set else usual

    def call_timeouts(self, usual: CallTimeouts) -> CallTimeouts:
        """Limits on a call: the service's own wait for a first byte where it was given."""
        if "long_timeout_sec" not in self.model_fields_set:
            return usual
        return replace(usual, first_byte_s=self.long_timeout_sec, total_s=max(usual.total_s, self.long_timeout_sec))

    def capped(self, limits: CallTimeouts) -> CallTimeouts:
        """The same limits, with no longer a wait for the first byte than the service's own."""
        return replace(limits, first_byte_s=min(limits.first_byte_s, self.long_timeout_sec))

    @property
    def ask_timeouts(self) -> CallTimeouts:
        """The limits on a question, such as a probe or the list of models."""
        limit_s = self.short_timeout_sec
        return CallTimeouts(connect_s=limit_s, first_byte_s=limit_s, gap_s=limit_s, total_s=limit_s)

    @property
    def key(self) -> str:
        """The secret, for the one who sends it; empty where there is none."""
        return self.api_key.get_secret_value()
