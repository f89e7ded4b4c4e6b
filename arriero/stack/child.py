"""One child process: started in a group of its own, tied to this process' life, its output read line by line."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import re
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import psutil

LISTENING = re.compile(r"\blistening on (https?://\S+)")
PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
LINE_LIMIT = 1 << 20

OnLine = Callable[[str, str], None]


def _die_with_parent() -> None:
    """Runs in the child before exec: if `arriero up` is killed, the kernel kills the child too.

    SIGKILL, because a service that drains towards a Redis that is dying as well has nothing to gain: jobs are durable.
    """
    if _LIBC is not None:
        _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass(slots=True)
class Child:
    """A named process. `url` is set once its output says where it listens."""

    name: str
    argv: Sequence[str]
    environment: dict[str, str]
    on_line: OnLine
    process: asyncio.subprocess.Process | None = None
    url: str = ""
    born: float = 0.0
    last_lines: deque[str] = field(default_factory=lambda: deque(maxlen=15))
    _reader: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        return self.process.pid if self.process else 0

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.returncode is None

    async def start(self) -> None:
        self.url = ""
        self.process = await asyncio.create_subprocess_exec(
            *self.argv,
            env=self.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=LINE_LIMIT,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
        self.born = time.time()
        with contextlib.suppress(psutil.Error):
            self.born = psutil.Process(self.process.pid).create_time()
        self._reader = asyncio.create_task(self._read_output(self.process), name=f"output of {self.name}")

    async def ended(self) -> int:
        """Wait for the process; its exit status, negative for a signal."""
        assert self.process is not None
        return await self.process.wait()

    async def stop(self, grace_s: float) -> None:
        """SIGTERM, after `grace_s` SIGKILL for it and all its group. Stopping twice, or before the start, is fine."""
        if self.process is None:
            return
        if self.is_running:
            self._signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.process.wait(), grace_s)
        # Also when the leader went by itself: its own children must not outlive it.
        self.kill()
        await self.process.wait()
        if self._reader is not None:
            # A grandchild that holds the pipe open was killed with the group, so the end of output comes at once.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._reader, 0.5)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    async def _read_output(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while True:
            try:
                raw = await process.stdout.readline()
            except ValueError:
                # A line beyond the limit: its part in the buffer is dropped, the service must not block on a full pipe.
                continue
            if not raw:
                return
            line = raw.decode("utf-8", "replace").rstrip("\r\n")
            found = LISTENING.search(line)
            if found and not self.url:
                self.url = found[1]
            self.last_lines.append(line)
            self.on_line(self.name, line)


def describe_exit(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
