"""One id from the client through gateway and worker to the model server, in every log line that is about its job."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.processes import eventually
from tests.integration.stack import Stack, chat_body

TRACE = "client-trace.42"
SECRET = "a-prompt-that-nobody-logs"


@pytest.fixture(scope="module")
def log_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs") / "all.log"


@pytest.fixture(scope="module")
def stack(log_file: Path) -> Iterator[Stack]:
    """Gateway and worker log into one file, with all details."""
    with Stack(LOG_FILE=str(log_file), LOG_FILE_LEVEL="DEBUG", LOG_LEVEL="ERROR", OLLAMA_MAX_RETRIES="2") as stack:
        stack.gateway()
        stack.worker()
        stack.wait()
        yield stack


def about(log_file: Path, request_id: str) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in log_file.read_text().splitlines()]
    return [line for line in lines if line.get("request_id") == request_id]


@pytest.mark.req("S0-26", "S0-28", "S4-66")
def test_the_lines_of_a_job_carry_its_ids_and_its_figures(stack: Stack, log_file: Path) -> None:
    with stack.http() as client:
        answer = client.post("/v1/chat/completions", json=chat_body(SECRET), headers={"x-request-id": TRACE})
    assert answer.status_code == 200
    job_id = answer.headers["x-arriero-job-id"]
    eventually(
        lambda: {"http.request", "job.settled"} <= {line["event"] for line in about(log_file, TRACE)}, 10, "both lines"
    )
    lines = {str(line["event"]): line for line in about(log_file, TRACE)}
    request, settled = lines["http.request"], lines["job.settled"]
    assert (request["service"], settled["service"]) == ("gateway", "worker")
    assert request["job_id"] == settled["job_id"] == job_id
    assert settled["model"] == "llama3.2"
    usage = answer.json()["usage"]
    assert (settled["prompt_tokens"], settled["completion_tokens"]) == (
        usage["prompt_tokens"],
        usage["completion_tokens"],
    )
    for figure in ("seconds", "queue_wait_s"):
        value = settled[figure]
        assert isinstance(value, float)
        assert 0 <= value < 60
    assert isinstance(request["ms"], float)
    assert SECRET not in log_file.read_text()


@pytest.mark.req("S0-27")
def test_a_failure_is_found_by_the_same_id(stack: Stack, log_file: Path) -> None:
    stack.simulator.misbehave("status", status=500)
    try:
        with stack.http() as client:
            answer = client.post("/v1/chat/completions", json=chat_body("x"), headers={"x-request-id": f"{TRACE}.b"})
    finally:
        stack.simulator.behave()
    assert answer.status_code >= 500
    eventually(
        lambda: [line["attempt"] for line in about(log_file, f"{TRACE}.b") if line["event"] == "job.failed"] == [1, 2],
        10,
        "a line for each try",
    )
