"""The health report: its verdict, and its two forms."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from monitor.advice import Advice
from monitor.alerts import Alert, AlertState, Severity
from monitor.report import Report, Verdict, as_text, report_fields
from tests.monitor.snapshots import NOW, gpu, model, ollama, queue, rule, snapshot


def alert(state: AlertState = AlertState.FIRING, severity: Severity = Severity.WARNING) -> Alert:
    return Alert(rule=rule(severity=severity), about="x", state=state, value=91.0, since=NOW - 60, fired_at=NOW)


def report(alerts: list[Alert] | None = None, advice: list[Advice] | None = None, **parts: Any) -> Report:
    return Report(monitor="box", snapshot=snapshot(**parts), alerts=alerts or [], advice=advice or [])


@pytest.mark.req("S1-66")
@pytest.mark.parametrize(
    ("seen", "verdict"),
    [
        (report(), Verdict.OK),
        (report([alert(AlertState.PENDING, Severity.CRITICAL)]), Verdict.OK),
        (report([alert()]), Verdict.WARNING),
        (report([alert(), alert(severity=Severity.CRITICAL)]), Verdict.CRITICAL),
        (report(ollama=[ollama(), ollama("b:1", error="refused")]), Verdict.WARNING),
        (report(errors={"host": "broken"}), Verdict.WARNING),
        (report(redis_latency_s=None, queue=None, errors={"redis": "gone"}), Verdict.CRITICAL),
    ],
)
def test_verdict(seen: Report, verdict: Verdict) -> None:
    assert seen.verdict is verdict


def full() -> Report:
    return report(
        [alert()],
        [Advice(topic="disk", text="Tidy up.", figures={"used_ratio": 0.9})],
        gpus=[gpu()],
        queue=queue(waiting=2, oldest_wait_s=3),
        models=[model(failures={"backend_timeout": 5})],
        errors={"circuits": "no answer within 3 s"},
    )


@pytest.mark.req("S1-56", "S1-57", "S1-59", "S1-60", "S1-66")
def test_as_json() -> None:
    fields = msgspec.json.decode(msgspec.json.encode(report_fields(full())))
    assert fields["verdict"] == "warning"
    assert fields["host"]["memory"]["used_ratio"] == pytest.approx(0.2)
    assert fields["gpu"][0]["memory_ratio"] == pytest.approx(0.5)
    assert fields["ollama"][0]["models"] == ["llama3.2:latest"]
    assert fields["queue"]["waiting"] == 2
    (chat,) = fields["models"]
    assert (chat["model"], chat["operation"], chat["requests"], chat["requests_per_min"]) == (
        "llama3.2",
        "chat",
        100,
        100,
    )
    assert chat["mean_s"] == pytest.approx(0.9)
    assert 0.5 < chat["p50_s"] < chat["p95_s"] < chat["p99_s"] <= 1
    assert (chat["failures"], chat["failures_by_code"], chat["error_ratio"]) == (5, {"backend_timeout": 5}, 0.05)
    (shown,) = fields["alerts"]
    assert (shown["alert"], shown["state"], shown["severity"]) == ("load", "firing", "warning")
    assert shown["summary"] == "x is at 91, threshold 80"
    assert fields["advice"] == [{"topic": "disk", "text": "Tidy up.", "figures": {"used_ratio": 0.9}}]


@pytest.mark.req("S1-66")
def test_as_text() -> None:
    text = as_text(full())
    for line in (
        "WARNING  box  2023-11-14T22:13:20.000Z",
        "Processor 10% of 8 cores, load 1.50",
        "Memory    20% of 100.0 GiB",
        "GPU 0     Stub GPU, 20% in use, memory 50% of 80.0 GiB, 50 °C, 100 W",
        "Queue     2 waiting (oldest 3.0 s), 0 of 4 slots busy on 1 worker, 0 ended a minute, 0 dead letters",
        "Model     chat llama3.2: 100.0 a minute, p95 0.97 s, 5.0% failed",
        "Unknown   circuits: no answer within 3 s",
        "  firing warning load: x is at 91, threshold 80, since 2023-11-14T22:12:20.000Z",
        "  Tidy up.",
    ):
        assert line in text.splitlines(), text
    assert max(map(len, text.splitlines())) <= 120


def test_as_text_with_nothing_to_say() -> None:
    text = as_text(report(host=None, queue=None, models=None, circuits=None, redis_latency_s=None))
    assert text.startswith("CRITICAL") and "GPU       none" in text and text.count("  none") == 3
