"""Redis away, the model host away: clear words, then everything works again by itself."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.integration.processes import eventually
from tests.integration.stack import Stack, chat_body, ended, submit

REFUSED_WITHIN_S = 2.5
NOTICED_WITHIN_S = 8.0
"""A list of models counts as fresh for 5 s."""
HEALED_WITHIN_S = 10.0
QUESTION = chat_body("Why do llamas hum?")


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with Stack(redis=("--appendonly", "yes", "--appendfsync", "always")) as stack:
        stack.gateway()
        stack.worker()
        stack.wait()
        yield stack


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    with stack.http() as client:
        yield client


@pytest.mark.req("S1-14")
def test_redis_away_and_back(stack: Stack, client: httpx.Client) -> None:
    kept = submit(client, QUESTION)
    before = ended(client, kept)
    stack.redis.stop()
    try:
        refused = client.post("/v1/chat/completions", json=QUESTION)
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "queue_unavailable"
        assert refused.elapsed.total_seconds() < REFUSED_WITHIN_S
        assert int(refused.headers["Retry-After"]) >= 1
        assert refused.headers["x-should-retry"] == "true"
        assert client.get(f"/v1/jobs/{kept}").status_code == 503
        ready = client.get("/health/ready")
        assert ready.status_code == 503
        assert ready.json()["services"]["redis"] == "unhealthy"
        # Not this process' fault: restarting it would not help.
        assert client.get("/health/live").status_code == 200
        assert "arriero_redis_up 0.0" in client.get("/metrics").text
    finally:
        stack.redis.start()
    eventually(
        lambda: client.post("/v1/chat/completions", json=QUESTION).status_code == 200, HEALED_WITHIN_S, "it works again"
    )
    assert client.get(f"/v1/jobs/{kept}").json() == before
    eventually(lambda: client.get("/health/ready").json()["status"] == "ready", HEALED_WITHIN_S, "ready again")


@pytest.mark.req("S1-11", "S1-14", "S2-28")
def test_the_model_host_away_and_back(stack: Stack, client: httpx.Client) -> None:
    stack.simulator.stop()
    try:
        # One job after the other, from closed circuits: a fifth failure in a row would have a job wait for the host.
        client.post("/admin/circuits/reset", json={}).raise_for_status()
        job = submit(client, QUESTION)
        record = ended(client, job)
        client.post("/admin/circuits/reset", json={}).raise_for_status()
        direct = client.post("/v1/chat/completions", json=QUESTION)
        assert direct.status_code == 503
        assert direct.json()["error"]["code"] == "backend_unreachable"
        assert "ollama serve" in direct.json()["error"]["message"]
        assert direct.headers["x-arriero-attempts"] == "3"
        assert record["status"] == "dead_lettered"
        assert record["error"]["code"] == "backend_unreachable"
        assert [attempt["number"] for attempt in record["attempts"]] == [1, 2, 3]
        assert {attempt["error"]["code"] for attempt in record["attempts"]} == {"backend_unreachable"}
        assert [attempt["outcome"] for attempt in record["attempts"]] == ["retried", "retried", "failed"]
        dead = client.get("/v1/jobs", params={"status": "dead_lettered"}).json()["data"]
        assert job in [letter["id"] for letter in dead]

        probe = client.get("/health/ollama")
        assert probe.status_code == 503
        assert probe.json()["status"] == "error"
        eventually(
            lambda: client.get("/health/ready").json()["services"]["ollama"] == "unhealthy",
            NOTICED_WITHIN_S,
            "the gateway knows",
        )
        ready = client.get("/health/ready")
        assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
        models = client.get("/v1/models")
        assert (models.status_code, models.json()["error"]["code"]) == (503, "backend_unreachable")
    finally:
        stack.simulator.start()
        stack.simulator.wait()
    answer = client.post("/v1/chat/completions", json=QUESTION)
    assert answer.status_code == 200
    assert client.get("/health/ollama").status_code == 200
