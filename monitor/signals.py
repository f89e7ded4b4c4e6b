"""A snapshot as numbers with names: what the history keeps and the alert rules look at. Pure.

A signal is a metric and what it is about: `disk_ratio` of `/`, `model_p95_s` of `chat:llama3.2`; nothing where there is
only one. What could not be read has no signal, which is not the same as 0. Conditions are 1 while they hold, else 0; a
half-open circuit is between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from monitor.readings import FlowReading, HostReading, ModelReading, QueueReading, Snapshot
from shared.jobs import State
from shared.model_names import same
from shared.queue.lines import HOME, service_in
from shared.resilience.breaker import BreakerState

Signal = tuple[str, str]
"""(metric, what it is about)."""
Signals = Mapping[Signal, float]
Found = Iterable[tuple[str, str, float | None]]
LEAST_FAULTS = 3
"""With fewer of them a share of failures is chance: it counts as 0."""
CIRCUIT_STATES = {BreakerState.CLOSED: 0.0, BreakerState.HALF_OPEN: 0.5, BreakerState.OPEN: 1.0}


def signals(snapshot: Snapshot, *, min_calls: int) -> Signals:
    """All signals of a snapshot. `min_calls`: with fewer calls a model's times and failures say nothing."""
    found: dict[Signal, float] = {}
    for part in _PARTS:
        found.update({(metric, about): value for metric, about, value in part(snapshot) if value is not None})
    for model in snapshot.models or ():
        found.update({(metric, about): value for metric, about, value in _model(model, min_calls) if value is not None})
    return found


def _host(snapshot: Snapshot) -> Found:
    host = snapshot.host
    if host is None:
        return
    yield "cpu_ratio", "", host.cpu.used_ratio
    yield "load_average", "", host.cpu.load_average_1m
    yield "memory_ratio", "", host.memory.used_ratio
    yield "swap_bytes", "", host.swap.used_bytes
    for disk in host.disks:
        yield "disk_ratio", disk.path, disk.used_ratio
    yield from _flows(host)


def _flows(host: HostReading) -> Found:
    flows: dict[str, FlowReading | None] = {"disk": host.disk_io, "network": host.network}
    for name, flow in flows.items():
        if flow is not None:
            yield f"{name}_in_bytes_per_s", "", flow.in_bytes_per_s
            yield f"{name}_out_bytes_per_s", "", flow.out_bytes_per_s


def _gpus(snapshot: Snapshot) -> Found:
    for gpu in snapshot.gpus or ():
        about = str(gpu.index)
        yield "gpu_ratio", about, gpu.used_ratio
        yield "gpu_memory_ratio", about, gpu.memory_ratio
        yield "gpu_temperature_celsius", about, gpu.temperature_celsius
        yield "gpu_power_watts", about, gpu.power_watts


def _redis(snapshot: Snapshot) -> Found:
    yield "redis_latency_s", "", snapshot.redis_latency_s
    yield "redis_down", "", float(snapshot.redis_latency_s is None)


def _ollama(snapshot: Snapshot) -> Found:
    for host in snapshot.ollama:
        yield "ollama_latency_s", host.host, host.latency_s
        yield "ollama_host_down", host.host, float(not host.up)
    if snapshot.ollama:
        yield "ollama_all_down", "", float(not any(host.up for host in snapshot.ollama))


def _queue(snapshot: Snapshot) -> Found:
    queue = snapshot.queue
    if queue is None:
        return
    yield "queue_waiting", "", queue.waiting
    yield "queue_oldest_wait_s", "", queue.stats.oldest_wait_s
    yield "queue_drain_per_s", "", queue.stats.drain_per_s
    yield "queue_ended_per_min", "", queue.ended_per_min
    yield "workers", "", len(queue.stats.workers)
    yield "workers_gone", "", float(not queue.stats.workers)
    yield "slots_busy_ratio", "", queue.running / queue.slots if queue.slots else None
    yield "redis_memory_ratio", "", queue.redis_memory_ratio
    yield "dead_letters", "", queue.stats.dead_letters
    yield "dead_letters_new", "", queue.ended.get(State.DEAD_LETTERED)
    yield from _missing_models(snapshot, queue)


def _missing_models(snapshot: Snapshot, queue: QueueReading) -> Found:
    if not snapshot.ollama or not all(host.up for host in snapshot.ollama):
        return  # the one that is away may have it, and where none is watched another service
    installed = {same(name) for host in snapshot.ollama for name in host.models}
    for model, jobs in queue.unfinished_by_model.items():
        if jobs > 0 and service_in(model) == HOME:
            yield "model_missing", model, float(same(model) not in installed)


def _circuits(snapshot: Snapshot) -> Found:
    for circuit in snapshot.circuits or ():
        yield "circuit_open", circuit.name, CIRCUIT_STATES[circuit.state]


def _model(model: ModelReading, min_calls: int) -> Found:
    about = f"{model.operation}:{model.model}"
    yield "model_requests_per_min", about, model.requests_per_min
    if model.usage.calls >= min_calls:
        yield "model_p95_s", about, model.usage.latency.percentile_s(0.95)
        yield "model_error_ratio", about, model.error_ratio if model.usage.faulted >= LEAST_FAULTS else 0.0


_PARTS: tuple[Callable[[Snapshot], Found], ...] = (_host, _gpus, _redis, _ollama, _queue, _circuits)
METRICS = (
    "cpu_ratio", "load_average", "memory_ratio", "swap_bytes", "disk_ratio", "disk_in_bytes_per_s",
    "disk_out_bytes_per_s", "network_in_bytes_per_s", "network_out_bytes_per_s", "gpu_ratio", "gpu_memory_ratio",
    "gpu_temperature_celsius", "gpu_power_watts", "redis_latency_s", "redis_down", "redis_memory_ratio",
    "ollama_latency_s", "ollama_host_down", "ollama_all_down", "queue_waiting", "queue_oldest_wait_s",
    "queue_drain_per_s", "queue_ended_per_min", "workers", "workers_gone", "slots_busy_ratio", "dead_letters",
    "dead_letters_new", "model_missing", "circuit_open", "model_requests_per_min", "model_p95_s", "model_error_ratio",
)  # fmt: skip
"""Every metric there can be."""
