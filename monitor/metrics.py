"""The system monitor's metrics: one table, each row a name, its help and where in a snapshot its samples come from.

The page is made from one snapshot at a time, so that no scrape sees half of an old and half of a new one, and a GPU or
host that is gone leaves no last value behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client import Counter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from monitor.readings import HostReading, OllamaReading, QueueReading, Snapshot
from shared.resilience.breaker import BreakerState
from shared.telemetry.metrics import LATENCY_BUCKETS_S, Metrics
from shared.usage.figures import UNUSED, OperationUsage

BOUNDS = (*LATENCY_BUCKETS_S, "+Inf")
Counts = dict[tuple[str, str], OperationUsage]
Sample = tuple[tuple[str, ...], float | None]
"""Label values, and the value; None leaves the sample out."""


@dataclass(frozen=True, slots=True)
class Row:
    """One metric. `family` is its kind; a counter's name is given without `_total`."""

    name: str
    help: str
    read: Callable[[Snapshot], Iterable[Sample]]
    labels: tuple[str, ...] = ()
    family: type[GaugeMetricFamily] | type[CounterMetricFamily] = GaugeMetricFamily


def _host(read: Callable[[HostReading], Iterable[Sample]]) -> Callable[[Snapshot], Iterable[Sample]]:
    return lambda snapshot: () if snapshot.host is None else read(snapshot.host)


def _queue(read: Callable[[QueueReading], Iterable[Sample]]) -> Callable[[Snapshot], Iterable[Sample]]:
    return lambda snapshot: () if snapshot.queue is None else read(snapshot.queue)


def _one(value: float | None) -> Iterable[Sample]:
    return [((), value)]


def _by_host(value: Callable[[OllamaReading], float | None]) -> Callable[[Snapshot], Iterable[Sample]]:
    return lambda snapshot: [((host.host,), value(host)) for host in snapshot.ollama]


def _by_gpu(attribute: str) -> Callable[[Snapshot], Iterable[Sample]]:
    return lambda snapshot: [((str(gpu.index),), getattr(gpu, attribute)) for gpu in snapshot.gpus or ()]


def _disk_io(host: HostReading) -> Iterable[Sample]:
    flow = host.disk_io
    return () if flow is None else [(("read",), flow.in_bytes), (("write",), flow.out_bytes)]


def _network(host: HostReading) -> Iterable[Sample]:
    flow = host.network
    return () if flow is None else [(("received",), flow.in_bytes), (("sent",), flow.out_bytes)]


def _circuits_open(snapshot: Snapshot) -> Iterable[Sample]:
    circuits = snapshot.circuits
    return () if circuits is None else _one(sum(circuit.state is BreakerState.OPEN for circuit in circuits))


