"""The table of rules: which snapshot makes which alert fire, and what the settings change."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from monitor.alerts import Alert, AlertState, evaluate
from monitor.readings import Snapshot
from monitor.rules import rules
from monitor.settings import MonitorSettings
from monitor.signals import METRICS, signals
from shared.resilience.breaker import BreakerState
from shared.resilience.circuits import CircuitView
from tests.monitor import snapshots
from tests.monitor.snapshots import GIB, gpu, host, model, ollama, queue, snapshot


def settings(**given: Any) -> MonitorSettings:
    return MonitorSettings.model_validate({"alert_duration": 0.0, "alert_gpu_duration": 0.0, **given})


def firing(seen: Snapshot, **given: Any) -> list[tuple[str, str]]:
    """(alert, what it is about) of all that fires at once."""
    read = settings(**given)
    values = signals(seen, min_calls=read.alert_min_calls)
    _, changed = evaluate({}, rules(read), values, seen.errors, seen.at)
    return [(alert.rule.name, alert.about) for alert in changed if alert.state is AlertState.FIRING]


def test_all_well() -> None:
    assert firing(snapshot()) == []


def circuit(state: BreakerState) -> CircuitView:
    return CircuitView(name="chat:llama3.2@a:1", state=state)


@pytest.mark.req("S1-61", "S1-62", "S1-63", "S1-64", "D-07")
@pytest.mark.parametrize(
    ("parts", "alert"),
    [
        ({"host": host(cpu=0.8)}, ("cpu", "")),
        ({"host": host(memory=0.85)}, ("memory", "")),
        ({"host": host(disk=0.9)}, ("disk", "/")),
        ({"gpus": [gpu(), gpu(1, used=0.99)]}, ("gpu", "1")),
        ({"gpus": [gpu(memory=0.96)]}, ("gpu_memory", "0")),
        ({"gpus": [gpu(celsius=86)]}, ("gpu_temperature", "0")),
        ({"queue": queue(waiting=500)}, ("queue_backlog", "")),
        ({"queue": queue(waiting=1, oldest_wait_s=60)}, ("queue_delay", "")),
        ({"queue": queue(workers=())}, ("workers_gone", "")),
        ({"queue": queue(ended={"dead_lettered": 10})}, ("dead_letters", "")),
        ({"queue": queue(unfinished={"mistral": 1})}, ("model_missing", "mistral")),
        ({"ollama": [ollama(), ollama("b:1", error="refused")]}, ("ollama_host_down", "b:1")),
        ({"circuits": [circuit(BreakerState.OPEN)]}, ("circuit_open", "chat:llama3.2@a:1")),
        ({"queue": queue(redis_limit_bytes=100, redis_used_memory_bytes=80)}, ("redis_memory", "")),
        ({"models": [model(seconds=300)]}, ("model_slow", "chat:llama3.2")),
        ({"models": [model(failures={"backend_timeout": 10})]}, ("model_failing", "chat:llama3.2")),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_what_fires(parts: dict[str, Any], alert: tuple[str, str]) -> None:
    assert firing(snapshot(**parts)) == [alert]


@pytest.mark.parametrize(
    "parts",
    [
        {"host": host(cpu=0.79, memory=0.84, disk=0.89)},
        {"host": host(swap_bytes=8 * GIB)},
        {"gpus": [gpu(used=None)]},
        {"queue": queue(waiting=499, oldest_wait_s=59)},
        {"queue": queue(unfinished={"LLAMA3.2": 3, "mistral": 0})},
        {"queue": queue(unfinished={"openai~gpt-4o": 3})},
        {"queue": queue(redis_limit_bytes=100, redis_used_memory_bytes=79)},
        {"queue": queue(redis_limit_bytes=0, redis_used_memory_bytes=10**9)},
        {"circuits": [circuit(BreakerState.CLOSED)]},
        {"circuits": [circuit(BreakerState.HALF_OPEN)]},
        {"models": [model(calls=19, failures={"backend_timeout": 9}, seconds=300)]},
        {"models": [model(calls=20, failures={"backend_timeout": 2})]},
        {"models": [model(failures={"backend_rejected": 40, "job_timeout": 40, "backend_timeout": 9})]},
    ],
)
def test_what_does_not(parts: dict[str, Any]) -> None:
    assert firing(snapshot(**parts)) == []


@pytest.mark.req("S1-63")
def test_a_missing_model_is_no_news_while_a_host_is_away_that_may_have_it() -> None:
    seen = snapshot(ollama=[ollama(), ollama("b:1", error="refused")], queue=queue(unfinished={"mistral": 1}))
    assert ("model_missing", "mistral") not in firing(seen)


def test_redis_is_all_but_full() -> None:
    seen = snapshot(queue=queue(redis_limit_bytes=100, redis_used_memory_bytes=95))
    assert firing(seen) == [("redis_memory", ""), ("redis_full", "")]


def texts(*seen: Snapshot, **given: Any) -> list[str]:
    """What the alerts say after each of these looks, one alert at most."""
    book, found = dict[tuple[str, str], Alert](), []
    for index, look in enumerate(seen):
        now = look.at + index
        book = dict(evaluate(book, rules(settings(**given)), signals(look, min_calls=20), look.errors, now)[0])
        found += [alert.summary for alert in book.values()]
    return found


def test_a_circuit_that_is_half_open_in_between_stays_one_alert_and_says_so() -> None:
    seen = [snapshot(circuits=[circuit(state)]) for state in (BreakerState.OPEN, BreakerState.HALF_OPEN)]
    name = "The circuit chat:llama3.2@a:1 is"
    assert texts(*seen, alert_duration=60.0) == [f"{name} open", f"{name} half open"]


def test_what_is_below_its_threshold_says_when_it_is_over() -> None:
    said = texts(snapshot(host=host(cpu=0.9)), snapshot(host=host(cpu=0.7999)))
    assert said == ["Processor use is 90% (threshold 80%)", "Processor use is 79.9% (threshold 80%, over below 72%)"]


def test_without_redis_and_hosts() -> None:
    errors = dict.fromkeys(("redis", "queue", "circuits", "models"), "Redis does not answer")
    seen = snapshot(
        redis_latency_s=None, queue=None, circuits=None, models=None, errors=errors, ollama=[ollama(error="x")]
    )
    assert firing(seen) == [("redis_down", ""), ("ollama_all_down", ""), ("ollama_host_down", "127.0.0.1:11434")]


@pytest.mark.req("S1-97", "S1-98", "S1-61", "C17")
@pytest.mark.parametrize("text", ["0.5", "50", "50%", "0.5 "])
def test_a_threshold_is_a_fraction_or_a_percentage(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CPU", "MEMORY", "DISK", "GPU", "GPU_MEMORY", "ERROR_RATE"):
        monkeypatch.setenv(f"{name}_ALERT_THRESHOLD", text)
    read = MonitorSettings()
    assert read.cpu_alert_threshold == read.memory_alert_threshold == read.error_rate_alert_threshold == 0.5
    assert read.gpu_memory_alert_threshold == read.disk_alert_threshold == read.gpu_alert_threshold == 0.5


def test_what_a_share_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("101", "-1", "half", "120%"):
        monkeypatch.setenv("CPU_ALERT_THRESHOLD", text)
        with pytest.raises(ValidationError):
            MonitorSettings()


@pytest.mark.req("S1-97", "S1-98")
def test_defaults_are_those_of_the_documents() -> None:
    read = MonitorSettings()
    assert (read.cpu_alert_threshold, read.memory_alert_threshold) == (0.8, 0.85)


@pytest.mark.req("S1-97", "S1-64", "C34")
def test_settings_move_the_thresholds() -> None:
    seen = snapshot(host=host(cpu=0.5), queue=queue(waiting=5, oldest_wait_s=3))
    given = {"cpu_alert_threshold": 0.5, "queue_backlog_alert_threshold": 5, "queue_delay_alert_threshold": 3.0}
    assert [name for name, _ in firing(seen, **given)] == ["queue_backlog", "queue_delay", "cpu"]


def test_every_rule_looks_at_a_signal_that_exists_and_has_a_sentence() -> None:
    for rule in rules(MonitorSettings()):
        assert rule.metric in METRICS
        assert rule.clear_at <= rule.threshold
        book, _ = evaluate({}, [rule], {(rule.metric, "x"): rule.threshold}, (), 0.0)
        assert "{" not in book[rule.name, "x"].summary


def test_signals_are_those_listed() -> None:
    """A snapshot with everything in it makes every signal there can be, and no other."""
    full = snapshot(
        gpus=[gpu()],
        queue=queue(ended={"dead_lettered": 1}, unfinished={"m": 1}, drain_per_s=1.0, redis_limit_bytes=1),
        circuits=[circuit(BreakerState.OPEN)],
        models=[model()],
    )
    assert {metric for metric, _ in signals(full, min_calls=1)} == set(METRICS)


def test_nothing_read_means_no_signal() -> None:
    empty = Snapshot(at=snapshots.NOW)
    assert dict(signals(empty, min_calls=1)) == {("redis_down", ""): 1.0}


def test_the_webhook_needs_a_good_secret() -> None:
    url = {"alert_webhook_url": "https://example.org/hook"}
    for secret in ("plain", "whsec_", "whsec_c2hvcnQ="):
        with pytest.raises(ValidationError):
            settings(**url, alert_webhook_secret=secret)
    assert ["ALERT_WEBHOOK_SECRET" in sentence for sentence in settings(**url).conflicts()] == [True]
    assert not list(settings(**url, alert_webhook_secret="whsec_" + "QUJD" * 8).conflicts())
    with pytest.raises(ValidationError, match="https://example"):
        settings(alertmanager_url="alertmanager:9093")
