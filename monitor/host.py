"""This host's processor, memory, disk and network, as psutil sees them."""

from __future__ import annotations

import os
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSnapshot:
    """Percentages are 0 to 100; byte counts of the network are totals since boot."""

    cpu_percent: float
    """Since the last snapshot, over all cores; 0 in the very first."""
    cpu_count: int
    load_average_1m: float
    memory_total_bytes: int
    memory_available_bytes: int
    memory_percent: float
    swap_percent: float
    disk_free_bytes: int
    disk_percent: float
    network_sent_bytes: int
    network_received_bytes: int


def snapshot(disk_path: str = "/") -> HostSnapshot:
    """A few reads of /proc; takes well under a millisecond's worth of waiting."""
    memory, swap, disk = psutil.virtual_memory(), psutil.swap_memory(), psutil.disk_usage(disk_path)
    network = psutil.net_io_counters()
    return HostSnapshot(
        cpu_percent=psutil.cpu_percent(interval=None),
        cpu_count=os.cpu_count() or 1,
        load_average_1m=os.getloadavg()[0],
        memory_total_bytes=memory.total,
        memory_available_bytes=memory.available,
        memory_percent=memory.percent,
        swap_percent=swap.percent,
        disk_free_bytes=disk.free,
        disk_percent=disk.percent,
        # None in a container that has no network of its own.
        network_sent_bytes=network.bytes_sent if network else 0,
        network_received_bytes=network.bytes_recv if network else 0,
    )
