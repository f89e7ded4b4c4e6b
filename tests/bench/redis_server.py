"""The Redis the benchmark runs on: its own, on a free port, gone afterwards."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, cast

import redis

from tests.bench.processes import Child, Children, wait_for_port
from tests.house.redis_server import free_port, server_binary


class BenchRedis:
    """A Redis or Valkey server with a client to it."""

    def __init__(self, child: Child, port: int) -> None:
        self.child = child
        self.url = f"redis://127.0.0.1:{port}/0"
        self.client = redis.Redis(port=port, decode_responses=True)

    def clear(self) -> None:
        """Start the next measurement from nothing, so no peer pays for another's keys."""
        self.client.flushall()
        # Scripts are cached by the server; each peer loads its own again.
        self.client.script_flush()

    def set_append_only(self, enabled: bool) -> None:
        """Switch the append-only file (everysec) on or off, and wait until the switch is through."""
        self.client.config_set("appendfsync", "everysec")
        self.client.config_set("appendonly", "yes" if enabled else "no")
        while self._info("persistence")["aof_rewrite_in_progress"]:
            time.sleep(0.05)

    def commands_processed(self) -> int:
        """How many commands the server has run so far, this one not counted."""
        return int(self._info("stats")["total_commands_processed"])

    def _info(self, section: str) -> dict[str, Any]:
        # redis-py declares one return type for its blocking and its asynchronous client.
        return cast(dict[str, Any], self.client.info(section))

    def version(self) -> str:
        info = self._info("server")
        name = info.get("server_name", "redis")
        return f"{name} {info.get('valkey_version') or info['redis_version']}"


def start_redis(children: Children, directory: Path, *, append_only: bool) -> BenchRedis:
    """Start a server without snapshots; `append_only` turns on the append-only file, synced every second."""
    port = free_port()
    command = [server_binary(), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory), "--save", ""]
    command += ["--appendonly", "yes" if append_only else "no", "--appendfsync", "everysec"]
    child = children.start("redis", command)
    wait_for_port(child, port, timeout_s=10.0)
    return BenchRedis(child, port)
