"""Settings that more than one service reads, and the units they may be written in.

Each service has its own `settings.py` on top of `BaseServiceSettings`. Settings are read once, in `__main__`, and
handed down.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

_DURATION = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?\s*$")
_SECONDS_PER = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
BARE_MILLISECONDS_FROM = 1000.0
"""A bare number this large is milliseconds: nobody means a timeout of 300000 s, and older configurations write ms."""


def parse_duration_s(value: Any) -> Any:
    """Seconds from `300s`, `300000ms`, `5m`, or the text of a bare number (seconds below 1000, then milliseconds)."""
    if not isinstance(value, str):
        # Numbers come from our own code, defaults among them, and there a second is a second.
        return value
    match = _DURATION.match(value)
    if match is None:
        raise ValueError("expected a duration such as 300s, 300000ms or 5m")
    number, unit = float(match[1]), match[2]
    if unit is None:
        return number / 1000.0 if number >= BARE_MILLISECONDS_FROM else number
    return number * _SECONDS_PER[unit]


def split_list(value: Any) -> Any:
    """A list from comma-separated text; a list stays as it is."""
    if isinstance(value, str):
        return [item.strip() for item in value.split(",") if item.strip()]
    return value


Seconds = Annotated[float, BeforeValidator(parse_duration_s)]
NameList = Annotated[list[str], NoDecode, BeforeValidator(split_list)]


class BaseServiceSettings(BaseSettings):
    """What every service reads."""

    model_config = SettingsConfigDict(
        env_file=".env", env_file_encoding="utf-8", extra="ignore", frozen=True, populate_by_name=True
    )

    redis_url: str = Field(
        "redis://localhost:6379/9", description="Redis or Valkey, version 7 or later: redis://, rediss:// or unix://."
    )
    redis_username: str = Field("", description="Redis ACL user; overrides the one in REDIS_URL.")
    redis_password: SecretStr = Field(SecretStr(""), description="Redis password; overrides the one in REDIS_URL.")
    redis_sentinels: NameList = Field(
        default_factory=list, description="Sentinel addresses host:port, comma-separated. Empty: no Sentinel."
    )
    redis_sentinel_master: str = Field("mymaster", description="Name of the primary that the Sentinels watch.")
    redis_ca_file: str = Field("", description="CA file for rediss://; empty: the system's.")
    queue_shard: str = Field(
        "gw", pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$", description="Hash tag of this shard's keys: {gw}."
    )
    result_ttl: Seconds = Field(
        86400.0, ge=60, description="How long a finished job and its result stay readable, seconds."
    )
    ollama_base_urls: NameList = Field(
        default_factory=lambda: ["http://localhost:11434"],
        validation_alias=AliasChoices("ollama_base_urls", "ollama_base_url", "ollama_api_url", "ollama_url"),
        description="Ollama hosts, comma-separated. Also read as OLLAMA_BASE_URL, OLLAMA_API_URL, OLLAMA_URL.",
    )
    healthcheck_timeout: Seconds = Field(5.0, gt=0, le=60, description="Limit on one health probe, seconds.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Least severity that is logged."
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto: console on a terminal, JSON elsewhere."
    )
    log_prompts: bool = Field(False, description="Write prompt and answer text into debug logs. Off: never.")
    debug: bool = Field(False, description="Adds details to error bodies. Not for production.")