ROWS = (
    Row(
        "arriero_host_cpu_ratio",
        "Processor use, 0 to 1, of what this machine or container may use.",
        _host(lambda host: _one(host.cpu.used_ratio)),
    ),
    Row(
        "arriero_host_cpu_cores",
        "Processors this machine or container may use.",
        _host(lambda host: _one(host.cpu.cores)),
    ),
    Row(
        "arriero_host_load_average",
        "Processes that ran or wanted to, mean of the last minute.",
        _host(lambda host: _one(host.cpu.load_average_1m)),
    ),
    Row(
        "arriero_host_memory_used_bytes",
        "Memory in use, without what can be dropped at once.",
        _host(lambda host: _one(host.memory.used_bytes)),
    ),
    Row(
        "arriero_host_memory_total_bytes",
        "Memory this machine or container may use.",
        _host(lambda host: _one(host.memory.total_bytes)),
    ),
    Row("arriero_host_swap_used_bytes", "Swap in use.", _host(lambda host: _one(host.swap.used_bytes))),
    Row("arriero_host_swap_total_bytes", "Swap there is.", _host(lambda host: _one(host.swap.total_bytes))),
    Row(
        "arriero_host_disk_used_bytes",
        "Used on the file system that a watched path lies on.",
        _host(lambda host: [((disk.path,), disk.used_bytes) for disk in host.disks]),
        ("path",),
    ),
    Row(
        "arriero_host_disk_total_bytes",
        "Size of that file system, as ordinary users may fill it.",
        _host(lambda host: [((disk.path,), disk.total_bytes) for disk in host.disks]),
        ("path",),
    ),
    Row(
        "arriero_host_disk_io_bytes",
        "Bytes read from and written to disks since the machine started.",
        _host(_disk_io),
        ("direction",),
        CounterMetricFamily,
    ),
    Row(
        "arriero_host_network_bytes",
        "Bytes received and sent since the machine started, without the loopback.",
        _host(_network),
        ("direction",),
        CounterMetricFamily,
    ),
    Row("arriero_gpu_utilisation_ratio", "Time the GPU was computing, 0 to 1.", _by_gpu("used_ratio"), ("gpu",)),
    Row("arriero_gpu_memory_used_bytes", "GPU memory in use.", _by_gpu("memory_used_bytes"), ("gpu",)),
    Row("arriero_gpu_memory_total_bytes", "GPU memory there is.", _by_gpu("memory_total_bytes"), ("gpu",)),
    Row("arriero_gpu_temperature_celsius", "Temperature of the GPU.", _by_gpu("temperature_celsius"), ("gpu",)),
    Row("arriero_gpu_power_watts", "Power the GPU draws.", _by_gpu("power_watts"), ("gpu",)),
    Row(
        "arriero_redis_latency_seconds",
        "One round trip to Redis; absent while it does not answer.",
        lambda snapshot: _one(snapshot.redis_latency_s),
    ),
    Row(
        "arriero_monitor_redis_up",
        "1 while Redis answers, else 0.",
        lambda snapshot: _one(float(snapshot.redis_latency_s is not None)),
    ),
    Row(
        "arriero_ollama_host_up",
        "1 while the model server answers, else 0.",
        _by_host(lambda host: float(host.up)),
        ("host",),
    ),
    Row(
        "arriero_ollama_host_latency_seconds",
        "One request for the model server's version, there and back; absent while it does not answer.",
        _by_host(lambda host: host.latency_s),
        ("host",),
    ),
    Row(
        "arriero_monitor_queue_jobs",
        "Unfinished jobs by state.",
        _queue(lambda queue: [((str(state),), count) for state, count in queue.stats.states.items()]),
        ("state",),
    ),
    Row(
        "arriero_monitor_queue_depth",
        "Queued jobs by class.",
        _queue(lambda queue: [((str(name),), count) for name, count in queue.stats.queued_by_class.items()]),
        ("priority",),
    ),
    Row(
        "arriero_monitor_queue_oldest_wait_seconds",
        "Seconds the longest waiting job has waited.",
        _queue(lambda queue: _one(queue.stats.oldest_wait_s)),
    ),
    Row(
        "arriero_monitor_queue_drain_per_second",
        "Jobs ended a second while jobs waited; absent until it was measured.",
        _queue(lambda queue: _one(queue.stats.drain_per_s)),
    ),
    Row("arriero_monitor_workers", "Live workers.", _queue(lambda queue: _one(len(queue.stats.workers)))),
    Row(
        "arriero_monitor_worker_slots",
        "Jobs that all live workers together can run at a time.",
        _queue(lambda queue: _one(queue.slots)),
    ),
    Row(
        "arriero_monitor_worker_slots_busy",
        "Jobs that the workers say they are running.",
        _queue(lambda queue: _one(queue.running)),
    ),
    Row(
        "arriero_monitor_dead_letter_jobs",
        "Dead letters kept.",
        _queue(lambda queue: _one(queue.stats.dead_letters)),
    ),
    Row(
        "arriero_monitor_redis_memory_used_bytes",
        "Memory that Redis uses.",
        _queue(lambda queue: _one(queue.stats.redis_used_memory_bytes)),
    ),
    Row(
        "arriero_monitor_circuits_open",
        "Circuits that let no call through.",
        _circuits_open,
    ),
    Row(
        "arriero_monitor_sample_timestamp_seconds",
        "When the figures on this page were read, Unix time.",
        lambda snapshot: _one(snapshot.at),
    ),
)


