"""Readings for tests: everything is well unless a test says otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from monitor.alerts import Place, Rule, Severity
from monitor.readings import (
    CpuReading,
    DiskReading,
    FlowReading,
    GpuReading,
    HostReading,
    MemoryReading,
    ModelReading,
    OllamaReading,
    QueueReading,
    Snapshot,
)
from shared.queue.stats import QueueStats, WorkerInfo
from shared.usage.figures import BUCKETS, Histogram, OperationUsage, bucket_of

NOW = 1_700_000_000.0
GIB = 2**30


def host(*, cpu: float = 0.1, memory: float = 0.2, disk: float = 0.3, swap_bytes: int = 0) -> HostReading:
    return HostReading(
        name="box",
        cpu=CpuReading(used_ratio=cpu, cores=8, load_average_1m=1.5),
        memory=MemoryReading(used_bytes=int(memory * 100 * GIB), total_bytes=100 * GIB),
        swap=MemoryReading(used_bytes=swap_bytes, total_bytes=8 * GIB),
        disks=[DiskReading(path="/", used_bytes=int(disk * 1000 * GIB), total_bytes=1000 * GIB)],
        disk_io=FlowReading(in_bytes=1000, out_bytes=2000, in_bytes_per_s=10.0, out_bytes_per_s=20.0),
        network=FlowReading(in_bytes=3000, out_bytes=4000, in_bytes_per_s=30.0, out_bytes_per_s=40.0),
    )


def gpu(index: int = 0, *, used: float | None = 0.2, memory: float = 0.5, celsius: float = 50.0) -> GpuReading:
    return GpuReading(
        index=index,
        name="Stub GPU",
        used_ratio=used,
        memory_used_bytes=int(memory * 80 * GIB),
        memory_total_bytes=80 * GIB,
        temperature_celsius=celsius,
        power_watts=100.0,
    )


def worker(running: int = 0, slots: int = 4) -> WorkerInfo:
    return WorkerInfo(id="w1", host="box", pid=1, slots=slots, running=running, seen_s_ago=1.0, version="1")


def queue(
    *,
    waiting: int = 0,
    oldest_wait_s: float = 0.0,
    workers: Sequence[WorkerInfo] = (worker(),),
    ended: Mapping[str, int] | None = None,
    unfinished: Mapping[str, int] | None = None,
    redis_limit_bytes: int = 0,
    eviction_policy: str = "noeviction",
    **stats: Any,
) -> QueueReading:
    figures = QueueStats(
        states={"queued": waiting, "running": 0, "scheduled": 0},
        queued_by_class={"high": 0, "normal": waiting, "low": 0},
        oldest_wait_s=oldest_wait_s,
        counters={},
        workers=list(workers),
        **{"durability": "aof-everysec", **stats},
    )
    return QueueReading(
        stats=figures,
        window_s=60.0,
        ended=ended or {},
        unfinished_by_model=unfinished or {},
        redis_limit_bytes=redis_limit_bytes,
        eviction_policy=eviction_policy,
    )


def model(
    name: str = "llama3.2",
    operation: str = "chat",
    *,
    calls: int = 100,
    failures: Mapping[str, int] | None = None,
    seconds: float = 0.9,
    window_s: float = 60.0,
) -> ModelReading:
    """Every call took `seconds`."""
    counts = [0] * BUCKETS
    counts[bucket_of(seconds)] = calls
    usage = OperationUsage(calls=calls, failures=failures or {}, latency=Histogram(tuple(counts), calls * seconds))
    return ModelReading(model=name, operation=operation, window_s=window_s, usage=usage)


def ollama(
    name: str = "127.0.0.1:11434", *, error: str = "", models: Sequence[str] = ("llama3.2:latest",)
) -> OllamaReading:
    latency_s = None if error else 0.002
    return OllamaReading(host=name, latency_s=latency_s, version="0.9", models=frozenset(models), error=error)


def snapshot(**parts: Any) -> Snapshot:
    well: dict[str, Any] = {
        "at": NOW,
        "host": host(),
        "redis_latency_s": 0.001,
        "ollama": [ollama()],
        "queue": queue(),
        "circuits": [],
        "models": [],
    }
    return Snapshot(**{**well, **parts})


def rule(**changes: Any) -> Rule:
    """Fires from 80 on for 10 s, ends below 72 for 10 s."""
    fields: dict[str, Any] = {
        "name": "load",
        "metric": "m",
        "source": "host",
        "threshold": 80.0,
        "clear_at": 72.0,
        "for_s": 10.0,
        "clear_for_s": 10.0,
        "severity": Severity.WARNING,
        "place": Place.HOST,
        "summary": "{about} is at {value}, threshold {threshold}",
    }
    return Rule(**{**fields, **changes})
