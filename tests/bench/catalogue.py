"""The peers Arriero is measured against: which versions, and where they are installed.

Each peer lives in a directory of its own outside the source tree, named after its exact packages, so a changed version
is a fresh install and two benchmarks never share one by accident.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(slots=True, frozen=True, kw_only=True)
class Peer:
    """`packages` are exact requirements of one ecosystem's installer; the first is the peer itself."""

    name: str
    ecosystem: Literal["python", "node"]
    packages: tuple[str, ...]


PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer(
            name="arq",
            ecosystem="python",
            packages=("arq==0.28.0", "hiredis==3.5.0", "msgspec==0.22.0", "uvloop==0.23.0", "aiohttp==3.14.5"),
        ),
        Peer(
            name="saq",
            ecosystem="python",
            packages=(
                *("saq==0.26.4", "redis==8.1.0", "hiredis==3.5.0", "msgspec==0.22.0", "uvloop==0.23.0"),
                "typing_extensions==4.16.0",  # SAQ imports it and does not ask for it
            ),
        ),
        Peer(
            name="taskiq",
            ecosystem="python",
            packages=(
                *("taskiq-redis==1.2.4", "taskiq==0.13.0", "redis==8.1.0", "hiredis==3.5.0", "msgpack==1.2.3"),
                "uvloop==0.23.0",
            ),
        ),
        Peer(
            name="celery",
            ecosystem="python",
            packages=("celery[msgpack,redis]==5.7.0", "kombu==5.7.0", "redis==8.1.0", "hiredis==3.5.0"),
        ),
        Peer(name="bullmq", ecosystem="node", packages=("bullmq@6.7.0", "ioredis@5.11.1")),
        Peer(name="litellm", ecosystem="python", packages=("litellm[proxy]==1.106.2",)),
        Peer(name="portkey", ecosystem="node", packages=("@portkey-ai/gateway@1.15.2",)),
    )
}
"""The one place where peer versions are pinned."""
PLOTTER = Peer(name="matplotlib", ecosystem="python", packages=("matplotlib==3.11.2",))
"""No peer: draws the plots."""
HOSTED_BY = {"arq-stock": "arq", "bare-proxy": "arq", "bare-parse": "arq", "bare-arq": "arq"}
"""What runs in the environment of a peer with another name."""


def package_of(name: str) -> str:
    """The installed peer that `name` runs in; empty for what needs none."""
    package = HOSTED_BY.get(name, name)
    return package if package in PEERS else ""


class PeerUnavailable(Exception):
    """This peer cannot be installed here; the message says why and what would help."""


def cache_directory() -> Path:
    """Where peers are kept: ${XDG_CACHE_HOME:-~/.cache}/arriero-bench."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "arriero-bench"


def install_directory(peer: Peer, cache: Path) -> Path:
    """One directory per exact set of packages and, for Python, per interpreter version."""
    runtime = f"py{sys.version_info.major}.{sys.version_info.minor}" if peer.ecosystem == "python" else "node"
    digest = hashlib.sha256("\n".join((runtime, *peer.packages)).encode()).hexdigest()[:10]
    return cache / f"{peer.name}-{digest}"


def peer_python(directory: Path) -> Path:
    """The interpreter of a Python peer."""
    return directory / "venv" / "bin" / "python"


def ensure_installed(peer: Peer, cache: Path, announce: Callable[[str], None]) -> Path:
    """Install `peer` unless it is there, and return its directory. Raises PeerUnavailable."""
    directory = install_directory(peer, cache)
    marker = directory / "installed"
    if marker.exists():
        return directory
    if peer.ecosystem == "node" and not (shutil.which("node") and shutil.which("npm")):
        raise PeerUnavailable(f"{peer.name} needs node and npm on PATH: install Node.js 20 or later, or leave it out.")
    announce(f"installing {', '.join(peer.packages)} into {directory}")
    # What an interrupted install left behind is of no use to anyone.
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    log = directory / "install.log"
    commands = _python_commands(peer, directory) if peer.ecosystem == "python" else _node_commands(peer, directory)
    with log.open("w") as output:
        for command in commands:
            done = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False, cwd=directory)
            if done.returncode != 0:
                tail = log.read_text(errors="replace").strip().splitlines()[-3:]
                raise PeerUnavailable(f"installing {peer.name} failed, see {log}: {' / '.join(tail)}")
    marker.write_text("\n".join(peer.packages) + "\n")
    return directory


def _python_commands(peer: Peer, directory: Path) -> list[list[str]]:
    python = str(peer_python(directory))
    venv.create(directory / "venv", with_pip=False, symlinks=True)
    beside_us = Path(sys.executable).parent / "uv"
    uv = str(beside_us) if beside_us.exists() else shutil.which("uv")
    if uv:
        return [[uv, "pip", "install", "--python", python, *peer.packages]]
    return [[sys.executable, "-m", "pip", "--python", python, "install", *peer.packages]]


def _node_commands(peer: Peer, directory: Path) -> list[list[str]]:
    return [["npm", "install", "--no-audit", "--no-fund", "--prefix", str(directory), *peer.packages]]
