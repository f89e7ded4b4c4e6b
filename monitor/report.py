"""The health report: a verdict, what was read, what fires, what could be tuned; as JSON fields or as text. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from monitor.advice import Advice
from monitor.alerts import Alert, AlertState, Severity
from monitor.deliver.message import alert_fields, rfc3339
from monitor.readings import FlowReading, GpuReading, HostReading, ModelReading, QueueReading, Snapshot
from shared.plurals import counted

GIB = 2**30
MIB = 2**20


class Verdict(StrEnum):
    OK = "ok"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """`alerts` are those that are pending or firing."""

    monitor: str
    snapshot: Snapshot
    alerts: Sequence[Alert]
    advice: Sequence[Advice]

    @property
    def verdict(self) -> Verdict:
        """Critical: Redis is away now, or a critical alert fires. Warning: another fires, or something is unknown or
        down now."""
        firing = {alert.rule.severity for alert in self.alerts if alert.state is AlertState.FIRING}
        snapshot = self.snapshot
        if Severity.CRITICAL in firing or snapshot.redis_latency_s is None:
            return Verdict.CRITICAL
        if firing or snapshot.errors or not all(host.up for host in snapshot.ollama):
            return Verdict.WARNING
        return Verdict.OK


def readings(snapshot: Snapshot) -> dict[str, Any]:
    """A snapshot as JSON fields; ratios 0 to 1, null where nothing could be read."""
    redis_up = snapshot.redis_latency_s is not None
    return {
        "timestamp": rfc3339(snapshot.at),
        "host": None if snapshot.host is None else _host(snapshot.host),
        "gpu": None if snapshot.gpus is None else [_gpu(gpu) for gpu in snapshot.gpus],
        "redis": {"up": redis_up, "latency_s": snapshot.redis_latency_s},
        "ollama": [{**asdict(host), "up": host.up, "models": sorted(host.models)} for host in snapshot.ollama],
        "queue": None if snapshot.queue is None else _queue(snapshot.queue),
        "circuits": None if snapshot.circuits is None else [asdict(circuit) for circuit in snapshot.circuits],
        "models": None if snapshot.models is None else [_model(model) for model in snapshot.models],
        "loading_ratio": snapshot.loading_ratio,
        "errors": dict(snapshot.errors),
    }


def report_fields(report: Report) -> dict[str, Any]:
    return {
        "verdict": report.verdict,
        "monitor": report.monitor,
        **readings(report.snapshot),
        "alerts": [alert_fields(alert) for alert in report.alerts],
        "advice": [asdict(advice) for advice in report.advice],
    }


def _host(host: HostReading) -> dict[str, Any]:
    return {
        **asdict(host),
        "memory": {**asdict(host.memory), "used_ratio": host.memory.used_ratio},
        "swap": {**asdict(host.swap), "used_ratio": host.swap.used_ratio},
        "disks": [{**asdict(disk), "used_ratio": disk.used_ratio} for disk in host.disks],
    }


def _gpu(gpu: GpuReading) -> dict[str, Any]:
    return {**asdict(gpu), "memory_ratio": gpu.memory_ratio}


def _queue(queue: QueueReading) -> dict[str, Any]:
    return {
        **asdict(queue.stats),
        "waiting": queue.waiting,
        "slots": queue.slots,
        "slots_busy": queue.running,
        "window_s": queue.window_s,
        "ended": dict(queue.ended),
        "ended_per_min": queue.ended_per_min,
        "unfinished_by_model": dict(queue.unfinished_by_model),
        "redis_limit_bytes": queue.redis_limit_bytes,
        "redis_memory_ratio": queue.redis_memory_ratio,
        "eviction_policy": queue.eviction_policy,
    }


def _model(model: ModelReading) -> dict[str, Any]:
    usage, latency = model.usage, model.usage.latency
    return {
        "model": model.model,
        "operation": model.operation,
        "window_s": model.window_s,
        "requests": usage.calls,
        "requests_per_min": model.requests_per_min,
        "failures": usage.failed,
        "failures_by_code": dict(usage.failures),
        "faults": usage.faulted,
        "error_ratio": model.error_ratio,
        "mean_s": latency.mean_s,
        "p50_s": latency.percentile_s(0.5),
        "p95_s": latency.percentile_s(0.95),
        "p99_s": latency.percentile_s(0.99),
        "first_token_p95_s": usage.first_token.percentile_s(0.95),
        "tokens_in": usage.tokens_in,
        "tokens_out": usage.tokens_out,
    }


def as_text(report: Report) -> str:
    """For people: a screenful of short lines."""
    snapshot = report.snapshot
    lines = [f"{report.verdict.upper()}  {report.monitor}  {rfc3339(snapshot.at)}", ""]
    lines += [f"{name:<10}{text}" for name, text in _lines(snapshot)]
    lines += ["", "Alerts", *(_indented(_alert_line(alert) for alert in report.alerts) or ["  none"])]
    lines += ["", "Advice", *(_indented(advice.text for advice in report.advice) or ["  none"])]
    return "\n".join(lines) + "\n"


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def _alert_line(alert: Alert) -> str:
    return f"{alert.state} {alert.rule.severity} {alert.rule.name}: {alert.summary}, since {rfc3339(alert.since)}"


def _lines(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    if snapshot.host is not None:
        yield from _host_lines(snapshot.host)
    for gpu in snapshot.gpus or ():
        yield f"GPU {gpu.index}", _gpu_line(gpu)
    if snapshot.gpus is None and "gpu" not in snapshot.errors:
        yield "GPU", "none"
    if snapshot.redis_latency_s is not None:
        yield "Redis", f"{snapshot.redis_latency_s * 1000:.1f} ms"
    for host in snapshot.ollama:
        models = counted(len(host.models), "model")
        latency = "" if host.latency_s is None else f"{host.latency_s * 1000:.1f} ms, {models}"
        yield "Ollama", f"{host.host}: {host.error or latency}"
    if not snapshot.ollama and "ollama" not in snapshot.errors:
        yield "Ollama", "none"
    if snapshot.queue is not None:
        yield "Queue", _queue_line(snapshot.queue)
    for circuit in snapshot.circuits or ():
        yield "Circuit", f"{circuit.name} {circuit.state}"
    for model in snapshot.models or ():
        yield "Model", _model_line(model)
    for name, error in sorted(snapshot.errors.items()):
        yield "Unknown", f"{name}: {error}"


def _host_lines(host: HostReading) -> Iterator[tuple[str, str]]:
    used = "unknown yet" if host.cpu.used_ratio is None else f"{host.cpu.used_ratio:.0%}"
    yield "Processor", f"{used} of {host.cpu.cores:g} cores, load {host.cpu.load_average_1m:.2f}"
    yield "Memory", f"{host.memory.used_ratio:.0%} of {host.memory.total_bytes / GIB:.1f} GiB"
    if host.swap.total_bytes:
        yield "Swap", f"{host.swap.used_ratio:.0%} of {host.swap.total_bytes / GIB:.1f} GiB"
    for disk in host.disks:
        yield "Disk", f"{disk.path} {disk.used_ratio:.0%} of {disk.total_bytes / GIB:.1f} GiB"
    if host.disk_io is not None:
        yield "Disk I/O", _flow(host.disk_io, "read", "written")
    if host.network is not None:
        yield "Network", _flow(host.network, "in", "out")


def _flow(flow: FlowReading, inward: str, outward: str) -> str:
    return f"{flow.in_bytes_per_s / MIB:.2f} MiB/s {inward}, {flow.out_bytes_per_s / MIB:.2f} MiB/s {outward}"


def _gpu_line(gpu: GpuReading) -> str:
    parts = [gpu.name]
    if gpu.used_ratio is not None:
        parts.append(f"{gpu.used_ratio:.0%} in use")
    if gpu.memory_ratio is not None and gpu.memory_total_bytes is not None:
        parts.append(f"memory {gpu.memory_ratio:.0%} of {gpu.memory_total_bytes / GIB:.1f} GiB")
    if gpu.temperature_celsius is not None:
        parts.append(f"{gpu.temperature_celsius:.0f} °C")
    if gpu.power_watts is not None:
        parts.append(f"{gpu.power_watts:.0f} W")
    return ", ".join(parts)


def _queue_line(queue: QueueReading) -> str:
    rate = "" if queue.ended_per_min is None else f", {queue.ended_per_min:.0f} ended a minute"
    return (
        f"{queue.waiting} waiting (oldest {queue.stats.oldest_wait_s:.1f} s), {queue.running} of {queue.slots} slots "
        f"busy on {counted(len(queue.stats.workers), 'worker')}{rate}, "
        f"{counted(queue.stats.dead_letters, 'dead letter')}"
    )


def _model_line(model: ModelReading) -> str:
    p95_s = model.usage.latency.percentile_s(0.95) or 0.0
    return (
        f"{model.operation} {model.model}: {model.requests_per_min:.1f} a minute, p95 {p95_s:.2f} s, "
        f"{model.error_ratio:.1%} failed"
    )
