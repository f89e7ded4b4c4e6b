"""Several services behind real gateways and workers: fallback to others' machines, privacy, airgap mode.

The cloud is a second simulator, spoken to in OpenAI's dialect.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.integration.processes import eventually
from tests.integration.stack import Simulator, Stack, chat_body, ended

KEY = "sk-cloud-0123456789abcdefghij"
PRIVATE = {"x-arriero-private": "true"}
QUICK = {
    "OLLAMA_MAX_RETRIES": "2",
    "CIRCUIT_BREAKER_FAILURES": "3",
    "CIRCUIT_BREAKER_OPEN_TIME": "600",
    "CIRCUIT_BREAKER_MAX_OPEN_TIME": "600",
}


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
    with Stack(SERVICES=services, CLOUD_KEY=KEY, ALLOW_SERVICE_REGISTRATION="true", **QUICK) as stack:
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
    assert answer.headers["x-arriero-fallback"].removesuffix(":latest") == "ollama~llama3.2->cloud~llama3.2"
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
    assert [call["model"].removesuffix(":latest") for call in cloud.prompts] == ["gpt-4o"] * 2


def reset(client: httpx.Client) -> None:
    client.post("/admin/circuits/reset", json={}).raise_for_status()


def code(job: dict[str, Any]) -> str:
    """The code of the error that a job ended with."""
    assert job["status"] == "dead_lettered", job
    found: str = job["error"]["code"]
    return found


@pytest.mark.req("C20", "S3-13", "S3-39")
def test_a_private_request_fails_closed_and_so_do_its_replays(stack: Stack, client: httpx.Client, cloud: Cloud) -> None:
    assert ask(client, headers=PRIVATE).status_code == 200
    assert ask(client, model="cloud~gpt-4o", headers=PRIVATE).status_code == 400
    stack.simulator.misbehave("refuse")
    failed = ask(client, headers=PRIVATE)
    assert (failed.status_code, failed.json()["error"]["code"]) == (503, "backend_unreachable")
    batched = []
    for _ in range(2):
        reset(client)
        jobs = [{"type": "chat.completion", "request": chat_body("x")}]
        [job] = client.post("/v1/jobs:batch", json={"jobs": jobs}, headers=PRIVATE).json()["data"]
        assert code(ended(client, job["id"])) == "backend_unreachable"
        batched.append(job["id"])
    for letter, on_model, end in (
        (failed.headers["x-arriero-job-id"], None, "backend_unreachable"),
        (batched[0], "cloud~gpt-4o", "no_local_backend"),
        (batched[1], "gpt-4o", "model_not_found"),
    ):
        reset(client)
        if on_model == "gpt-4o":
            stack.simulator.behave()
        replay = (
            client.post(f"/admin/dead-letters/{letter}/replay", json={"on_model": on_model}).raise_for_status().json()
        )
        assert code(ended(client, replay["id"])) == end
    assert cloud.prompts == []


@pytest.mark.req("S2-32", "S2-33", "S4-11", "S0-14")
def test_a_service_is_added_and_removed_while_everything_runs(stack: Stack, client: httpx.Client, cloud: Cloud) -> None:
    late = {"name": "late", "api_format": "openai", "urls": [cloud.url + "/v1"], "local": True}
    answer = client.post("/v1/providers", json=late)
    assert answer.status_code == 201, answer.text
    assert ask(client, model="late~gpt-4o").status_code == 200
    with httpx.Client(base_url=stack.gateways[1].url, timeout=30.0, trust_env=False) as other:
        eventually(lambda: ask(other, model="late~gpt-4o").status_code == 200, 10, "the other gateway knows it")
        client.delete("/v1/providers/late").raise_for_status()
        assert ask(client, model="late~gpt-4o").status_code == 404
        eventually(lambda: ask(other, model="late~gpt-4o").status_code == 404, 10, "the other gateway knows")


CANARY = "c4n4ryw0rd"


@pytest.mark.req("S0-24", "C20")
def test_a_word_of_a_prompt_is_in_no_log_metric_or_error(stack: Stack, client: httpx.Client, cloud: Cloud) -> None:
    texts: list[str] = []

    def tell(url: str, **more: Any) -> None:
        with httpx.Client(base_url=url, timeout=30.0, trust_env=False) as other:
            texts.append(ask(other, f"My word is {CANARY}. [tokens=3]", **more).text)
            body = {"model": "nomic-embed-text", "input": CANARY}
            texts.append(other.post("/v1/embeddings", json=body, headers=more.get("headers")).text)
            reset(other)

    for number in range(2):
        gateway = stack.gateways[number % 2].url
        tell(gateway)
        tell(gateway, model="cloud~gpt-4o")
        tell(gateway, model=f"cloud~{CANARY}"[:10])
        # Servers that repeat in their errors what they were asked.
        stack.simulator.misbehave("status", status=(400, 500)[number % 2], body=json.dumps({"error": f"no {CANARY}"}))
        cloud.misbehave(
            "status", status=(500, 400)[number % 2], body=json.dumps({"error": {"message": f"no {CANARY}"}})
        )
        tell(gateway)
        tell(gateway, headers=PRIVATE)
        tell(gateway, model="cloud~gpt-4o")
        stack.simulator.behave()
        cloud.behave()
    urls = [*(gateway.url for gateway in stack.gateways), *(worker.url for worker in stack.workers)]
    pages = [httpx.get(f"{url}/metrics", trust_env=False).text for url in urls]
    pages.append(client.get("/admin/dead-letters").text)
    # A caller's own words may come back to the caller, with the reason for which a server refused them.
    errors = [text for text in texts if '"error"' in text and '"backend_rejected"' not in text]
    assert len(errors) >= 6
    for name, found in (
        ("logs", "".join(program.log for program in (*stack.gateways, *stack.workers))),
        ("pages", "".join(pages)),
        ("errors", "".join(errors)),
    ):
        place = found.find(CANARY)
        assert place < 0, f"{name}: {found[max(0, place - 300) : place + 100]}"


class Listener:
    """A proxy that nobody ought to use: it counts who comes."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def callers(self) -> int:
        found = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                self._socket.accept()[0].close()
                found += 1
        return found

    def close(self) -> None:
        self._socket.close()


