"""Settings that more than one service reads.

Each service has its own `settings.py` on top of `BaseServiceSettings`. Settings are read once, in `__main__`, and
handed down.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from shared.model_names import is_allowed
from shared.secret_files import read_secret_files
from shared.services.names import TILDE
from shared.services.settings import ServiceSettings

# Here, too, for whoever writes settings on top of these.
from shared.setting_types import BARE_MILLISECONDS_FROM as BARE_MILLISECONDS_FROM
from shared.setting_types import ModelChains as ModelChains
from shared.setting_types import NameList as NameList
from shared.setting_types import Ratio as Ratio
from shared.setting_types import Seconds as Seconds
from shared.setting_types import is_bare_milliseconds as is_bare_milliseconds
from shared.setting_types import is_duration as is_duration
from shared.setting_types import parse_duration_s as parse_duration_s
from shared.setting_types import parse_ratio as parse_ratio
from shared.settings_sources import LayeredSource

REDIS_SCHEMES = ("redis", "rediss", "unix")


def check_redis_url(url: str) -> str:
    """The URL as it is. Raises ValueError, without a password in it, where redis-py would fail later or guess."""
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in REDIS_SCHEMES:
        raise ValueError(f"expected {', '.join(f'{one}://' for one in REDIS_SCHEMES)}, not {scheme or 'no scheme'}")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("expected a host and a port of 1 to 65535, such as redis://localhost:6379/9") from None
    if port == 0:
        raise ValueError("port 0 is no port; write 1 to 65535, such as redis://localhost:6379/9")
    path = "" if scheme == "unix" else parts.path.strip("/")
    database = parse_qs(parts.query).get("db", [path])[0]
    if database and not (database.isascii() and database.isdigit()):
        raise ValueError(f"the database is a number, such as redis://localhost:6379/9, not {database}")
    return url


LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
LOG_LEVELS: tuple[LogLevel, ...] = ("DEBUG", "INFO", "WARNING", "ERROR")
"""From the most to say to the least."""


class LayeredSettings(BaseSettings):
    """Settings from the environment, `.env` and the YAML file (`shared.settings_sources`)."""

    model_config = SettingsConfigDict(
        env_file=".env", env_file_encoding="utf-8", extra="ignore", frozen=True, populate_by_name=True
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, LayeredSource(settings_cls, dotenv_settings)

    def conflicts(self) -> Iterator[str]:
        """A sentence, naming the variable and the remedy, for each value that cannot hold here or beside another.

        A service adds its own; whoever reads settings to start something refuses to go on with any.
        """
        yield from ()


class BaseServiceSettings(ServiceSettings, LayeredSettings):
    """What every service reads."""

    redis_url: str = Field(
        "redis://localhost:6379/9", description="Redis or Valkey, version 7 or later: redis://, rediss:// or unix://."
    )
    redis_username: str = Field("", description="Redis ACL user; overrides the one in REDIS_URL.")
    redis_password: SecretStr = Field(SecretStr(""), description="Redis password; overrides the one in REDIS_URL.")
    redis_password_file: str = Field(
        "", description="File that holds the Redis password; read when REDIS_PASSWORD is empty."
    )
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
    healthcheck_timeout: Seconds = Field(5.0, gt=0, le=60, description="Limit on one health probe, seconds.")
    allowed_models: NameList = Field(
        default_factory=list,
        description="Models that may be asked for, comma-separated; * stands for any letters, as in llama3.2:*. "
        "Empty: all.",
    )
    fallback_models: NameList = Field(
        default_factory=list,
        description="Models that stand in for any other, in order, comma-separated; at most two are tried for a job.",
    )
    fallback_chains: ModelChains = Field(
        default_factory=dict,
        description="Models with stand-ins of their own, instead of FALLBACK_MODELS: a=b,c;d=e.",
    )
    model_unload_timeout: Seconds = Field(
        300.0,
        ge=1,
        le=7 * 86400,
        description="How long a model that nobody uses stays in memory, seconds. Pinned models and those of "
        "MODEL_PRELOAD_LIST stay.",
    )
    metrics_enabled: bool = Field(True, description="Serve /metrics. Off: it answers 404, and nothing is read for it.")
    log_level: LogLevel = Field("INFO", description="Least severity that is logged.")
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto: console on a terminal, JSON elsewhere."
    )
    log_file: str = Field(
        "", description="File that is logged to as well, as JSON; services may share it. Empty: none."
    )
    log_file_level: LogLevel = Field("INFO", description="Least severity that goes into the file.")
    log_file_max_bytes: int = Field(
        10 * 1024 * 1024, ge=4096, description="From this size on the file is put aside as LOG_FILE.1, bytes."
    )
    log_file_backups: int = Field(5, ge=0, le=1000, description="Files put aside that are kept, the newest ones.")
    log_file_max_age: Seconds = Field(
        14 * 86400.0, ge=0, description="Files put aside longer ago are deleted, seconds; 0: never for their age."
    )
    log_prompts: bool = Field(False, description="Write prompt and answer text into debug logs. Off: never.")
    debug: bool = Field(False, description="Adds details to error bodies. Not for production.")

    @model_validator(mode="before")
    @classmethod
    def _secrets_from_files(cls, values: Any) -> Any:
        return read_secret_files(values, {"redis_password": "redis_password_file"})

    @field_validator("redis_url")
    @classmethod
    def _redis_can_be_at(cls, url: str) -> str:
        return check_redis_url(url)

    def conflicts(self) -> Iterator[str]:
        for entry in self.redis_sentinels:
            if not entry.rpartition(":")[2].isdigit():
                yield f"REDIS_SENTINELS: {entry} has no port; write host:port, such as {entry}:26379."
        yield from self.service_conflicts()
        yield from self.outside_allowed("FALLBACK_MODELS", self.fallback_models)
        for service in self.services.values():
            if service.default_model:
                own = f"{service.name}{TILDE}{service.default_model}"
                yield from self.outside_allowed(f"SERVICES.{service.name}.default_model", [own])
        stand_ins = [model for chain in self.fallback_chains.values() for model in chain]
        yield from self.outside_allowed("FALLBACK_CHAINS", dict.fromkeys(stand_ins))

    def outside_allowed(self, variable: str, models: Iterable[str]) -> Iterator[str]:
        """A sentence for each of a setting's models that ALLOWED_MODELS shuts out, or that is no name of a model."""
        for model in models:
            if not all(map(str.strip, model.split(TILDE, 1))):
                yield f"{variable}: {model} names no model; write it as model or service{TILDE}model."
                continue
            bare = model.partition(TILDE)[2] or model  # the list may speak of one or the other
            if not (is_allowed(model, self.allowed_models) or is_allowed(bare, self.allowed_models)):
                yield f"{variable}: {model} is not in ALLOWED_MODELS; add it there, or take it out here."

    @property
    def most_logged(self) -> LogLevel:
        """The least severity that is logged anywhere, on the console or in the file."""
        levels = (self.log_level, self.log_file_level) if self.log_file else (self.log_level,)
        return min(levels, key=LOG_LEVELS.index)
