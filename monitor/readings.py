"""What the monitor knows at one moment. Every reading is frozen; ratios are 0 to 1, times Unix seconds.

A part that could not be read is None (or empty), and `Snapshot.errors` says why under the collector's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from shared.queue.stats import QueueStats
from shared.resilience.circuits import CircuitView
from shared.usage.figures import ModelUsage, OperationUsage


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuReading:
    """Use of the processors since the reading before."""

    used_ratio: float | None
    """Of `cores`: 1 is everything there is. None in the very first reading, which has nothing to compare with."""
    cores: float
    """Processors that may be used; a container's quota can be a fraction."""
    load_average_1m: float
    limited: bool = False
    """The figures are this container's, against its own quota, not the machine's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryReading:
    """Memory that cannot be had again at once; caches that can be dropped do not count."""

    used_bytes: int
    total_bytes: int
    limited: bool = False
    """As for the processors."""

    @property
    def used_ratio(self) -> float:
        return _ratio(self.used_bytes, self.total_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskReading:
    """The file system that `path` lies on. `total_bytes` is what ordinary users may fill."""

    path: str
    used_bytes: int
    total_bytes: int

    @property
    def used_ratio(self) -> float:
        return _ratio(self.used_bytes, self.total_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowReading:
    """Bytes in both directions: totals since the machine started, and the rate since the reading before."""

    in_bytes: int
    """Read from disks, or received."""
    out_bytes: int
    """Written to disks, or sent."""
    in_bytes_per_s: float = 0.0
    out_bytes_per_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HostReading:
    """The machine, or container, that the monitor runs on."""

    name: str
    cpu: CpuReading
    memory: MemoryReading
    swap: MemoryReading
    disks: Sequence[DiskReading]
    disk_io: FlowReading | None
    """None where the system does not tell."""
    network: FlowReading | None
    """All interfaces but the loopback."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuReading:
    """One GPU. None: this card, or its present mode, does not tell."""

    index: int
    name: str
    used_ratio: float | None
    """Share of the last sampling period in which it was computing."""
    memory_used_bytes: int | None
    memory_total_bytes: int | None
    temperature_celsius: float | None
    power_watts: float | None

    @property
    def memory_ratio(self) -> float | None:
        if self.memory_used_bytes is None or self.memory_total_bytes is None:
            return None
        return _ratio(self.memory_used_bytes, self.memory_total_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class OllamaReading:
    """One model server. `error` is empty when it answered."""

    host: str
    latency_s: float | None = None
    """One request for its version, there and back."""
    version: str = ""
    models: frozenset[str] = frozenset()
    """Installed, with their tags."""
    error: str = ""

    @property
    def up(self) -> bool:
        return not self.error


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueReading:
    """The queue now, and what ended in it within the last `window_s`."""

    stats: QueueStats
    window_s: float = 0.0
    """0 in the first reading, which has nothing to compare with."""
    ended: Mapping[str, int] = field(default_factory=dict)
    """Jobs that ended within the window, by their last state."""
    unfinished_by_model: Mapping[str, int] = field(default_factory=dict)
    redis_limit_bytes: int = 0
    """Redis' `maxmemory`; 0: none."""
    eviction_policy: str = "noeviction"
    """Redis' `maxmemory-policy`."""

    @property
    def redis_memory_ratio(self) -> float | None:
        """Share of `maxmemory` in use; None without a limit."""
        used_bytes = self.stats.redis_used_memory_bytes
        return _ratio(used_bytes, self.redis_limit_bytes) if self.redis_limit_bytes else None

    @property
    def waiting(self) -> int:
        """Queued jobs of all classes."""
        return sum(self.stats.queued_by_class.values())

    @property
    def slots(self) -> int:
        """Jobs that all live workers together can run at a time."""
        return sum(worker.slots for worker in self.stats.workers)

    @property
    def running(self) -> int:
        """Jobs that they say they are running."""
        return sum(worker.running for worker in self.stats.workers)

    @property
    def ended_per_min(self) -> float | None:
        return sum(self.ended.values()) * 60 / self.window_s if self.window_s else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReading:
    """One operation with one model, over all hosts, within `window_s`."""

    model: str
    operation: str
    window_s: float
    usage: OperationUsage

    @property
    def requests_per_min(self) -> float:
        return self.usage.calls * 60 / self.window_s

    @property
    def error_ratio(self) -> float:
        """Share of the calls that failed by a fault of the model or its host."""
        return _ratio(self.usage.faulted, self.usage.calls)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything, as read at `at`."""

    at: float
    host: HostReading | None = None
    gpus: Sequence[GpuReading] | None = None
    """None: no NVIDIA driver here."""
    redis_latency_s: float | None = None
    """None: Redis did not answer."""
    ollama: Sequence[OllamaReading] = ()
    queue: QueueReading | None = None
    circuits: Sequence[CircuitView] | None = None
    """Those that are open, or were of late."""
    models: Sequence[ModelReading] | None = None
    loading_ratio: float | None = None
    """Share of the time of all calls within the window that went into loading models; None without calls."""
    usage: Sequence[ModelUsage] = ()
    """What the fleet did with each model on each host, in all."""
    errors: Mapping[str, str] = field(default_factory=dict)
    """Collector -> what went wrong."""


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
