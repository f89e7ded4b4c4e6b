"""The metrics page: what a snapshot becomes, and that every name is well formed."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from monitor.metrics import MonitorMetrics
from monitor.rules import rules
from monitor.sampler import COLLECTORS
from monitor.settings import MonitorSettings
from shared.telemetry.labels import OTHER
from shared.telemetry.metrics import MODEL_LABELS
from shared.usage.figures import Histogram, ModelUsage, OperationUsage
from tests.monitor.snapshots import gpu, model, ollama, queue, snapshot, worker

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def page(metrics: MonitorMetrics) -> Samples:
    found: Samples = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in found, f"{key} twice"
            found[key] = sample.value
    return found


def one(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, tuple(sorted(labels.items()))]


@pytest.fixture
def metrics() -> MonitorMetrics:
    return MonitorMetrics(COLLECTORS, [("cpu", "warning"), ("redis_down", "critical")])


def usage(name: str, host: str, calls: int) -> ModelUsage:
    latency = Histogram((*[0] * 7, calls, *[0] * 9), calls * 0.8)
    chat = OperationUsage(calls=calls, failures={"backend_timeout": 1}, latency=latency)
    return ModelUsage(model=name, host=host, operations={"chat": chat})


@pytest.mark.req("S1-51", "S1-52", "S1-53", "S1-54", "S1-55", "S1-58", "S1-60")
def test_a_full_page(metrics: MonitorMetrics) -> None:
    metrics.show(
        snapshot(
            gpus=[gpu(), gpu(1, used=None)],
            ollama=[ollama(), ollama("b:1", error="refused")],
            queue=queue(waiting=3, oldest_wait_s=7, workers=[worker(running=2)], drain_per_s=0.5, dead_letters=4),
            usage=[usage("llama3.2", "a:1", 10), usage("llama3.2", "b:1", 5)],
            models=[model()],
            errors={"host": "broken"},
        )
    )
    seen = page(metrics)
    assert one(seen, "arriero_host_cpu_ratio") == 0.1
    assert one(seen, "arriero_host_disk_used_bytes", path="/") == 300 * 2**30
    assert one(seen, "arriero_host_disk_io_bytes_total", direction="write") == 2000
    assert one(seen, "arriero_host_network_bytes_total", direction="received") == 3000
    assert one(seen, "arriero_gpu_utilisation_ratio", gpu="0") == 0.2
    assert ("arriero_gpu_utilisation_ratio", (("gpu", "1"),)) not in seen
    assert one(seen, "arriero_gpu_temperature_celsius", gpu="1") == 50
    assert one(seen, "arriero_ollama_host_up", host="b:1") == 0
    assert ("arriero_ollama_host_latency_seconds", (("host", "b:1"),)) not in seen
    assert one(seen, "arriero_redis_latency_seconds") == 0.001
    assert one(seen, "arriero_monitor_queue_depth", priority="normal") == 3
    assert one(seen, "arriero_monitor_worker_slots_busy") == 2
    assert one(seen, "arriero_monitor_collector_up", collector="host") == 0
    assert one(seen, "arriero_monitor_collector_up", collector="gpu") == 1
    labels = {"model": "llama3.2", "operation": "chat"}
    assert one(seen, "arriero_model_requests_total", **labels) == 15
    assert one(seen, "arriero_model_failures_total", **labels) == 2
    assert one(seen, "arriero_model_duration_seconds_sum", **labels) == pytest.approx(12)
    assert one(seen, "arriero_model_duration_seconds_bucket", le="0.5", **labels) == 0
    assert one(seen, "arriero_model_duration_seconds_bucket", le="1.0", **labels) == 15
    assert one(seen, "arriero_model_duration_seconds_bucket", le="+Inf", **labels) == 15


def test_what_could_not_be_read_is_absent_and_said(metrics: MonitorMetrics) -> None:
    full = snapshot(gpus=[gpu()])
    metrics.show(full)
    metrics.show(replace(full, gpus=None, queue=None, redis_latency_s=None, errors={"queue": "Redis does not answer"}))
    seen = page(metrics)
    assert one(seen, "arriero_monitor_redis_up") == 0
    assert one(seen, "arriero_monitor_collector_up", collector="queue") == 0
    assert not [name for name, _ in seen if "gpu_" in name or "queue_" in name or "redis_latency" in name]


@pytest.mark.req("S1-61")
def test_alerts_always_have_a_sample(metrics: MonitorMetrics) -> None:
    assert one(page(metrics), "arriero_alert_active", alert="cpu", severity="warning") == 0
    metrics.show_alerts([("cpu", "warning"), ("cpu", "warning")])
    assert one(page(metrics), "arriero_alert_active", alert="cpu", severity="warning") == 2
    metrics.show_alerts([])
    assert one(page(metrics), "arriero_alert_active", alert="cpu", severity="warning") == 0


def test_models_beyond_the_bound_are_counted_together(metrics: MonitorMetrics) -> None:
    metrics.show(snapshot(usage=[usage(f"m{index:04}", "a:1", 1) for index in range(MODEL_LABELS + 7)]))
    seen = page(metrics)
    assert one(seen, "arriero_model_requests_total", model=OTHER, operation="chat") == 7


def test_names_units_and_help() -> None:
    """What `promtool check metrics` asks for, where it is not installed."""
    metrics = MonitorMetrics(COLLECTORS, [(rule.name, str(rule.severity)) for rule in rules(MonitorSettings())])
    metrics.show(snapshot(gpus=[gpu()], usage=[usage("m", "a:1", 1)]))
    for family in metrics.registry.collect():
        assert family.documentation.endswith("."), family.name
        if family.name.startswith("process_"):
            continue
        assert re.fullmatch(r"arriero_[a-z][a-z_]*", family.name)
        assert not family.name.endswith(("_total", "_milliseconds", "_percent", "_kilobytes")), family.name
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter"), sample.name
