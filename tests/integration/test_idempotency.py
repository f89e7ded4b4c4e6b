"""Idempotency-Key: the same request twice is one job and one call."""

from __future__ import annotations

import json
import secrets
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.integration.processes import eventually
from tests.integration.stack import LONG, Stack, chat_body, ended

QUESTION = chat_body("Why do llamas hum?")


@pytest.fixture
def key() -> dict[str, str]:
    return {"Idempotency-Key": secrets.token_hex(8)}


def test_a_call_repeated_is_one_call(client: httpx.Client, stack: Stack, key: dict[str, str]) -> None:
    first = client.post("/v1/chat/completions", json=QUESTION, headers=key)
    second = client.post("/v1/chat/completions", json=QUESTION, headers=key)
    assert second.status_code == 200
    assert second.json()["choices"] == first.json()["choices"]
    assert second.json()["id"] == first.json()["id"]
    job = first.headers["x-arriero-job-id"]
    assert second.headers["x-arriero-job-id"] == job
    assert len(stack.simulator.calls(job)) == 1


def test_calls_at_the_same_time_at_two_gateways_are_one_call(stack: Stack, key: dict[str, str]) -> None:
    def call(number: int) -> httpx.Response:
        url = f"{stack.gateways[number % 2].url}/v1/chat/completions"
        return httpx.post(url, json=QUESTION, headers=key, timeout=20, trust_env=False)

    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(call, range(6)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["choices"][0]["message"]["content"] for answer in answers}) == 1
    (job,) = {answer.headers["x-arriero-job-id"] for answer in answers}
    assert len(stack.simulator.calls(job)) == 1


def test_a_submitted_job_repeated_is_one_job(client: httpx.Client, stack: Stack, key: dict[str, str]) -> None:
    body = {"type": "chat.completion", "request": QUESTION}
    first = client.post("/v1/jobs", json=body, headers=key)
    job = first.json()["id"]
    ended(client, job)
    second = client.post("/v1/jobs", json=body, headers=key)
    assert second.status_code == 202
    assert second.json()["id"] == job
    assert second.json()["status"] == "succeeded"
    assert len(stack.simulator.calls(job)) == 1


def test_another_body_under_the_same_key_is_refused(client: httpx.Client, key: dict[str, str]) -> None:
    client.post("/v1/chat/completions", json=QUESTION, headers=key)
    other = client.post("/v1/chat/completions", json=chat_body("And alpacas?"), headers=key)
    assert other.status_code == 422
    assert other.json()["error"]["code"] == "idempotency_mismatch"


def test_a_repetition_joins_the_running_stream(stack: Stack, key: dict[str, str]) -> None:
    body = chat_body("Tell me about the Andes [tokens=500]", stream=True)

    before = len(stack.simulator.calls())

    def read(gateway: int) -> tuple[str, str]:
        url = f"{stack.gateways[gateway].url}/v1/chat/completions"
        answer = httpx.post(url, json=body, headers=key, timeout=20, trust_env=False)
        frames = [line for line in answer.text.splitlines() if line.startswith("data: {")]
        assert answer.text.endswith("data: [DONE]\n\n")
        return answer.headers["x-arriero-job-id"], "".join(_content(frame) for frame in frames)

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(read, 0)
        eventually(lambda: len(stack.simulator.calls()) > before, 5, "the stream is running")
        second = threads.submit(read, 1)
        assert first.result() == second.result()
    job, text = first.result()
    assert len(text) > 1000
    assert len(stack.simulator.calls(job)) == 1


def _content(frame: str) -> str:
    choices = json.loads(frame.removeprefix("data: "))["choices"]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def test_who_sent_a_key_may_leave_and_come_back(client: httpx.Client, stack: Stack, key: dict[str, str]) -> None:
    """Without a key the call ends with its client (next test); with one the answer is kept for it."""
    body = chat_body("Tell me about the Andes [tokens=400]")
    with pytest.raises(httpx.ReadTimeout):
        client.post("/v1/chat/completions", json=body, headers=key, timeout=0.3)
    again = client.post("/v1/chat/completions", json=body, headers=key)
    assert again.status_code == 200
    assert len(stack.simulator.calls(again.headers["x-arriero-job-id"])) == 1


def test_without_a_key_the_call_ends_with_its_client(client: httpx.Client, stack: Stack) -> None:
    before = {call["request_id"] for call in stack.simulator.calls()}
    with pytest.raises(httpx.ReadTimeout):
        client.post("/v1/chat/completions", json=chat_body(f"Count the stones {LONG}"), timeout=0.3)
    (job,) = {call["request_id"] for call in stack.simulator.calls()} - before
    eventually(lambda: stack.simulator.was_cancelled(job), 2, "call cancelled")
    assert ended(client, job)["status"] == "cancelled"
