"""Child processes that a scenario kills, and that end with the run whatever happens to it."""

from __future__ import annotations

import asyncio
import resource
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.house.children import last_words, spawn


@dataclass(slots=True, eq=False)
class Process:
    """A running program. `asked` says that its end, if it ended, was ours to answer for."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path
    asked: bool = False

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def is_running(self) -> bool:
        return self.popen.poll() is None

    def kill(self) -> None:
        """kill -9, and wait for it to be gone."""
        self.asked = True
        self.popen.kill()
        self.popen.wait()

    def terminate(self) -> None:
        """SIGTERM; `exit_code` waits."""
        self.asked = True
        self.popen.terminate()

    def stop(self) -> None:
        """SIGSTOP: it hangs, and its connections with it."""
        self.popen.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT after `stop`."""
        self.popen.send_signal(signal.SIGCONT)

    def limit_files(self, most_bytes: int | None) -> None:
        """No file of it may grow beyond `most_bytes`, as if the disk were full; None: no limit. Linux only."""
        soft = resource.RLIM_INFINITY if most_bytes is None else most_bytes
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (soft, resource.RLIM_INFINITY))

    async def exit_code(self, timeout_s: float) -> int | None:
        """Its exit code once it has ended; None when it still runs after `timeout_s`."""
        give_up_at = time.monotonic() + timeout_s
        while self.is_running and time.monotonic() < give_up_at:  # noqa: ASYNC110  a child's end sets no event
            await asyncio.sleep(0.01)
        return self.popen.poll()

    def last_words(self) -> str:
        """The end of its log, for messages."""
        return last_words(self.log)


@dataclass(slots=True)
class Processes:
    """Owns all programs of one scenario."""

    logs: Path
    started: list[Process] = field(default_factory=list)

    def start(self, name: str, command: Sequence[str], env: Mapping[str, str] | None = None) -> Process:
        """Start a program; `env` is added to our environment."""
        log = self.logs / f"{len(self.started):03d}-{name}.log"
        process = Process(name, spawn(command, log, env), log)
        self.started.append(process)
        return process

    def died_unasked(self) -> list[str]:
        """Those that ended though nobody told them to, with their last words."""
        return [
            f"{p.name} (exit code {p.popen.returncode}): {p.last_words()}"
            for p in self.started
            if not p.is_running and not p.asked
        ]

    def end_all(self) -> None:
        """Kill what still runs. Nothing is left to save, and stopped processes cannot answer anything gentler."""
        for process in self.started:
            if process.is_running:
                process.popen.kill()
        for process in self.started:
            process.popen.wait()
