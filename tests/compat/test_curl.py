"""curl: what a person sees who looks at the wire."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.processes import eventually
from tests.integration.stack import LONG, Stack, chat_body, ended, submit

CURL = shutil.which("curl")
pytestmark = pytest.mark.skipif(CURL is None, reason="curl is not installed")
LIMIT_S = 20


def curl(*arguments: str) -> str:
    assert CURL is not None
    done = subprocess.run(
        [CURL, "-sS", "--max-time", str(LIMIT_S), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def json_arguments(body: dict[str, Any]) -> list[str]:
    return ["-H", "Content-Type: application/json", "-d", json.dumps(body)]


def events(text: str) -> Iterator[tuple[str, str, Any]]:
    """(id, name, data) of each event."""
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line and not line.startswith(":"))
        if fields:
            yield fields.get("id", ""), fields.get("event", ""), json.loads(fields["data"])


@contextlib.contextmanager
def streaming(stack: Stack, body: dict[str, Any]) -> Iterator[Iterator[str]]:
    """The lines of a chat as they come, from a curl that is killed at the end of the block."""
    assert CURL is not None
    url = f"{stack.url}/v1/chat/completions"
    with subprocess.Popen(
        [CURL, "-sSN", "--max-time", str(LIMIT_S), *json_arguments(body), url], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield iter(process.stdout.readline, "")
        finally:
            process.kill()


def test_a_chat_and_its_headers(stack: Stack) -> None:
    answer = curl("-i", f"{stack.url}/v1/chat/completions", *json_arguments(chat_body("Why do llamas hum?")))
    head, _, body = answer.replace("\r\n", "\n").partition("\n\n")
    assert head.startswith("HTTP/1.1 200")
    assert "x-arriero-job-id: job_" in head
    assert "Why do llamas hum" in json.loads(body)["choices"][0]["message"]["content"]


@pytest.mark.req("S0-38", "S4-47")
def test_a_stream_ends_in_words_and_is_not_to_be_buffered(stack: Stack) -> None:
    body = chat_body("Why do llamas hum?", stream=True)
    answer = curl("-iN", f"{stack.url}/v1/chat/completions", *json_arguments(body)).replace("\r\n", "\n")
    head, _, text = answer.partition("\n\n")
    assert "transfer-encoding: chunked" in head.lower()
    assert "x-accel-buffering: no" in head.lower()
    assert "cache-control: no-cache" in head.lower()
    assert text.endswith("data: [DONE]\n\n")
    assert '"finish_reason":"stop"' in text


def test_a_waiting_stream_tells_its_position(stack: Stack) -> None:
    with stack.http() as http, stack.full_slots(http) as busy:
        ahead = submit(http, chat_body("The one ahead"))
        with streaming(stack, chat_body("Why do llamas hum?", stream=True)) as lines:
            comment = next(line for line in lines if "position=" in line)
            for job in busy:
                http.delete(f"/v1/jobs/{job}")
            rest = "".join(lines)
        assert comment.startswith(": queued position=2")
        assert rest.endswith("data: [DONE]\n\n")
        assert ended(http, ahead)["status"] == "succeeded"


def test_a_job_s_events_go_on_after_the_last_one_seen(stack: Stack) -> None:
    with stack.http() as http:
        job = submit(http, chat_body("Why do llamas hum?"))
        whole = list(events(curl("-N", f"{stack.url}/v1/jobs/{job}/events")))
        assert [name for _, name, _ in whole] == ["started", *["chunk"] * (len(whole) - 2), "ended"]
        middle = len(whole) // 2
        last_seen = whole[middle][0]
        rest = list(events(curl("-N", f"{stack.url}/v1/jobs/{job}/events", "-H", f"Last-Event-ID: {last_seen}")))
        assert rest == whole[middle + 1 :]


def test_leaving_a_stream_ends_the_call_upstream(stack: Stack) -> None:
    before = {call["request_id"] for call in stack.simulator.calls()}
    with streaming(stack, chat_body(f"Count the stones {LONG}", stream=True)) as lines:
        assert next(lines)
    (job,) = {call["request_id"] for call in stack.simulator.calls()} - before
    eventually(lambda: stack.simulator.was_cancelled(job), 2, "call cancelled")
