"""Names, units and bounds of the metrics."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.metrics import EVENTS
from shared.jobs import MOVES, State
from shared.telemetry.labels import OTHER, BoundedLabel
from tests.house.requirements import ROOT
from tests.infra.declared_metrics import PROCESS, Declared, countable, declared, labels, sample_names
from tests.infra.prometheus_files import recorded
from worker.metrics import WorkerMetrics

UNITS = ("_seconds", "_bytes", "_total", "_ratio", "_celsius", "_watts", "_per_second")
COUNTS = (
    *("_loaded", "_jobs", "_in_flight", "_connections", "_open", "_workers", "_up", "_fds", "_state", "_active"),
    *("_installed", "_leader", "_score", "_cores", "_depth", "_slots", "_busy", "_average"),
)
"""What is counted has no unit; its name says what it is."""
REQUIRED = (
    *("llm_worker_uptime_seconds", "llm_worker_requests_total", "llm_worker_request_duration_seconds"),
    *("llm_worker_models_loaded", "llm_worker_memory_usage_bytes", "llm_worker_circuit_breaker_state"),
)
CLOSED = {
    "route": "the paths of gateway.app.ROUTES",
    "method": "of a request that a route takes, else `none`",
    "status": "HTTP's, or how a run ended",
    "kind": "shared.jobs.Kind",
    "priority": "shared.jobs.Priority",
    "outcome": "the code's own words",
    "state": "shared.jobs.State, or a circuit's",
    "to": "a circuit's states",
    "event": "gateway.metrics.EVENTS",
    "direction": "in or out, by the code's own words",
    "step": "host, model, cache",
    "operation": "shared.jobs.Kind",
    "op": "of shared.wire.operations",
    "alert": "monitor.rules",
    "severity": "monitor.alerts.Severity",
    "collector": "monitor.sampler.COLLECTORS",
    "channel": "monitor.deliver.channels",
    "worker_id": "WORKER_ID",
    "host": "OLLAMA_BASE_URLS",
    "path": "MONITOR_DISK_PATHS",
    "gpu": "number of a card",
    "model": "bounded: a caller writes it",
    "circuit": "bounded: a caller's model is in it",
    "service": "configured, or registered by an admin",
    "reason": "gateway.routing.Reason",
    "result": "the code's own words",
    "le": "a histogram's buckets",
}
"""Why the values of each label are few. A new one belongs here, with its reason."""


@pytest.mark.parametrize("metric", declared(), ids=lambda metric: f"{metric.service} {metric.name}")
def test_a_metric_has_help_and_says_what_it_counts(metric: Declared) -> None:
    assert metric.name.endswith((*UNITS, *COUNTS))
    if not metric.name.startswith(PROCESS):
        assert metric.help.endswith(".")
        assert metric.name.startswith(("arriero_", "llm_worker_"))


def test_a_metric_is_declared_once() -> None:
    own = [metric.name for metric in declared() if not metric.name.startswith(PROCESS)]
    assert len(own) == len(set(own))


@pytest.mark.req("S1-22", "S1-23", "S1-24", "S1-25", "S1-26", "S1-27", "S1-28")
def test_required_names_are_as_they_were_given() -> None:
    assert set(REQUIRED) <= {metric.name for metric in declared() if metric.service == "worker"}


def test_every_label_has_few_values_for_a_reason() -> None:
    assert labels() == CLOSED.keys()


@pytest.mark.parametrize("place", [place for place, _ in countable()])
def test_a_metric_is_set_somewhere(place: str) -> None:
    service, attribute = place.split(".")
    sources = (path.read_text() for path in (ROOT / service).rglob("*.py"))
    assert any(re.search(rf"\.{attribute}(?!\w| = )", text) for text in sources)


@pytest.mark.parametrize("page", [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")], ids=lambda page: page.name)
def test_documents_name_metrics_that_there_are(page: Path) -> None:
    there = {*sample_names(), *(metric.name for metric in declared()), *recorded()}
    for name in re.findall(r"\b(?:arriero|llm_worker)_[a-z0-9_]+\*?(?![\w-])", page.read_text()):
        assert name in there or (name.endswith("*") and any(one.startswith(name[:-1]) for one in there)), name


def test_the_queue_counts_what_is_shown() -> None:
    """The events of the page are those that the scripts count, besides the states a job passes through."""
    scripts = "".join(path.read_text() for path in (ROOT / "shared" / "queue" / "lua").rglob("*.lua"))
    counted = set(re.findall(r"count\('(\w+)'", scripts))
    assert set(EVENTS) == counted | {str(state) for state in State if not MOVES[state]}


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
