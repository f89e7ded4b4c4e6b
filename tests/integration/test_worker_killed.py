"""Two workers share the queue. One dies in the middle of an OpenAI stream: its client sees a pause, then the rest."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.integration.stack import SLOTS, Stack, Worker, chat_body, ended, submit

LEASE_LIMIT_S = 10.0
QUESTION = chat_body("Tell me about the Andes [tokens=300]")


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    # Slow enough to be killed in the middle.
    with Stack(simulator=("--tokens-per-second", "150", "--parallel", str(2 * SLOTS))) as stack:
        stack.gateway()
        stack.worker()
        stack.worker()
        stack.wait()
        yield stack


def frames(response: httpx.Response) -> Iterator[dict[str, Any]]:
    for line in response.iter_lines():
        if line.startswith("data: {"):
            yield json.loads(line.removeprefix("data: "))


def running_on(stack: Stack, client: httpx.Client, job: str) -> Worker:
    """The worker process that runs a job: its process id is part of the name by which the queue knows it."""
    name = client.get(f"/v1/jobs/{job}").json()["attempts"][-1]["worker"]
    (worker,) = (worker for worker in stack.workers if str(worker.pid) in name.split("."))
    return worker


@pytest.mark.req("S1-15")
def test_workers_share_the_queue(stack: Stack) -> None:
    with stack.http() as client:
        # More than one worker has slots for.
        jobs = [submit(client, chat_body(f"Number {number} [tokens=100]")) for number in range(2 * SLOTS)]
        workers = {ended(client, job)["attempts"][0]["worker"] for job in jobs}
        assert len(workers) == 2
    assert all(len(stack.simulator.calls(job)) == 1 for job in jobs)


def test_a_stream_outlives_its_worker(stack: Stack) -> None:
    with stack.http() as client:
        whole = client.post("/v1/chat/completions", json=QUESTION).json()["choices"][0]["message"]["content"]
        text, longest_pause_s, killed, last = "", 0.0, False, {}
        with client.stream("POST", "/v1/chat/completions", json={**QUESTION, "stream": True}, timeout=30) as response:
            job = response.headers["x-arriero-job-id"]
            heard_at = time.monotonic()
            for frame in frames(response):
                assert "error" not in frame, frame
                last = frame["choices"][0]
                text += last["delta"].get("content") or ""
                now = time.monotonic()
                longest_pause_s, heard_at = max(longest_pause_s, now - heard_at), now
                if len(text) > 300 and not killed:
                    running_on(stack, client, job).kill()
                    killed = True
        assert killed
        assert text == whole
        assert last["finish_reason"] == "stop"
        # The new run has to come to the same point first.
        assert longest_pause_s < LEASE_LIMIT_S + 2
        first, second = client.get(f"/v1/jobs/{job}").json()["attempts"]
        assert (first["outcome"], second["outcome"]) == ("crashed", "succeeded")
        assert first["worker"] != second["worker"]
        assert second["started_at"] - first["started_at"] < LEASE_LIMIT_S + 2
    assert len(stack.simulator.calls(job)) == 2
