"""The pages for people, probes and Prometheus, of a running gateway and worker."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.processes import eventually
from tests.integration.stack import Stack, chat_body
from worker.settings import WorkerSettings

QUESTION = chat_body("Why do llamas hum?")


def page(url: str) -> dict[str, Any]:
    answer = httpx.get(url, trust_env=False)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    if "timestamp" in body:
        assert datetime.fromisoformat(body["timestamp"]).tzinfo is not None
    return body


def samples(url: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample of a metrics page, which must parse."""
    answer = httpx.get(f"{url}/metrics", trust_env=False)
    assert answer.headers["Content-Type"].startswith("text/plain")
    families = list(text_string_to_metric_families(answer.text))
    assert families
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def total(url: str, name: str, **labels: str) -> float:
    """The sum of a metric's samples that carry these labels."""
    wanted = frozenset(labels.items())
    return sum(value for (metric, given), value in samples(url).items() if metric == name and wanted <= given)


@pytest.mark.req("S0-43")
def test_the_gateway_s_health(stack: Stack) -> None:
    body = page(f"{stack.url}/health")
    assert body["status"] == "healthy"
    assert body["services"] == {"redis": "healthy", "queue": "healthy", "ollama": "healthy"}
    assert body["uptime"] > 0
    assert body["version"]
    assert page(f"{stack.url}/health/live")["status"] == "alive"
    assert page(f"{stack.url}/health/ready")["status"] == "ready"


@pytest.mark.req("S0-03")
def test_the_probe_of_a_model_host_that_answers(stack: Stack) -> None:
    body = page(f"{stack.url}/health/ollama")
    assert body.keys() == {"status", "message", "url"}
    assert body["status"] == "ok"
    assert body["url"] == stack.simulator.url


@pytest.fixture(scope="module")
def lonely(package_stack: Stack) -> Iterator[tuple[str, socket.socket]]:
    """Address of a gateway whose model host takes connections and never answers, and that host."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        gateway = package_stack.gateway(OLLAMA_BASE_URL=f"http://127.0.0.1:{port}", HEALTHCHECK_TIMEOUT="1s")
        gateway.wait()
        yield gateway.url, silent
        gateway.stop()


@pytest.mark.req("S0-01", "S0-02", "S0-04")
def test_the_probe_of_a_model_host_that_does_not_answer_in_time(lonely: tuple[str, socket.socket]) -> None:
    url, host = lonely
    answer = httpx.get(f"{url}/health/ollama", timeout=10, trust_env=False)
    assert answer.status_code == 503
    body = answer.json()
    assert body.keys() == {"status", "message", "url", "error_details"}
    assert body["status"] == "error"
    assert body["error_details"] == "no answer within 1 s"
    assert 0.9 < answer.elapsed.total_seconds() < 3
    # Asked for nothing but the base URL; what else has knocked wanted the list of models.
    host.settimeout(5)
    asked = ""
    while asked != "GET / HTTP/1.1":
        connection, _ = host.accept()
        with connection:
            connection.settimeout(5)
            asked = connection.recv(1024).decode().partition("\r\n")[0]


@pytest.mark.req("S1-16", "S1-19", "S1-20", "S1-21")
def test_the_worker_s_health(stack: Stack) -> None:
    assert WorkerSettings.model_fields["worker_port"].default == 3008
    worker = stack.workers[0]
    health = page(f"{worker.url}/health")
    assert health["status"] == "healthy"
    assert health["workerId"] == "llm-worker-1"
    assert health["uptime"] > 0
    assert health["version"]
    live = page(f"{worker.url}/health/live")
    assert (live["status"], live["workerId"]) == ("alive", "llm-worker-1")
    ready = page(f"{worker.url}/health/ready")
    assert (ready["status"], ready["workerId"]) == ("ready", "llm-worker-1")
    assert ready["services"] == {"redis": "healthy", "ollama": "healthy", "queue": "healthy"}


@pytest.mark.req("S1-22", "S1-23", "S1-24", "S1-25", "S1-26", "S1-27")
def test_the_worker_s_metrics_move(stack: Stack, client: httpx.Client) -> None:
    url, model = stack.workers[0].url, {"worker_id": "llm-worker-1", "model": "llama3.2"}

    def done() -> float:
        return total(url, "llm_worker_requests_total", status="success", **model)

    def timed() -> float:
        return total(url, "llm_worker_request_duration_seconds_count", **model)

    before, timed_before = done(), timed()
    uptime = total(url, "llm_worker_uptime_seconds", worker_id="llm-worker-1")
    for _ in range(3):
        assert client.post("/v1/chat/completions", json=QUESTION).status_code == 200
    eventually(lambda: done() == before + 3, 3, "three more successes")
    assert timed() == timed_before + 3
    assert total(url, "llm_worker_request_duration_seconds_bucket", le="5.0", **model) >= 3
    assert total(url, "llm_worker_uptime_seconds", worker_id="llm-worker-1") > uptime
    assert total(url, "llm_worker_models_loaded", worker_id="llm-worker-1") >= 1
    assert total(url, "llm_worker_memory_usage_bytes", worker_id="llm-worker-1") > 10_000_000


@pytest.mark.req("S1-19", "S1-22")
def test_a_worker_with_no_free_slot_still_sees_its_host(stack: Stack, client: httpx.Client) -> None:
    """Jobs must not take the connections that probes and pages need."""
    worker = stack.workers[0].url
    with stack.full_slots(client):
        ready = page(f"{worker}/health/ready")
        assert ready["services"]["ollama"] == "healthy"
        assert total(worker, "llm_worker_models_loaded", worker_id="llm-worker-1") >= 1


@pytest.mark.req("S0-44", "S0-45", "S0-46")
def test_time_errors_and_tokens_are_counted(stack: Stack, client: httpx.Client) -> None:
    worker = stack.workers[0].url
    route = {"route": "/v1/chat/completions"}

    def counts() -> tuple[float, float, float]:
        requests = "arriero_gateway_requests_total"
        return (
            total(stack.url, requests, status="200", **route),
            total(stack.url, requests, status="400", **route),
            total(worker, "llm_worker_tokens_total"),
        )

    before = counts()
    usage = client.post("/v1/chat/completions", json=QUESTION).json()["usage"]
    client.post("/v1/chat/completions", json={**QUESTION, "n": 2})
    wanted = (before[0] + 1, before[1] + 1, before[2] + usage["total_tokens"])
    eventually(lambda: counts() == wanted, 3, "one answer, one refusal, its tokens")
    assert total(stack.url, "arriero_gateway_request_duration_seconds_count", **route) >= 2
