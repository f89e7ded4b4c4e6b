"""Where a service's key comes from: its own setting, the file or the variable it names, or its preset's variable."""

from __future__ import annotations

import re
from typing import Any

from pydantic import SecretStr

from shared.secret_files import read_secret_files
from shared.services.presets import PRESETS
from shared.settings_sources import variable

_SENT_AS_HEADER = re.compile(r"[\x21-\x7e]+")


def text_of(key: Any) -> str:
    return key.get_secret_value() if isinstance(key, SecretStr) else str(key or "")


def check_key(key: str, source: str = "") -> None:
    """Raises ValueError, beginning with `source`, for a key that no header can carry."""
    if key and not _SENT_AS_HEADER.fullmatch(key):
        raise ValueError(f"{source}the key has characters that no key has, such as spaces or line breaks; copy it anew")


def with_key(entry: dict[str, Any]) -> dict[str, Any]:
    """What was said of a service, with its key filled in where there is one.

    Raises ValueError for a file that cannot be read, and for a variable that holds no key.
    """
    entry = read_secret_files(entry, {"api_key": "api_key_file"})
    if text_of(entry.get("api_key")):
        return entry
    preset = PRESETS.get(str(entry.get("preset") or entry.get("name")))
    name = entry.get("api_key_env_var") or (preset.key_variable if preset is not None else "")
    key = variable(str(name)) if name else ""
    check_key(key, f"{name}: ")
    return entry | ({"api_key": key} if key else {})
