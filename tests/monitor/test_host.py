"""The host's figures: against what the system says, and within a container's limits."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from monitor.collect import cgroup
from monitor.collect.host import HostCollector, flow
from monitor.readings import FlowReading

GIB = 2**30


@pytest.mark.req("S1-51", "S1-52", "S1-54", "S1-55")
def test_figures_agree_with_the_system(tmp_path: Path) -> None:
    collector = HostCollector([str(tmp_path)], root=tmp_path)  # no cgroups there: the machine's own figures
    assert collector.read().cpu.used_ratio is None  # nothing to compare with yet
    (tmp_path / "work").write_bytes(os.urandom(1000))
    time.sleep(0.1)  # the system counts processor time in hundredths of a second
    with ThreadPoolExecutor(1) as another:  # readings take turns among threads
        seen = another.submit(collector.read).result()
    machine = psutil.virtual_memory()
    assert seen.memory.total_bytes == machine.total
    assert abs(seen.memory.used_bytes - (machine.total - machine.available)) < 2 * GIB
    assert seen.cpu.used_ratio is not None
    assert seen.cpu.cores == psutil.cpu_count() and 0 <= seen.cpu.used_ratio <= 1
    assert not seen.cpu.limited and not seen.memory.limited
    (disk,) = seen.disks
    assert disk.path == str(tmp_path) and 0 < disk.used_bytes < disk.total_bytes
    if (total := psutil.disk_io_counters()) is not None:
        assert seen.disk_io is not None and 0 < seen.disk_io.in_bytes <= total.read_bytes


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        HostCollector([str(tmp_path / "nowhere")]).read()


@pytest.mark.req("S1-54", "S1-55")
@pytest.mark.parametrize(
    ("before", "now", "seconds", "seen"),
    [
        (None, None, 1, None),
        (None, (10, 20), 1, FlowReading(in_bytes=10, out_bytes=20)),
        ((10, 20), (10, 20), 0, FlowReading(in_bytes=10, out_bytes=20)),
        ((10, 20), (110, 40), 2, FlowReading(in_bytes=110, out_bytes=40, in_bytes_per_s=50, out_bytes_per_s=10)),
        ((10, 20), (0, 40), 2, FlowReading(in_bytes=0, out_bytes=40, in_bytes_per_s=0, out_bytes_per_s=10)),
    ],
)
def test_rates(
    before: tuple[int, int] | None, now: tuple[int, int] | None, seconds: float, seen: FlowReading | None
) -> None:
    assert flow(before, now, seconds) == seen


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


V2 = {
    "proc/self/cgroup": "0::/pod/app\n",
    "sys/fs/cgroup/pod/app/cpu.max": "max 100000\n",
    "sys/fs/cgroup/pod/app/cpu.stat": "usage_usec 5000000\nuser_usec 1\n",
    "sys/fs/cgroup/pod/app/memory.max": "4294967296\n",
    "sys/fs/cgroup/pod/app/memory.current": "3221225472\n",
    "sys/fs/cgroup/pod/app/memory.stat": "anon 1\ninactive_file 1073741824\n",
    # The pod above it is tighter in processors, wider in memory.
    "sys/fs/cgroup/pod/cpu.max": "150000 100000\n",
    "sys/fs/cgroup/pod/cpu.stat": "usage_usec 7000000\n",
    "sys/fs/cgroup/pod/memory.max": "8589934592\n",
    "sys/fs/cgroup/pod/memory.current": "1\n",
    "sys/fs/cgroup/pod/memory.stat": "inactive_file 0\n",
}
V1 = {
    # The path is the machine's; in the container only the top of the tree is there.
    "proc/self/cgroup": "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n0::/\n",
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n",
    "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
    "sys/fs/cgroup/cpu/cpuacct.usage": "7000000000\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "4294967296\n",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": "3221225472\n",
    "sys/fs/cgroup/memory/memory.stat": "inactive_file 7\ntotal_inactive_file 1073741824\n",
}


@pytest.mark.req("S1-51", "S1-52")
@pytest.mark.parametrize(("files", "cores"), [(V2, 1.5), (V1, 0.5)], ids=["v2", "v1"])
def test_limits_of_a_container(files: dict[str, str], cores: float, tmp_path: Path) -> None:
    root = tree(tmp_path, files)
    assert cgroup.cpu_limit(root) == cgroup.CpuLimit(cores=cores, used_s=7.0)
    expected = cgroup.MemoryLimit(used_bytes=2 * GIB, limit_bytes=4 * GIB)
    assert cgroup.memory_limit(64 * GIB, root) == expected
    assert cgroup.memory_limit(2 * GIB, root) is None  # no limit at all on so small a machine


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"proc/self/cgroup": "0::/\n"},
        {**V2, "sys/fs/cgroup/pod/cpu.max": "max 100000\n", "sys/fs/cgroup/pod/app/memory.max": "max\n"},
        {
            **V1,
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        },
        {**V1, "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "?\n", "sys/fs/cgroup/memory/memory.stat": "nonsense\n"},
    ],
    ids=["no cgroups", "empty", "v2 without", "v1 without", "unreadable"],
)
def test_no_limit(files: dict[str, str], tmp_path: Path) -> None:
    root = tree(tmp_path, files)
    assert cgroup.cpu_limit(root) is None
    assert cgroup.memory_limit(8 * GIB, root) is None


@pytest.mark.req("S1-51", "S1-52")
def test_use_is_of_the_limit_not_of_the_machine(tmp_path: Path) -> None:
    machine = psutil.virtual_memory().total
    quarter = machine // 4
    root = tree(
        tmp_path,
        {
            **V2,
            "sys/fs/cgroup/pod/cpu.max": "max 100000\n",
            "sys/fs/cgroup/pod/app/cpu.max": "50000 100000\n",
            "sys/fs/cgroup/pod/memory.max": "max\n",
            "sys/fs/cgroup/pod/app/memory.max": f"{quarter}\n",
            "sys/fs/cgroup/pod/app/memory.current": f"{quarter // 2}\n",
            "sys/fs/cgroup/pod/app/memory.stat": "inactive_file 0\n",
        },
    )
    collector = HostCollector([str(tmp_path)], root=root)
    assert collector.read().cpu.used_ratio is None  # nothing to compare with yet
    tree(tmp_path, {"sys/fs/cgroup/pod/app/cpu.stat": "usage_usec 900000000\n"})
    seen = collector.read()
    assert seen.cpu.limited and seen.memory.limited
    assert (seen.cpu.cores, seen.cpu.used_ratio) == (0.5, 1.0)  # never more than all, however short the look
    assert seen.memory.used_ratio == pytest.approx(0.5, abs=1e-6)