class MonitorMetrics(Metrics):
    """The page. `show` gives it the newest snapshot, `show_alerts` what is firing."""

    def __init__(self, collectors: Iterable[str], alerts: Iterable[tuple[str, str]]) -> None:
        """`collectors`: their names. `alerts`: (alert, severity) of every rule; all of them always have a sample."""
        super().__init__()
        self._collectors = tuple(collectors)
        self._firing: Mapping[tuple[str, str], int] = dict.fromkeys(alerts, 0)
        self._snapshot: Snapshot | None = None
        self.registry.register(self)
        self.deliveries = Counter(
            "arriero_alert_deliveries_total",
            "Alert messages by how their delivery ended.",
            ["channel", "outcome"],
            registry=self.registry,
        )

    def show(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def show_alerts(self, firing: Iterable[tuple[str, str]]) -> None:
        """`firing`: (alert, severity) of each alert that fires now, one for each thing it fires for."""
        counts = dict.fromkeys(self._firing, 0)
        for key in firing:
            counts[key] += 1
        self._firing = counts

    def collect(self) -> Iterator[Metric]:
        snapshot, firing = self._snapshot, self._firing
        yield _family(
            GaugeMetricFamily,
            "arriero_alert_active",
            "Things this alert fires for now; 0 while all is well.",
            ("alert", "severity"),
            firing.items(),
        )
        if snapshot is None:
            return
        for row in ROWS:
            yield _family(row.family, row.name, row.help, row.labels, row.read(snapshot))
        yield _family(
            GaugeMetricFamily,
            "arriero_monitor_collector_up",
            "1 if this collector could read its part last time, else 0.",
            ("collector",),
            [((name,), float(name not in snapshot.errors)) for name in self._collectors],
        )
        yield from self._models(snapshot)

    def _models(self, snapshot: Snapshot) -> Iterator[Metric]:
        labels = ("model", "operation")
        requests = CounterMetricFamily(
            "arriero_model_requests", "Calls of models by the whole fleet, failed ones too.", labels=labels
        )
        failures = CounterMetricFamily("arriero_model_failures", "Those that failed.", labels=labels)
        faults = CounterMetricFamily(
            "arriero_model_faults", "Those that failed by a fault of the model or its host.", labels=labels
        )
        duration = HistogramMetricFamily(
            "arriero_model_duration_seconds", "Seconds from a call's start to its end.", labels=labels
        )
        # Models beyond the label's bound share one name, so their figures are added up first.
        sums: Counts = {}
        for usage in snapshot.usage:
            for operation, figures in usage.operations.items():
                key = self.model_label(usage.model), operation
                sums[key] = sums.get(key, UNUSED) + figures
        for key, figures in sums.items():
            requests.add_metric(key, figures.calls)
            failures.add_metric(key, figures.failed)
            faults.add_metric(key, figures.faulted)
            upto = accumulate(figures.latency.counts)
            buckets = [(str(bound), float(count)) for bound, count in zip(BOUNDS, upto, strict=True)]
            duration.add_metric(key, buckets, figures.seconds_total)
        yield from (requests, failures, faults, duration)


def _family(
    kind: type[GaugeMetricFamily] | type[CounterMetricFamily],
    name: str,
    text: str,
    labels: tuple[str, ...],
    samples: Iterable[Sample],
) -> Metric:
    family = kind(name, text, labels=labels)
    for values, value in samples:
        if value is not None:
            family.add_metric(values, value)
    return family
