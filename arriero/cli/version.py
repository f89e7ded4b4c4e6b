"""`arriero version`."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed

from arriero.cli.output import Json, print_json


def version(as_json: Json = False) -> None:
    """The version of Arriero and of what it stands on."""
    found = {name: installed_version(name) for name in ("arriero", "arq", "redis", "aiohttp", "httpx")}
    if as_json:
        print_json({**found, "python": platform.python_version()})
        return
    rest = ", ".join(f"{name} {found[name]}" for name in ("arq", "redis", "aiohttp", "httpx"))
    sys.stdout.write(f"arriero {found['arriero']} (Python {platform.python_version()}, {rest})\n")


def installed_version(package: str) -> str:
    try:
        return installed(package)
    except PackageNotFoundError:
        return "not installed"
