"""Secrets that come in files, as Docker and Kubernetes hand them out: `X_FILE` names the file that holds `X`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def read_secret_files(values: Any, secrets: Mapping[str, str]) -> Any:
    """`values`, with each secret that is missing or empty read from its file, if one is named.

    `secrets`: field of the secret -> field that names its file. The line break that editors leave at the end of the
    file goes. Raises ValueError, for pydantic to report, when a file cannot be read or is empty.
    """
    if not isinstance(values, Mapping):
        return values
    found = dict(values)
    for secret, file_field in secrets.items():
        path = found.get(file_field)
        if path and not found.get(secret):
            found[secret] = _content(Path(path), file_field.upper())
    return found


def _content(path: Path, variable: str) -> str:
    try:
        text = path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ValueError(f"{variable}: {path} cannot be read ({reason}); name a file that this user may read") from None
    if not text:
        raise ValueError(f"{variable}: {path} is empty; put the secret into it")
    return text
