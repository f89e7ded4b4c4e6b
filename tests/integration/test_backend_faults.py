"""What a misbehaving model host costs: which failures are tried again, and how the others are told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.integration.stack import Stack, chat_body, ended, submit

# Of its own model, so that nobody else's calls use up a fault's count.
MODEL = "mistral"
QUESTION = chat_body("Why do llamas hum?", model=MODEL)
ONCE: dict[str, Any] = {"count": 1, "match": {"model": MODEL}}
ALWAYS: dict[str, Any] = {"match": {"model": MODEL}}
BROKEN = {"status": 500, "body": '{"error": "nil pointer"}'}
RUNNER_STOPPED = {"status": 500}
"""The simulator's own words for it are the model runner's."""


@pytest.fixture(autouse=True)
def closed_circuits(client: httpx.Client) -> None:
    """What one test broke must not make the next one wait."""
    client.post("/admin/circuits/reset", json={}).raise_for_status()


@pytest.fixture
def whole_text(client: httpx.Client) -> str:
    """The answer as it is when nothing goes wrong."""
    answer = client.post("/v1/chat/completions", json=QUESTION).json()
    text: str = answer["choices"][0]["message"]["content"]
    return text


@pytest.mark.parametrize(
    ("kind", "fields", "code"),
    [
        ("status", BROKEN, "backend_fault"),
        ("status", RUNNER_STOPPED, "model_fault"),
        ("status", {"status": 503}, "backend_busy"),
        ("refuse", {}, "backend_unreachable"),
        ("cut", {"after_tokens": 5}, "backend_protocol_error"),
        ("garbage", {"variant": "truncated_json"}, "backend_protocol_error"),
        ("garbage", {"variant": "html"}, "backend_protocol_error"),
        ("no_done", {}, "answer_incomplete"),
    ],
)
def test_a_failure_before_the_client_saw_anything_is_tried_again(
    stack: Stack, client: httpx.Client, whole_text: str, kind: str, fields: dict[str, Any], code: str
) -> None:
    stack.simulator.misbehave(kind, **fields, **ONCE)
    answer = client.post("/v1/chat/completions", json=QUESTION)
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"] == whole_text
    assert answer.headers["x-arriero-attempts"] == "2"
    job = answer.headers["x-arriero-job-id"]
    assert len(stack.simulator.calls(job)) == 2
    first, second = client.get(f"/v1/jobs/{job}").json()["attempts"]
    assert (first["outcome"], first["error"]["code"]) == ("retried", code)
    assert second["outcome"] == "succeeded"


@pytest.mark.parametrize(
    ("kind", "fields", "status", "code"),
    [
        ("status", BROKEN, 502, "backend_fault"),
        ("status", {"status": 503}, 503, "backend_busy"),
        ("cut", {}, 502, "backend_protocol_error"),
        ("no_done", {}, 502, "answer_incomplete"),
    ],
)
def test_a_failure_that_stays_ends_after_three_tries(
    stack: Stack, client: httpx.Client, kind: str, fields: dict[str, Any], status: int, code: str
) -> None:
    stack.simulator.misbehave(kind, **fields, **ALWAYS)
    answer = client.post("/v1/chat/completions", json=QUESTION)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    # The tries are used up, and a client library must not multiply them by its own, unless it was told a time.
    assert answer.headers["x-should-retry"] == ("true" if code == "backend_busy" else "false")
    job = client.get(f"/v1/jobs/{answer.headers['x-arriero-job-id']}").json()
    assert job["status"] == "dead_lettered"
    assert len(job["attempts"]) == 3
    assert len(stack.simulator.calls(job["id"])) == 3


def test_what_the_host_calls_the_caller_s_fault_is_not_tried_again(stack: Stack, client: httpx.Client) -> None:
    stack.simulator.misbehave("status", status=400, body='{"error": "no such option"}', **ALWAYS)
    answer = client.post("/v1/chat/completions", json=QUESTION)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "backend_rejected"
    assert "no such option" in answer.json()["error"]["message"]
    assert len(stack.simulator.calls(answer.headers["x-arriero-job-id"])) == 1


def test_the_host_s_retry_after_is_obeyed(stack: Stack, client: httpx.Client) -> None:
    stack.simulator.misbehave("status", status=503, retry_after=2, **ONCE)
    answer = client.post("/v1/chat/completions", json=QUESTION)
    assert answer.status_code == 200
    first, second = client.get(f"/v1/jobs/{answer.headers['x-arriero-job-id']}").json()["attempts"]
    assert first["error"]["retry_after_seconds"] == 2
    assert second["started_at"] - first["ended_at"] >= 1.9


def stream(client: httpx.Client, body: dict[str, Any]) -> tuple[str, list[dict[str, Any]]]:
    """The text of a stream, and its frames."""
    lines = client.post("/v1/chat/completions", json={**body, "stream": True}).text.splitlines()
    frames = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    spoken = (choice["delta"].get("content") or "" for frame in frames for choice in frame.get("choices", ()))
    return "".join(spoken), frames


@pytest.mark.parametrize(
    ("kind", "code"),
    [("cut", "backend_protocol_error"), ("garbage", "backend_protocol_error"), ("no_done", "answer_incomplete")],
)
def test_an_openai_stream_that_breaks_ends_in_words(
    stack: Stack, client: httpx.Client, whole_text: str, kind: str, code: str
) -> None:
    """Its client has begun to read, so there is no second try behind its back."""
    stack.simulator.misbehave(kind, after_tokens=10, **ALWAYS)
    text, frames = stream(client, QUESTION)
    assert text
    assert whole_text.startswith(text)
    assert frames[-1]["error"]["code"] == code
    job = frames[0]["id"].replace("chatcmpl-", "job_")
    assert len(stack.simulator.calls(job)) == 1


def test_a_failure_before_the_first_chunk_of_a_stream_has_its_own_status(stack: Stack, client: httpx.Client) -> None:
    stack.simulator.misbehave("status", status=400, **ALWAYS)
    answer = client.post("/v1/chat/completions", json={**QUESTION, "stream": True})
    assert answer.status_code == 400
    assert answer.headers["Content-Type"].startswith("application/json")


def test_a_followed_job_starts_over_and_says_so(stack: Stack, client: httpx.Client, whole_text: str) -> None:
    stack.simulator.misbehave("cut", after_tokens=30, **ONCE)
    job = submit(client, QUESTION)
    seen: list[tuple[str, Any]] = list(_events(client, job))
    names = [name for name, _ in seen]
    assert names.count("restart") == 1
    since = names.index("restart")
    assert "chunk" in names[:since]
    again = (delta.get("content", "") for name, data in seen[since:] if name == "chunk" for delta in data["deltas"])
    assert "".join(again) == whole_text
    record = ended(client, job)
    assert record["status"] == "succeeded"
    assert [attempt["outcome"] for attempt in record["attempts"]] == ["retried", "succeeded"]


def _events(client: httpx.Client, job: str) -> Iterator[tuple[str, Any]]:
    for block in client.get(f"/v1/jobs/{job}/events").text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line and not line.startswith(":"))
        if fields:
            yield fields["event"], json.loads(fields["data"])
