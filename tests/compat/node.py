"""Clients written in JavaScript: their packages, fetched once into the user's cache, and a script of checks to run."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

OPENAI_NODE = "6.30.1"
"""The last line of versions that runs on Node 20."""
OLLAMA_JS = "0.6.3"
OLDEST_NODE = 20
CHECK_LIMIT_S = 30.0
OFFLINE = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ETIMEDOUT", "ENETUNREACH")
"""npm's words for a registry that cannot be reached."""


def missing(what: str) -> NoReturn:
    """Skip on a machine that lacks something; fail in CI, where it must be there."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


def command(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        missing(f"{name} is not installed: no JavaScript client is tested")
    return found


def node() -> str:
    found = command("node")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.lstrip("v").partition(".")[0]) < OLDEST_NODE:
        missing(f"node is {version}, the clients need {OLDEST_NODE}")
    return found


@functools.cache
def modules(package: str, version: str) -> Path:
    """The folder with the package and what it needs, installed there once."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = cache / "arriero-tests" / f"{package}-node-{version}"
    manifest = home / "node_modules" / package / "package.json"
    if not manifest.exists():
        home.mkdir(parents=True, exist_ok=True)
        install = [command("npm"), "install", f"{package}@{version}", "--prefix", str(home)]
        install += ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
        done = subprocess.run(install, capture_output=True, text=True, timeout=50, check=False)
        if done.returncode != 0:
            if any(word in done.stderr for word in OFFLINE):
                missing(f"{package} cannot be fetched: {done.stderr[-300:]}")
            pytest.fail(f"npm could not install {package}: {done.stdout}{done.stderr}")
    return home / "node_modules"


@dataclass(frozen=True)
class Checks:
    """A script that runs the check it is told, and what it needs."""

    script: Path
    modules: Path
    environment: Mapping[str, str]

    def run(self, check: str, folder: Path) -> str:
        """What the check printed; fails with what it complained about. `folder`: an empty one."""
        # Beside its modules, so that the script imports as everybody's does.
        (folder / "node_modules").symlink_to(self.modules)
        done = subprocess.run(
            [node(), shutil.copy(self.script, folder), check],
            env={"PATH": os.environ["PATH"], **self.environment},
            capture_output=True,
            text=True,
            timeout=CHECK_LIMIT_S,
            check=False,
        )
        assert done.returncode == 0, f"{check}: {done.stdout}{done.stderr}"
        return done.stdout.strip()
