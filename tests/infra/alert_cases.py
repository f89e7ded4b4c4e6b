"""For each alert: series that make it fire, with what it then says, and series just short of that.

Series are in promtool's notation, one value a minute: `1x9` is 1 ten times, `0+5x9` grows by 5 a minute.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.infra.prometheus_files import Alert

MINUTES = 20
Series = dict[str, str]


@dataclass(frozen=True, slots=True)
class Case:
    """`labels` besides alertname and severity; `summary` as people read it."""

    alert: str
    fires: Series
    quiet: Series
    summary: str
    labels: Mapping[str, str] = field(default_factory=dict)


def _always(name: str, value: float, other: float) -> tuple[Series, Series]:
    """The same value all the time: one that fires, one that does not."""
    return {name: f"{value:g}x{MINUTES}"}, {name: f"{other:g}x{MINUTES}"}


def _grows(name: str, by: float, other: float = 0) -> tuple[Series, Series]:
    """A counter that grows by so much a minute."""
    return {name: f"0+{by:g}x{MINUTES}"}, {name: f"0+{other:g}x{MINUTES}"}


def _both(*pairs: tuple[Series, Series]) -> tuple[Series, Series]:
    fires, quiet = zip(*pairs, strict=True)
    return dict(ChainMap(*fires)), dict(ChainMap(*quiet))


def _model(calls: float, failed: float) -> Series:
    """Calls and faults a minute, as two monitors report them."""
    found = {}
    for monitor in ("a:3010", "b:3010"):
        labels = f'{{model="mistral", operation="chat", instance="{monitor}"}}'
        found[f"arriero_model_requests_total{labels}"] = f"0+{calls:g}x{MINUTES}"
        found[f"arriero_model_faults_total{labels}"] = f"0+{failed:g}x{MINUTES}"
    return found


def _durations(*, slow: bool, calls: float = 10) -> Series:
    """Calls between 60 and 120 s, or between 30 and 60."""
    found = dict(_model(calls, 0))
    for bound, counts in (("30", False), ("60", not slow), ("120", True), ("+Inf", True)):
        labels = f'model="mistral", operation="chat", instance="a:3010", le="{bound}"'
        found[f"arriero_model_duration_seconds_bucket{{{labels}}}"] = f"0+{calls if counts else 0:g}x{MINUTES}"
    return found


def _circuit(state: str) -> str:
    labels = f'worker_id="w1", circuit="chat:mistral", host="gpu1:11434", state="{state}"'
    return f"llm_worker_circuit_breaker_state{{{labels}}}"


_A, _B = 'instance="a:3010"', 'instance="b:3010"'
_HOST = {"host": "gpu1:11434"}
_MODEL = {"model": "mistral"}
_HERE = {"instance": "a:3010"}

CASES = (
    Case(
        "ArrieroGatewayDown",
        *_always('up{job="gateway", instance="a:8000"}', 0, 1),
        "No gateway answers; nothing is accepted.",
    ),
    Case(
        "ArrieroManagerDown",
        *_always('up{job="manager", instance="a:3009"}', 0, 1),
        "No manager answers; jobs go on without it.",
    ),
    Case(
        "ArrieroMonitorDown",
        *_always('up{job="monitor", instance="a:3010"}', 0, 1),
        "No monitor answers; jobs go on without it.",
    ),
    Case(
        "ArrieroReplicaDown",
        *_both(
            _always('up{job="worker", instance="a:3008"}', 0, 1), _always('up{job="worker", instance="b:3008"}', 1, 1)
        ),
        "The worker at a:3008 does not answer.",
        {"job": "worker", "instance": "a:3008"},
    ),
    Case(
        "ArrieroRedisDown",
        *_both(
            _always('arriero_redis_up{instance="a:8000"}', 0, 1), _always('arriero_redis_up{instance="b:8000"}', 1, 1)
        ),
        "Redis does not answer 1 of the gateways; they accept nothing.",
    ),
    Case(
        "ArrieroGatewayErrors",
        *_both(
            _grows('arriero_gateway_requests_total{route="/v1/models", status="500"}', 10, 5),
            _grows('arriero_gateway_requests_total{route="/v1/models", status="200"}', 90, 95),
        ),
        "10% of all requests are answered 5xx.",
    ),
    Case(
        "ArrieroNoLeader",
        *_both(_always(f"arriero_manager_leader{{{_A}}}", 0, 1), _always(f"arriero_manager_leader{{{_B}}}", 0, 0)),
        "No manager leads; models are neither preloaded nor unloaded.",
    ),
    Case(
        "ArrieroTwoLeaders",
        *_both(_always(f"arriero_manager_leader{{{_A}}}", 1, 1), _always(f"arriero_manager_leader{{{_B}}}", 1, 0)),
        "2 managers believe that they lead.",
    ),
    Case(
        "ArrieroReadingsOld",
        {f"arriero_monitor_sample_timestamp_seconds{{{_A}}}": "0x20"},
        {f"arriero_monitor_sample_timestamp_seconds{{{_A}}}": "0+60x20"},
        "The monitor at a:3010 answers, but last read its figures 12m 0s ago.",
        _HERE,
    ),
    Case(
        "ArrieroCollectorFailing",
        *_always(f'arriero_monitor_collector_up{{{_A}, collector="gpu"}}', 0, 1),
        "The monitor at a:3010 cannot read gpu.",
        {**_HERE, "collector": "gpu"},
    ),
    Case(
        "ArrieroAlertsUndelivered",
        *_grows('arriero_alert_deliveries_total{channel="slack", outcome="failed"}', 1),
        "12 of the monitor's own alerts did not get through by slack within 15 minutes.",
        {"channel": "slack"},
    ),
    Case("ArrieroNoWorker", *_always("arriero_queue_workers", 0, 1), "No worker is alive; jobs are accepted and wait."),
    Case(
        "ArrieroWorkerCrashed",
        *_grows('arriero_queue_events_total{event="crashed"}', 1),
        "10 runs were lost with their worker within 10 minutes.",
    ),
    Case(
        "ArrieroQueueBacklog",
        *_both(
            _always('arriero_queue_jobs{state="queued", instance="a:8000"}', 501, 500),
            _always('arriero_queue_jobs{state="queued", instance="b:8000"}', 501, 500),
        ),
        "501 jobs wait.",
    ),
    Case(
        "ArrieroQueueDelay",
        *_always("arriero_queue_oldest_wait_seconds", 61, 60),
        "The longest waiting job has waited 1m 1s.",
    ),
    Case(
        "ArrieroJobsRefused",
        *_both(
            _grows('arriero_gateway_jobs_total{outcome="overloaded"}', 10, 5),
            _grows('arriero_gateway_jobs_total{outcome="accepted"}', 90, 95),
        ),
        "10% of all jobs are refused because the queue is full.",
    ),
    Case(
        "ArrieroDeadLetters",
        *_grows('arriero_queue_events_total{event="dead_lettered"}', 3, 2),
        "15 jobs failed for good within 5 minutes.",
    ),
    Case(
        "ArrieroStaleWrites",
        *_grows('llm_worker_stale_writes_total{worker_id="w1"}', 2),
        "The queue refused 20 writes of worker w1, which no longer owned the jobs.",
        {"worker_id": "w1"},
    ),
    Case(
        "ArrieroAllModelHostsDown",
        *_both(
            _always('arriero_ollama_host_up{host="gpu1:11434"}', 0, 1),
            _always('arriero_ollama_host_up{host="gpu2:11434"}', 0, 0),
        ),
        "No model server answers; jobs wait or fail.",
    ),
    Case(
        "ArrieroModelHostDown",
        *_always(f'arriero_ollama_host_up{{host="gpu1:11434", {_A}}}', 0, 1),
        "The model server gpu1:11434 does not answer.",
        _HOST,
    ),
    Case(
        "ArrieroModelMissing",
        *_always('arriero_alert_active{alert="model_missing", severity="critical"}', 2, 0),
        "Jobs want 2 models that no host has.",
    ),
    Case(
        "ArrieroCircuitOpen",
        *_both(_always(_circuit("half_open"), 1, 0), _always(_circuit("closed"), 0, 1)),
        "The circuit chat:mistral of gpu1:11434 is open or half open.",
        {**_HOST, "circuit": "chat:mistral"},
    ),
    Case(
        "ArrieroModelSlow",
        _durations(slow=True),
        _durations(slow=False),
        "Calls of mistral take 1m 57s at the 95th percentile.",
        _MODEL,
    ),
    Case(
        "ArrieroModelSlow",
        _durations(slow=True),
        _durations(slow=True, calls=1),
        "Calls of mistral take 1m 57s at the 95th percentile.",
        _MODEL,
    ),
    Case("ArrieroModelFailing", _model(10, 2), _model(10, 1), "20% of the calls of mistral fail.", _MODEL),
    Case("ArrieroModelFailing", _model(10, 2), _model(1, 1), "20% of the calls of mistral fail.", _MODEL),
    Case(
        "ArrieroModelUnwell",
        *_always('arriero_manager_model_score{model="mistral"}', 42, 50),
        "The health score of mistral is 42 of 100.",
        _MODEL,
    ),
    Case(
        "ArrieroProcessorBusy",
        *_always(f"arriero_host_cpu_ratio{{{_A}}}", 0.9, 0.8),
        "The processors at a:3010 are 90% busy.",
        _HERE,
    ),
    Case(
        "ArrieroMemoryFull",
        *_both(
            _always(f"arriero_host_memory_used_bytes{{{_A}}}", 90, 85),
            _always(f"arriero_host_memory_total_bytes{{{_A}}}", 100, 100),
        ),
        "The memory at a:3010 is 90% full.",
        _HERE,
    ),
    Case(
        "ArrieroDiskFull",
        *_both(
            _always(f'arriero_host_disk_used_bytes{{{_A}, path="/"}}', 95, 90),
            _always(f'arriero_host_disk_total_bytes{{{_A}, path="/"}}', 100, 100),
        ),
        "The disk of / at a:3010 is 95% full.",
        {**_HERE, "path": "/"},
    ),
    Case(
        "ArrieroGpuBusy",
        *_always(f'arriero_gpu_utilisation_ratio{{{_A}, gpu="0"}}', 1, 0.98),
        "GPU 0 at a:3010 is 100% busy.",
        {**_HERE, "gpu": "0"},
    ),
    Case(
        "ArrieroGpuMemoryFull",
        *_both(
            _always(f'arriero_gpu_memory_used_bytes{{{_A}, gpu="0"}}', 97, 95),
            _always(f'arriero_gpu_memory_total_bytes{{{_A}, gpu="0"}}', 100, 100),
        ),
        "The memory of GPU 0 at a:3010 is 97% full.",
        {**_HERE, "gpu": "0"},
    ),
    Case(
        "ArrieroGpuHot",
        *_always(f'arriero_gpu_temperature_celsius{{{_A}, gpu="0"}}', 86, 85),
        "GPU 0 at a:3010 has 86 degrees Celsius.",
        {**_HERE, "gpu": "0"},
    ),
)


def promtool_tests(alerts: Mapping[str, Alert]) -> list[dict[str, object]]:
    """Each case twice, in the form of `promtool test rules`: it fires once its `for` is over, not before; and it does
    not fire."""
    return [test for case in CASES for test in _tests(case, alerts[case.alert])]


def _tests(case: Case, alert: Alert) -> list[dict[str, object]]:
    labels = {"severity": alert.severity, **case.labels}
    said = {"summary": case.summary, "runbook_url": alert.runbook_url}
    # Late enough for `for`, and for ranges to be full of samples.
    fires_at = max(12, alert.for_s // 60 + 2)
    fires: list[dict[str, object]] = [_at(case, f"{fires_at}m", [{"exp_labels": labels, "exp_annotations": said}])]
    if alert.for_s >= 60:
        fires.append(_at(case, f"{alert.for_s // 60 - 1}m", []))
    return [_test(case.fires, fires), _test(case.quiet, [_at(case, f"{fires_at}m", [])])]


def _at(case: Case, time: str, expected: list[object]) -> dict[str, object]:
    return {"eval_time": time, "alertname": case.alert, "exp_alerts": expected}


def _test(series: Series, expected: list[dict[str, object]]) -> dict[str, object]:
    given = [{"series": name, "values": values} for name, values in series.items()]
    return {"interval": "1m", "input_series": given, "alert_rule_test": expected}
