"""Processors, memory, disks and network of this machine, or of this container where it has limits of its own."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from monitor.collect import cgroup
from monitor.readings import CpuReading, DiskReading, FlowReading, HostReading, MemoryReading

LOOPBACK_PREFIX = "lo"


class Totals(NamedTuple):
    """What only ever grows, at a moment of the monotonic clock."""

    at: float
    cpu_s: tuple[float, float]
    """Of the machine's processors together: busy, and in all."""
    limited_cpu_s: float | None
    disk: tuple[int, int] | None
    network: tuple[int, int] | None


class HostCollector:
    """Reads by /proc and /sys; blocking, so call it in a thread. Not for two threads at once."""

    def __init__(self, disk_paths: Sequence[str], root: Path = Path("/")) -> None:
        """`root`: where proc and sys of the cgroups are looked for."""
        self._disk_paths = disk_paths
        self._root = root
        self._before: Totals | None = None

    def read(self) -> HostReading:
        """Raises OSError for a disk path that is not there."""
        quota = cgroup.cpu_limit(self._root)
        limited_cpu_s = None if quota is None else quota.used_s
        now = Totals(time.monotonic(), _cpu_seconds(), limited_cpu_s, _disk_bytes(), _network_bytes())
        before, self._before = self._before or now, now
        elapsed_s = now.at - before.at
        return HostReading(
            name=socket.gethostname(),
            cpu=_cpu(quota, before, now),
            memory=_memory(self._root),
            swap=_swap(),
            disks=[_disk(path) for path in self._disk_paths],
            disk_io=flow(before.disk, now.disk, elapsed_s),
            network=flow(before.network, now.network, elapsed_s),
        )


def flow(before: tuple[int, int] | None, now: tuple[int, int] | None, elapsed_s: float) -> FlowReading | None:
    """Totals and the rate between two (in, out) totals; a total that fell, as when a device is gone, is a rate of 0."""
    if now is None:
        return None
    if before is None or elapsed_s <= 0:
        return FlowReading(in_bytes=now[0], out_bytes=now[1])
    rates = [max(0, later - earlier) / elapsed_s for earlier, later in zip(before, now, strict=True)]
    return FlowReading(in_bytes=now[0], out_bytes=now[1], in_bytes_per_s=rates[0], out_bytes_per_s=rates[1])


def _cpu(quota: cgroup.CpuLimit | None, before: Totals, now: Totals) -> CpuReading:
    machine_cores = float(psutil.cpu_count() or 1)
    load = os.getloadavg()[0]
    if quota is None or quota.cores >= machine_cores:
        return CpuReading(used_ratio=_share(before.cpu_s, now.cpu_s), cores=machine_cores, load_average_1m=load)
    used_ratio = None
    if before.limited_cpu_s is not None and now.at > before.at:
        # A quota is given out in slices, so a short look can see a little more than all of it.
        used_ratio = min(1.0, (quota.used_s - before.limited_cpu_s) / (now.at - before.at) / quota.cores)
    return CpuReading(used_ratio=used_ratio, cores=quota.cores, load_average_1m=load, limited=True)


def _cpu_seconds() -> tuple[float, float]:
    """psutil's own percentage is kept by thread, and readings take turns among threads."""
    times = psutil.cpu_times()
    # Guests' time is in the users' already.
    all_s = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return all_s - times.idle - getattr(times, "iowait", 0.0), all_s


def _share(before: tuple[float, float], now: tuple[float, float]) -> float | None:
    """Of the time between two (busy, all) totals, the busy part; None where no time has passed."""
    busy_s, all_s = now[0] - before[0], now[1] - before[1]
    return min(1.0, max(0.0, busy_s / all_s)) if all_s > 0 else None


def _memory(root: Path) -> MemoryReading:
    machine = psutil.virtual_memory()
    limit = cgroup.memory_limit(machine.total, root)
    if limit is not None:
        return MemoryReading(used_bytes=limit.used_bytes, total_bytes=limit.limit_bytes, limited=True)
    return MemoryReading(used_bytes=machine.total - machine.available, total_bytes=machine.total)


def _swap() -> MemoryReading:
    swap = psutil.swap_memory()
    return MemoryReading(used_bytes=swap.used, total_bytes=swap.total)


def _disk(path: str) -> DiskReading:
    usage = psutil.disk_usage(path)
    # `total` also counts the blocks kept for root, which nobody else can fill.
    return DiskReading(path=path, used_bytes=usage.used, total_bytes=usage.used + usage.free)


def _disk_bytes() -> tuple[int, int] | None:
    total = psutil.disk_io_counters()
    return None if total is None else (total.read_bytes, total.write_bytes)


def _network_bytes() -> tuple[int, int] | None:
    interfaces = psutil.net_io_counters(pernic=True)
    counted = [nic for name, nic in interfaces.items() if not name.startswith(LOOPBACK_PREFIX)]
    return (sum(nic.bytes_recv for nic in counted), sum(nic.bytes_sent for nic in counted)) if counted else None
