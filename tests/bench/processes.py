"""Child processes that always end with the benchmark, and the wait for them to be up."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.house.children import last_words, spawn

TERM_GRACE_S = 5.0


class BenchError(Exception):
    """A measurement could not be made; the message names the process and its last words."""


@dataclass(slots=True)
class Child:
    """A running program and the file its output goes to."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def tail(self) -> str:
        """The last lines it printed, for error messages."""
        return last_words(self.log)

    def check(self) -> None:
        """Raise BenchError if it ended by itself."""
        code = self.process.poll()
        if code is not None:
            raise BenchError(f"{self.name} ended early with exit code {code}: {self.tail()}")

    def stop(self) -> None:
        """End it and whatever it started; returns once it is gone."""
        for signal_number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal_number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(TERM_GRACE_S)
                break
        # The leader is gone; a grandchild in its group must not stay.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)


class Children:
    """Owns every program of one benchmark; leaving the `with` block ends them all, newest first."""

    def __init__(self, log_directory: Path) -> None:
        self._log_directory = log_directory
        self._running: list[Child] = []
        self._started = 0

    def __enter__(self) -> Children:
        return self

    def __exit__(self, *_: object) -> None:
        while self._running:
            self._running.pop().stop()

    def start(self, name: str, command: Sequence[str], env: Mapping[str, str] | None = None) -> Child:
        """Start a program in a process group of its own. `env` is added to ours."""
        self._started += 1
        log = self._log_directory / f"{self._started:03d}-{name}.log"
        child = Child(name, spawn(command, log, env), log)
        self._running.append(child)
        return child

    def stop(self, child: Child) -> None:
        self._running.remove(child)
        child.stop()

    @contextlib.contextmanager
    def running(self, name: str, command: Sequence[str], env: Mapping[str, str] | None = None) -> Iterator[Child]:
        """`start` for the length of a block."""
        child = self.start(name, command, env)
        try:
            yield child
        finally:
            self.stop(child)

    def answer(
        self, name: str, command: Sequence[str], *, timeout_s: float, env: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Run a program to its end and return the JSON object of its last line."""
        with self.running(name, command, env) as child:
            try:
                code = child.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                raise BenchError(f"{name} did not end within {timeout_s:.0f} s: {child.tail()}") from None
            if code != 0:
                raise BenchError(f"{name} failed with exit code {code}: {child.tail()}")
            return _last_json(child)


def _last_json(child: Child) -> dict[str, Any]:
    for line in reversed(child.log.read_text(errors="replace").splitlines()):
        if line.startswith("{"):
            found: dict[str, Any] = json.loads(line)
            return found
    raise BenchError(f"{child.name} printed no result: {child.tail()}")


def wait_for_line(child: Child, *, timeout_s: float) -> dict[str, Any]:
    """Wait until `child` has printed a line of JSON and return it."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with contextlib.suppress(BenchError, json.JSONDecodeError):
            return _last_json(child)
        child.check()
        time.sleep(0.02)
    raise BenchError(f"{child.name} was not ready within {timeout_s:.0f} s: {child.tail()}")


def wait_for_port(child: Child, port: int, *, timeout_s: float) -> None:
    """Wait until `child` accepts connections on `port`."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return
        child.check()
        time.sleep(0.05)
    raise BenchError(f"{child.name} did not listen on port {port} within {timeout_s:.0f} s: {child.tail()}")


def wait_for_http(children: Sequence[Child], url: str, *, timeout_s: float) -> None:
    """Wait until `url` answers with status 200; give up early when one of `children` ends."""
    deadline = time.monotonic() + timeout_s
    last = "no answer"
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=2.0):
                return
        except (OSError, urllib.error.URLError) as exc:
            last = str(exc)
        for child in children:
            child.check()
        time.sleep(0.1)
    raise BenchError(f"{url} was not ready within {timeout_s:.0f} s ({last}): {children[-1].tail()}")
