"""What the `arriero` command reads from environment, `.env`, YAML file, and the state of a running `arriero up`."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator

from shared.secret_files import read_secret_files
from shared.settings import LayeredSettings

STATE_DIR_NAME = ".arriero"
API_KEY = re.compile(r"ark_[0-9a-z]{12}_[0-9a-z]{40}")
"""As `shared.api_keys` makes them; that module takes too long to import here."""


def _joined(value: Any) -> Any:
    """A YAML list as the text that stands in an environment variable."""
    return ",".join(map(str, value)) if isinstance(value, list) else value


CommaSeparated = Annotated[str, BeforeValidator(_joined)]


class CommandSettings(LayeredSettings):
    """Settings of the `arriero` command."""

    arriero_url: str = Field(
        default="",
        description="Gateway the command talks to. Empty: the running `arriero up`, else GATEWAY_HOST:GATEWAY_PORT.",
    )
    arriero_manager_url: str = Field(
        default="",
        description="Model manager the command talks to. Empty: as for ARRIERO_URL, with MANAGER_HOST:MANAGER_PORT.",
    )
    arriero_monitor_url: str = Field(
        default="",
        description="System monitor the command talks to. Empty: as for ARRIERO_URL, with MONITOR_HOST:MONITOR_PORT.",
    )
    arriero_api_key: SecretStr = Field(default=SecretStr(""), description="API key the command sends along.")
    arriero_api_key_file: str = Field(
        default="", description="File that holds that key; read when ARRIERO_API_KEY is empty."
    )
    arriero_model: str = Field(
        default="", description="Model that `arriero chat` asks. Empty: the first installed one that can chat."
    )
    arriero_state_dir: str = Field(
        default="", description="Where `arriero up` keeps Redis' data and run.json. Empty: .arriero in the project."
    )
    arriero_redis_port: int = Field(
        default=6379, ge=0, le=65535, description="Port of the Redis that `arriero up` starts, if it is free; 0: any."
    )

    @model_validator(mode="before")
    @classmethod
    def _secrets_from_files(cls, values: Any) -> Any:
        return read_secret_files(values, {"arriero_api_key": "arriero_api_key_file"})

    @field_validator("arriero_api_key")
    @classmethod
    def _looks_like_a_key(cls, key: SecretStr) -> SecretStr:
        if key.get_secret_value() and not API_KEY.fullmatch(key.get_secret_value()):
            raise ValueError(
                "is not an API key of Arriero, which reads ark_<12 letters or digits>_<40>; "
                "`arriero keys create` makes one"
            )
        return key


class StackSettings(CommandSettings):
    """What `arriero up` needs to know of the services' own settings to start them; they read the rest themselves."""

    redis_url: str = Field(default="", description="Redis to use; empty: start one.")
    redis_username: str = ""
    redis_password: SecretStr = SecretStr("")
    redis_sentinels: CommaSeparated = ""
    gateway_host: str = "127.0.0.1"
    gateway_port: int = Field(default=8000, ge=0, le=65535)
    worker_host: str = "127.0.0.1"
    worker_port: int = Field(default=3008, ge=0, le=65535)
    manager_host: str = "127.0.0.1"
    manager_port: int = Field(default=3009, ge=0, le=65535)
    monitor_host: str = "127.0.0.1"
    monitor_port: int = Field(default=3010, ge=0, le=65535)
    log_format: str = ""


def state_dir(configured: str, start: Path | None = None) -> Path:
    """The configured directory, else the nearest `.arriero` upwards from `start`, else a new one in `start`."""
    if configured:
        return Path(configured).expanduser().absolute()
    here = (start or Path.cwd()).absolute()
    for folder in (here, *here.parents):
        if (folder / STATE_DIR_NAME / "run.json").is_file():
            return folder / STATE_DIR_NAME
    return here / STATE_DIR_NAME


def command_name() -> str:
    """How to type this command here: by its bare name if that finds it, else by its path."""
    script = Path(sys.executable).parent / "arriero"
    if not script.is_file():
        return f"{sys.executable} -m arriero"
    if shutil.which("arriero") == str(script):
        return "arriero"
    here = Path.cwd()
    return str(script.relative_to(here)) if script.is_relative_to(here) else str(script)


def child_environment(extra: dict[str, str]) -> dict[str, str]:
    """This process' environment for a child, with `extra` on top and this checkout importable from any directory."""
    project = str(Path(__file__).resolve().parent.parent)
    path = os.environ.get("PYTHONPATH", "")
    return {
        **os.environ,
        "PYTHONPATH": f"{project}{os.pathsep}{path}" if path else project,
        "PYTHONUNBUFFERED": "1",
        **extra,
    }
