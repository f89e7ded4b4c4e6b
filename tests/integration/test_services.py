"""Several services behind real gateways and workers: fallback to others' machines, privacy, airgap mode.

The cloud is a second simulator, spoken to in OpenAI's dialect.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.processes import eventually
from tests.integration.stack import Simulator, Stack, chat_body, ended, submit

KEY = "sk-cloud-0123456789abcdefghij"
PRIVATE = {"x-arriero-private": "true"}
QUICK = {
    "OLLAMA_MAX_RETRIES": "2", "CIRCUIT_BREAKER_FAILURES": "3", "CIRCUIT_BREAKER_OPEN_TIME": "600", "CIRCUIT_BREAKER_MAX_OPEN_TIME": "600",
}  # fmt: skip


class Cloud(Simulator):
    """Somebody else's service. It may be asked for its models by whoever runs; prompts are another matter."""

    def service(self, **fields: Any) -> dict[str, Any]:
        return {"api_format": "openai", "urls": [self.url + "/v1"], "api_key_env_var": "CLOUD_KEY", **fields}

    @property
    def requests(self) -> list[dict[str, Any]]:
        """Everything that ever reached it."""
        answer = httpx.get(f"{self.url}/_sim/calls", params={"event": "call"}, trust_env=False)
        found: list[dict[str, Any]] = answer.raise_for_status().json()["calls"]
        return found

    @property
    def prompts(self) -> list[dict[str, Any]]:
        return [call for call in self.requests if call["path"] not in ("/v1/models", "/api/version")]

    def forget(self) -> None:
        httpx.delete(f"{self.url}/_sim/calls", trust_env=False).raise_for_status()


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    made = Cloud(tmp_path_factory.mktemp("cloud"), ("--models", "llama3.2,gpt-4o,nomic-embed-text"))
    made.start()
    made.wait()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def services_stack(cloud: Cloud) -> Iterator[Stack]:
    """A gateway and a worker that tell all, and one of each that are as they come."""
    services = json.dumps({"cloud": cloud.service(default_model="gpt-4o")})
    loud = {"LOG_LEVEL": "DEBUG", "DEBUG": "true"}
    with Stack(SERVICES=services, CLOUD_KEY=KEY, **QUICK) as stack:
        stack.gateway(**loud)
        stack.gateway(LOG_LEVEL="INFO")
        stack.worker(**loud, PERFORMANCE_SAMPLE_RATE="1")
        stack.worker(LOG_LEVEL="INFO")
        stack.wait()
        yield stack


@pytest.fixture
def stack(services_stack: Stack, cloud: Cloud) -> Iterator[Stack]:
    cloud.forget()
    yield services_stack
    services_stack.simulator.behave()
    cloud.behave()
    with services_stack.http() as client:
        client.post("/admin/circuits/reset", json={}).raise_for_status()


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    with stack.http() as client:
        yield client


def ask(client: httpx.Client, text: str = "Why do llamas hum?", model: str = "llama3.2", **more: Any) -> httpx.Response:
    return client.post("/v1/chat/completions", json=chat_body(text, model), **more)


@pytest.mark.req("S2-04", "S2-31", "S3-23", "S3-30")
def test_with_ollama_down_the_cloud_answers_and_the_answer_says_so(
    stack: Stack, client: httpx.Client, cloud: Cloud
) -> None:
    stack.simulator.misbehave("refuse")
    answer = ask(client)
    assert answer.status_code == 200, answer.text
    assert "ollama~llama3.2->" in answer.headers["x-arriero-fallback"]
    assert len(cloud.prompts) == 1
    job = client.get(f"/v1/jobs/{answer.headers['x-arriero-job-id']}").json()
    assert job["attempts"][-1]["backend"] == cloud.url.removeprefix("http://")
    assert {attempt["backend"] for attempt in job["attempts"][:-1]} == {stack.simulator.url.removeprefix("http://")}
    ask(client)
    ask(client)
    # The circuit is open now: the next one does not even try.
    before = len(stack.simulator.calls())
    second = ask(client)
    assert (second.status_code, second.headers["x-arriero-attempts"]) == (200, "1")
    assert len(stack.simulator.calls()) == before
    eventually(lambda: "job.fell_back" in "".join(worker.log for worker in stack.workers), 5, "the change is logged")


@pytest.mark.req("S2-04", "S2-09")
def test_a_model_that_only_the_cloud_has_is_found_there(stack: Stack, client: httpx.Client, cloud: Cloud) -> None:
    assert ask(client, model="cloud~gpt-4o").status_code == 200
    assert ask(client, model="gpt-4o").status_code == 200
    assert [call["model"] for call in cloud.prompts] == ["gpt-4o:latest"] * 2


@pytest.mark.req("C20", "S3-13")
def test_a_private_request_fails_closed_and_so_do_its_replays(
    stack: Stack, client: httpx.Client, cloud: Cloud
) -> None:
    assert ask(client, headers=PRIVATE).status_code == 200
    refused = ask(client, model="cloud~gpt-4o", headers=PRIVATE)
    assert refused.status_code in (400, 503)
    stack.simulator.misbehave("refuse")
    failed = ask(client, headers=PRIVATE)
    assert (failed.status_code, failed.json()["error"]["code"]) == (503, "backend_unreachable")
    job = failed.headers["x-arriero-job-id"]
    for model in ("", "cloud~gpt-4o"):
        replay = client.post(f"/admin/dead-letters/{job}/replay", json={"model": model} if model else {})
        if replay.status_code == 404:
            pytest.fail(replay.text)
        again = replay.json()
        if "id" in again:
            ended(client, again["id"])
    batch = [{"type": "chat.completion", "request": chat_body("x")} for _ in range(3)]
    jobs = client.post("/v1/jobs:batch", json={"jobs": batch}, headers=PRIVATE).json()["data"]
    client.post("/admin/circuits/reset", json={})
    for one in jobs:
        client.get(f"/v1/jobs/{one['id']}", params={"wait": 5})
        client.delete(f"/v1/jobs/{one['id']}")
    assert cloud.prompts == []
