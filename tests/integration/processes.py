"""A child process that ends with the test that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import httpx

from tests.house.requirements import ROOT

INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")
"""All else, the settings of whoever runs the tests above all, stays outside."""
STOP_LIMIT_S = 8.0
POLL_S = 0.02


def clean_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """An environment with these settings, from which this checkout can be imported in any directory."""
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    return {**inherited, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **settings}


def eventually(predicate: Callable[[], object], timeout_s: float, description: str) -> float:
    """Seconds until `predicate()` was true. Raises AssertionError after `timeout_s`. For tests without a loop."""
    began = time.monotonic()
    while not (seen := predicate()):
        if time.monotonic() - began > timeout_s:
            raise AssertionError(f"{description}: not within {timeout_s:g} s, last seen {seen!r}")
        time.sleep(POLL_S)
    return time.monotonic() - began


class Program:
    """`python -m <module> <arguments>` in a process group of its own and an empty directory."""

    def __init__(
        self, module: str, arguments: Sequence[str], settings: Mapping[str, str], folder: Path, probe: str
    ) -> None:
        """`probe`: a URL that answers below 500 as soon as the program is up."""
        self._command = [sys.executable, "-m", module, *arguments]
        self._environment = clean_environment(settings)
        # Away from the checkout, where a `.env` may lie.
        self._folder = folder
        self._probe = probe
        self._log = folder / f"{module}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; `wait` says when it is up."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        assert self._process is not None, "not running"
        return self._process.pid

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def wait(self, timeout_s: float = 15.0) -> None:
        """Return once it answers. Raises AssertionError with its last words if it does not."""
        eventually(self._is_up, timeout_s, f"{self._command[2]} up")

    def _is_up(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"{self._command} ended by itself:\n{self.log[-3000:]}"
        try:
            return httpx.get(self._probe, timeout=2.0, trust_env=False).status_code < 500
        except httpx.HTTPError:
            return False

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for what is left after a while. Harmless when it does not run."""
        self._signal(signal.SIGTERM)
        self._reap()

    def kill(self) -> None:
        """As a crash would. Harmless when it does not run."""
        self._signal(signal.SIGKILL)
        self._reap()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, number)

    def _reap(self) -> None:
        if self._process is None:
            return
        try:
            self._process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.wait()
        self._process = None
