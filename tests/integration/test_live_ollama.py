"""Against an Ollama that is not ours: run with OLLAMA_TEST_URL=http://localhost:11434 python -m pytest <this file>.

OLLAMA_TEST_MODEL names the model to ask, else the smallest installed one that is not for embeddings. Nothing is pulled,
deleted or unloaded there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import httpx
import pytest

from tests.integration.stack import Stack

URL = os.environ.get("OLLAMA_TEST_URL", "").rstrip("/")
pytestmark = [
    pytest.mark.skipif(not URL, reason="no live Ollama: OLLAMA_TEST_URL names none"),
    pytest.mark.timeout(600),
]
ANSWER_WITHIN_S = 300.0
"""A cold model has to be read from disk first."""


@pytest.fixture(scope="module")
def model() -> str:
    if given := os.environ.get("OLLAMA_TEST_MODEL"):
        return given
    listed = httpx.get(f"{URL}/api/tags", timeout=10, trust_env=False).raise_for_status().json()["models"]
    talking = [one for one in listed if "embed" not in one["name"] and "bert" not in str(one.get("details"))]
    assert talking, f"{URL} has no model to talk to: `ollama pull llama3.2`, or name one in OLLAMA_TEST_MODEL"
    return str(min(talking, key=lambda one: one["size"])["name"])


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with Stack() as stack:
        stack.gateway(OLLAMA_BASE_URL=URL)
        stack.worker(OLLAMA_BASE_URL=URL)
        stack.wait()
        with stack.http() as client:
            client.timeout = httpx.Timeout(ANSWER_WITHIN_S)
            yield client


def question(model: str, text: str) -> dict[str, object]:
    messages = [{"role": "user", "content": text}]
    return {"model": model, "messages": messages, "max_tokens": 32, "temperature": 0, "seed": 1}


@pytest.mark.req("S3-43")
def test_a_chat_is_answered(client: httpx.Client, model: str) -> None:
    answer = client.post("/v1/chat/completions", json=question(model, "Say hello in one word."))
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["choices"][0]["message"]["content"].strip()
    assert body["usage"]["completion_tokens"] > 0
    assert answer.headers["x-arriero-attempts"] == "1"


@pytest.mark.req("S3-43")
def test_a_chat_streams(client: httpx.Client, model: str) -> None:
    body = {**question(model, "Count from one to five."), "stream": True}
    with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        assert answer.status_code == 200
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    deltas = [json.loads(line)["choices"][0]["delta"].get("content") or "" for line in lines[:-1]]
    assert sum(bool(delta) for delta in deltas) >= 2
    assert "".join(deltas).strip()


@pytest.mark.req("S3-43")
def test_its_models_are_listed_and_an_unknown_one_is_404(client: httpx.Client, model: str) -> None:
    listed = [one["id"] for one in client.get("/v1/models").json()["data"]]
    assert model in listed
    refused = client.post("/v1/chat/completions", json=question("no-such-model-anywhere", "hi"))
    assert refused.status_code == 404


@pytest.mark.req("S3-43")
def test_it_is_probed_and_healthy(client: httpx.Client) -> None:
    assert client.get("/health/ollama").json()["status"] == "ok"
