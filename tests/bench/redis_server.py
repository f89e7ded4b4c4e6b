"""The Redis the benchmark runs on: its own, on a free port, gone afterwards."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, cast

import redis

from tests.bench.processes import Child, Children, wait_for_port
from tests.house.redis_server import free_port, server_binary


class BenchRedis:
    """A client to a Redis or Valkey server that is there to be measured."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = redis.Redis.from_url(url, decode_responses=True)

    def clear(self) -> None:
        """Start the next measurement from nothing, so no peer pays for another's keys."""
        self.client.flushall()
        # Scripts are cached by the server; each peer loads its own again.
        self.client.script_flush()

    def sync(self) -> None:
        """Return once an append-only file is on disk, so that nobody else's measurement pays for it."""
        # With `always` the server syncs before it answers.
        self.client.config_set("appendfsync", "always")
        self.client.config_set("appendfsync", "everysec")

    def close(self) -> None:
        self.client.close()

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
    return BenchRedis(_start(children, directory, append_only=append_only)[1])


@contextmanager
def running_redis(children: Children, scratch: Path, *, append_only: bool) -> Iterator[BenchRedis]:
    """`start_redis` for the length of a block, with a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="redis-", dir=scratch) as directory:
        child, url = _start(children, Path(directory), append_only=append_only)
        try:
            with closing(BenchRedis(url)) as server:
                yield server
        finally:
            children.stop(child)


def _start(children: Children, directory: Path, *, append_only: bool) -> tuple[Child, str]:
    """The server and its URL."""
    port = free_port()
    command = [server_binary(), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory), "--save", ""]
    command += ["--appendonly", "yes" if append_only else "no", "--appendfsync", "everysec"]
    child = children.start("redis", command)
    wait_for_port(child, port, timeout_s=10.0)
    return child, f"redis://127.0.0.1:{port}/0"
