"""The limits of the container we run in, from cgroup v1 or v2: without them a memory alarm in a container lies.

A limit further up the tree holds too, so the tightest one from our own group to the root counts. The groups' files are
plain text; anything unreadable means "no limit".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuLimit:
    """`used_s`: processor seconds that the limited group has used in all."""

    cores: float
    used_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryLimit:
    used_bytes: int
    """Without file pages that were not used of late: the kernel drops those before it runs out."""
    limit_bytes: int


def cpu_limit(root: Path = Path("/")) -> CpuLimit | None:
    """The quota that binds us; None without one."""
    found = _each(root, "cpu", _cpu_v1, _cpu_v2)
    return min(found, key=lambda limit: limit.cores, default=None)


def memory_limit(machine_bytes: int, root: Path = Path("/")) -> MemoryLimit | None:
    """The limit that binds us; None without one below the machine's own memory."""
    found = _each(root, "memory", _memory_v1, _memory_v2)
    real = (limit for limit in found if limit.limit_bytes < machine_bytes)
    return min(real, key=lambda limit: limit.limit_bytes, default=None)


def _each(root: Path, controller: str, v1: Callable[[Path], T | None], v2: Callable[[Path], T | None]) -> Iterator[T]:
    for folder, read in _folders(root, controller, v1, v2):
        try:
            limit = read(folder)
        except (OSError, ValueError, KeyError, IndexError):
            continue
        if limit is not None:
            yield limit


def _folders(
    root: Path, controller: str, v1: Callable[[Path], T | None], v2: Callable[[Path], T | None]
) -> Iterator[tuple[Path, Callable[[Path], T | None]]]:
    """Our group's folder and all above it, with the reader for its version."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    mount = root / "sys/fs/cgroup"
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            top, read = mount, v2
        elif controller in controllers.split(","):
            top, read = mount / controller, v1
        else:
            continue
        folder = top / path.lstrip("/")
        while folder != top:
            yield folder, read
            folder = folder.parent
        yield top, read


def _cpu_v2(folder: Path) -> CpuLimit | None:
    quota, period = (folder / "cpu.max").read_text().split()
    if quota == "max":
        return None
    return CpuLimit(cores=int(quota) / int(period), used_s=_fields(folder / "cpu.stat")["usage_usec"] / 1e6)


def _cpu_v1(folder: Path) -> CpuLimit | None:
    quota = int((folder / "cpu.cfs_quota_us").read_text())
    if quota <= 0:
        return None
    period = int((folder / "cpu.cfs_period_us").read_text())
    used_ns = int((folder / "cpuacct.usage").read_text())
    return CpuLimit(cores=quota / period, used_s=used_ns / 1e9)


def _memory_v2(folder: Path) -> MemoryLimit | None:
    limit = (folder / "memory.max").read_text().strip()
    if limit == "max":
        return None
    used = int((folder / "memory.current").read_text())
    idle = _fields(folder / "memory.stat").get("inactive_file", 0)
    return MemoryLimit(used_bytes=max(0, used - idle), limit_bytes=int(limit))


def _memory_v1(folder: Path) -> MemoryLimit | None:
    # Without a limit this file holds a number near 2^63, larger than any machine.
    limit = int((folder / "memory.limit_in_bytes").read_text())
    used = int((folder / "memory.usage_in_bytes").read_text())
    idle = _fields(folder / "memory.stat").get("total_inactive_file", 0)
    return MemoryLimit(used_bytes=max(0, used - idle), limit_bytes=limit)


def _fields(file: Path) -> dict[str, int]:
    return {name: int(value) for name, value in (line.split() for line in file.read_text().splitlines())}
