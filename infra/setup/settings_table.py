"""Every setting of every service, once each, from the settings classes.

It stands apart from the services and from the `arriero` command, because it is the one place that has to know all of
them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from arriero.settings import CommandSettings
from gateway.settings import GatewaySettings
from manager.settings import ManagerSettings
from monitor.settings import MonitorSettings
from shared.settings import BaseServiceSettings, LayeredSettings, is_duration
from shared.settings_sources import names_of
from worker.settings import WorkerSettings

GROUPS: Sequence[tuple[str, type[LayeredSettings]]] = (
    ("Every service", BaseServiceSettings),
    ("Gateway", GatewaySettings),
    ("Worker", WorkerSettings),
    ("Model manager", ManagerSettings),
    ("System monitor", MonitorSettings),
    ("The arriero command", CommandSettings),
)
MASKED = "********"


@dataclass(frozen=True, slots=True)
class Setting:
    """One variable. `names`: the first is the documented one, the others are read too."""

    group: str
    field: str
    names: tuple[str, ...]
    default: str
    description: str
    secret: bool
    unit: str
    """What a bare number of it is in: `s`, or nothing."""


def settings() -> Iterator[Setting]:
    """All of them, each once: a service's group leaves out what every service has."""
    shared = set(BaseServiceSettings.model_fields)
    for group, model in GROUPS:
        for name, field in model.model_fields.items():
            if model is not BaseServiceSettings and issubclass(model, BaseServiceSettings) and name in shared:
                continue
            default = field.get_default(call_default_factory=True, validated_data={})
            names = tuple(choice.upper() for choice in names_of(name, field))
            unit = "s" if is_duration(field) else ""
            text = text_of(default) + unit
            yield Setting(group, name, names, text, field.description or "", isinstance(default, SecretStr), unit)


def text_of(value: Any, *, mask: bool = False) -> str:
    """A value as it is written in .env."""
    if isinstance(value, SecretStr):
        return MASKED if mask and value.get_secret_value() else ""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        several = any(isinstance(item, list | tuple) for item in value.values())
        return (";" if several else ",").join(f"{key}={text_of(item, mask=mask)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ",".join(text_of(item, mask=mask) for item in value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return mask_url_password(str(value)) if mask else str(value)


def mask_url_password(text: str) -> str:
    """`redis://user:secret@host` without the secret."""
    return re.sub(r"(?<=://)([^:/@\s]*):[^@/\s]+(?=@)", rf"\1:{MASKED}", text)
