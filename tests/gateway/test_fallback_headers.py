"""An answer says who gave it, in headers and body."""

from __future__ import annotations

import json

import pytest

from shared.queue.running import RunningJob
from shared.wire.canonical import TextAnswer
from shared.wire.codec import encode
from tests.gateway.conftest import HandWorker, Served, say

STAND_IN = encode(TextAnswer(model="mistral", content="Hello", fallback_from="llama3.2"))
STALE = encode(TextAnswer(model="llama3.2", content="Hello", cached=True))


async def stand_in(job: RunningJob) -> bytes:
    return STAND_IN


async def stand_in_streams(job: RunningJob) -> bytes:
    await say(job, "Hello")
    return STAND_IN


async def stale(job: RunningJob) -> bytes:
    return STALE


@pytest.mark.req("S1-12", "S1-45")
async def test_a_stand_in_is_named(served: Served, worker: HandWorker) -> None:
    worker.script = stand_in
    answer = await served.chat()
    assert answer.status_code == 200
    assert answer.headers["x-arriero-model"] == "mistral"
    assert answer.headers["x-arriero-fallback"] == "llama3.2->mistral"
    assert answer.headers["x-arriero-attempts"] == "1"
    assert "x-cache" not in answer.headers
    assert answer.json()["model"] == "mistral"


@pytest.mark.req("S1-48", "C19")
async def test_a_cached_answer_is_marked_as_stale(served: Served, worker: HandWorker) -> None:
    worker.script = stale
    answer = await served.chat()
    assert answer.headers["x-cache"] == "stale"
    assert "x-arriero-fallback" not in answer.headers


async def test_an_ordinary_answer_keeps_the_callers_spelling(served: Served, worker: HandWorker) -> None:
    answer = await served.chat()
    assert answer.json()["model"] == "llama3.2"
    assert not {"x-cache", "x-arriero-fallback"} & set(answer.headers)


async def test_the_last_frames_of_a_stream_name_the_stand_in(served: Served, worker: HandWorker) -> None:
    worker.script = stand_in_streams
    answer = await served.chat(stream=True, stream_options={"include_usage": True})
    frames = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    assert [frame["model"] for frame in frames[-2:]] == ["mistral", "mistral"]
    assert "".join(c["delta"].get("content") or "" for frame in frames for c in frame["choices"]) == "Hello"


async def test_a_stale_stream_has_its_whole_text(served: Served, worker: HandWorker) -> None:
    worker.script = stale
    answer = await served.chat(stream=True)
    assert '"Hello"' in answer.text
    assert answer.text.rstrip().endswith("[DONE]")
    assert answer.headers["x-cache"] == "stale"


@pytest.mark.parametrize(
    ("header", "private"), [("no-store", True), ("max-age=0, No-Store", True), ("no-cache", False)]
)
async def test_no_store_makes_a_job_private(served: Served, worker: HandWorker, header: str, private: bool) -> None:
    seen: list[tuple[bool, str]] = []

    async def note(job: RunningJob) -> bytes:
        seen.append((job.no_store, job.tenant))
        return STALE

    worker.script = note
    await served.chat(headers={"Cache-Control": header})
    body = {"type": "chat.completion", "request": {"model": "m", "messages": [{"role": "user", "content": "x"}]}}
    job = await served.http.post("/v1/jobs", json=body, headers={"Cache-Control": header})
    await served.http.get(job.headers["Location"], params={"wait": 10})
    assert [one for one, _ in seen] == [private, private]
    assert all(tenant for _, tenant in seen)
