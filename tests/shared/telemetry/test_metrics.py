"""Names, units and bounds of the metrics."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.metrics import GatewayMetrics
from shared.telemetry.labels import OTHER, BoundedLabel
from shared.telemetry.metrics import Metrics
from worker.metrics import WorkerMetrics

UNITS = ("_seconds", "_bytes", "_total", "_ratio", "_info", "_per_second")
COUNTS = ("_loaded", "_jobs", "_in_flight", "_connections", "_open", "_workers", "_events", "_up", "_fds", "_state")


@pytest.mark.parametrize("metrics", [GatewayMetrics(), WorkerMetrics("w")], ids=["gateway", "worker"])
def test_every_metric_has_help_and_says_what_it_counts(metrics: Metrics) -> None:
    families = list(metrics.registry.collect())
    assert families
    for family in families:
        name = family.name + ("_total" if family.type == "counter" else "")
        assert family.documentation, name
        assert name.endswith((*UNITS, *COUNTS)), name


def test_two_processes_in_one_do_not_meet() -> None:
    first, second = WorkerMetrics("a"), WorkerMetrics("b")
    first.requests.labels("a", "m", "success").inc()
    assert b'worker_id="a"' not in second.render()


@pytest.mark.req("S1-22", "S1-23", "S1-24", "S1-25", "S1-26", "S1-27")
def test_the_workers_metrics_have_their_given_names() -> None:
    metrics = WorkerMetrics("w1")
    metrics.requests.labels("w1", "llama3.2", "success").inc()
    metrics.duration.labels("w1", "llama3.2").observe(4.9)
    metrics.models_loaded.labels("w1").set(2)
    metrics.memory_usage.labels("w1").set(1e6)
    families = {f.name: f for f in text_string_to_metric_families(metrics.render().decode())}
    assert families["llm_worker_uptime_seconds"].samples[0].labels == {"worker_id": "w1"}
    assert families["llm_worker_requests"].samples[0].name == "llm_worker_requests_total"
    buckets = {
        s.labels["le"]: s.value
        for s in families["llm_worker_request_duration_seconds"].samples
        if s.name.endswith("_bucket")
    }
    assert buckets["2.5"] == 0
    assert buckets["5.0"] == 1
    assert families["llm_worker_models_loaded"].samples[0].value == 2
    assert families["llm_worker_memory_usage_bytes"].samples[0].value == 1e6


def test_ten_thousand_names_are_not_ten_thousand_series() -> None:
    label = BoundedLabel(50, known=("llama3.2",))
    seen = {label(f"model-{index}") for index in range(10_000)}
    assert len(seen) == 50
    assert OTHER in seen
    assert label("llama3.2") == "llama3.2"
    assert label("a\nb") == label("") == label("x" * 500) == OTHER
