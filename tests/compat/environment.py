"""Environments of other people's packages: each made once in the user's cache, from a lock file of its own."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.compat.node import missing
from tests.integration.processes import clean_environment

LOCK = Path(__file__).parent / "clients" / "requirements.lock"
INSTALL_LIMIT_S = 600.0
RUN_LIMIT_S = 120.0
OFFLINE = ("dns error", "Name or service not known", "Could not connect", "Failed to fetch", "Connection refused")
"""Words of installers for an index that cannot be reached."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one check ended: `said` is the client's answer, or the failure with its traceback."""

    ok: bool
    said: str


def ran(program: Sequence[str], gateway_url: str, folder: Path) -> dict[str, Outcome]:
    """Run `tests.compat.clients.<program>`; how each of its checks ended, by name. `folder`: an empty one."""
    quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "HOME": str(folder), "TMPDIR": str(folder)}
    module, *arguments = program
    done = subprocess.run(
        [client_python(), "-m", f"tests.compat.clients.{module}", *arguments],
        env=clean_environment({"ARRIERO_URL": gateway_url, **quiet}),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=RUN_LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"
    return {name: Outcome(**outcome) for name, outcome in json.loads(done.stdout.splitlines()[-1]).items()}


@functools.cache
def client_python(lock_file: Path = LOCK) -> str:
    """The interpreter of the environment that `lock_file` pins. Skips the test where its packages cannot be fetched; in
    CI it fails."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "arriero-tests"
    version = f"py{sys.version_info.major}.{sys.version_info.minor}"
    home = cache / f"{lock_file.parent.name}-{version}-{hashlib.sha256(lock_file.read_bytes()).hexdigest()[:10]}"
    python, marker = home / "bin" / "python", home / "installed"
    cache.mkdir(parents=True, exist_ok=True)
    with Path(f"{home}.lock").open("w") as lock:
        # Tests run in several processes.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not marker.exists():
            # What an interrupted install left behind is of no use to anyone.
            shutil.rmtree(home, ignore_errors=True)
            venv.create(home, with_pip=False, symlinks=True)
            _install(python, lock_file)
            marker.touch()
    return str(python)


def _install(python: Path, lock_file: Path) -> None:
    command = [str(Path(sys.executable).parent / "uv"), "pip", "install", "--quiet", "--python", str(python)]
    command += ["--require-hashes", "--requirements", str(lock_file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_LIMIT_S, check=False)
    if done.returncode != 0:
        if any(word in done.stderr for word in OFFLINE):
            missing(f"{lock_file.parent.name} cannot be fetched: {done.stderr[-300:]}")
        pytest.fail(f"{lock_file.parent.name} cannot be installed: {done.stderr[-3000:]}")
