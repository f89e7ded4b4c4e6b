"""What processes hold: resident memory and open files; and whether that grows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import psutil

from tests.chaos.processes import Process, Processes

MIB = 1024 * 1024
PERIOD_S = 1.0


def rss_mib(process: Process) -> float:
    """Resident memory of a running process, MiB."""
    return float(psutil.Process(process.pid).memory_info().rss) / MIB


def open_files(process: Process) -> int:
    """File descriptors of a running process, sockets included."""
    return int(psutil.Process(process.pid).num_fds())


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Rise per second of the line through (s, value) points, by least squares; 0 for fewer than two instants."""
    if not points:
        return 0.0
    mean_at = sum(at for at, _ in points) / len(points)
    mean = sum(value for _, value in points) / len(points)
    spread = sum((at - mean_at) ** 2 for at, _ in points)
    return sum((at - mean_at) * (value - mean) for at, value in points) / spread if spread else 0.0


@dataclass(slots=True, eq=False)
class MemoryLog:
    """`async with MemoryLog(processes)`: resident memory of each process, `PERIOD_S` apart, while it lives."""

    processes: Processes
    period_s: float = PERIOD_S
    points: dict[Process, list[tuple[float, float]]] = field(default_factory=dict)
    """(loop time in s, MiB) of each."""
    _task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> MemoryLog:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _watch(self) -> None:
        while True:
            self.sample()
            await asyncio.sleep(self.period_s)

    def sample(self) -> None:
        """One point for each process that runs."""
        now = asyncio.get_running_loop().time()
        for process in self.processes.started:
            with suppress(psutil.Error):  # it may end at any moment
                if process.is_running:
                    self.points.setdefault(process, []).append((now, rss_mib(process)))

    def peak(self, process: Process) -> float:
        """Most that a process has held, MiB."""
        return max((mib for _, mib in self.points.get(process, [])), default=0.0)