@pytest.mark.req("S3-22", "S3-31", "C6")
def test_in_airgap_mode_nobody_ever_calls_the_cloud(cloud: Cloud) -> None:
    cloud.forget()
    proxy = Listener()
    services = {"cloud": cloud.service(default_model="gpt-4o", models=["llama3.2"])}
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"), proxy.url)
    with Stack(
        AIRGAP_MODE="true", SERVICES=json.dumps(services), CLOUD_KEY=KEY, OLLAMA_MAX_RETRIES="2", **proxies
    ) as stack:
        stack.gateway(ALLOW_SERVICE_REGISTRATION="true")
        stack.worker(ALLOW_SERVICE_REGISTRATION="true")
        stack.wait()
        with stack.http() as client:
            assert ask(client).status_code == 200
            assert ask(client, model="cloud~gpt-4o").status_code == 404
            assert ask(client, model="gpt-4o").status_code == 404
            client.post("/v1/providers/health-check").raise_for_status()
            assert [model["id"] for model in client.get("/v1/models").json()["data"] if "gpt" in model["id"]] == []
            late = {"name": "late", "api_format": "openai", "urls": [cloud.url + "/v1"], "local": False}
            assert client.post("/v1/providers", json=late).status_code == 400
            stack.simulator.misbehave("refuse")
            failed = ask(client)
            assert (failed.status_code, failed.json()["error"]["code"]) == (503, "backend_unreachable")
    assert (cloud.requests, proxy.callers()) == ([], 0)
    proxy.close()
