"""Anthropic's face on the queue: messages, events, their end, what goes wrong, and in what words."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import jsonschema_rs
import pytest

from shared.errors import BackendFault, ModelNotFound
from shared.jobs import State
from shared.queue.running import RetryLater, RunningJob
from shared.wire.canonical import ChatRequest, Delta, Message, Sampling, TextAnswer, ToolCall, Usage
from shared.wire.codec import encode
from tests.conftest import WaitUntil
from tests.gateway.conftest import HandWorker, Served, StartGateway, answer, hello, say

ASK: dict[str, Any] = {"model": "llama3.2", "max_tokens": 64, "messages": [{"role": "user", "content": "hi"}]}
HELLO = "Hello from the other side"
MESSAGES = "/v1/messages"


async def ask(served: Served, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
    return await served.http.post(MESSAGES, json={**ASK, **more}, headers=headers)


def events(text: str) -> list[dict[str, Any]]:
    """The events of a stream; comments between them are passed over."""
    found = []
    for frame in text.split("\n\n"):
        lines = [line for line in frame.splitlines() if not line.startswith(":")]
        if lines:
            name, data = lines
            found.append(json.loads(data.removeprefix("data: ")))
            assert found[-1]["type"] == name.removeprefix("event: ")
    return found


def text_of(told: list[dict[str, Any]]) -> str:
    return "".join(event["delta"]["text"] for event in told if event["type"] == "content_block_delta")


@pytest.mark.req("S3-24")
async def test_a_message_in_one_piece(served: Served, worker: HandWorker) -> None:
    response = await ask(served, {"x-request-id": "mine", "anthropic-version": "2023-06-01"})
    assert response.status_code == 200
    job_id = worker.ran[0]
    assert response.json() == {
        "id": job_id.replace("job_", "msg_"),
        "type": "message",
        "role": "assistant",
        "model": "llama3.2",
        "content": [{"type": "text", "text": HELLO}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 3, "output_tokens": 5},
    }
    headers = response.headers
    assert (headers["request-id"], headers["x-request-id"]) == ("mine", "mine")
    assert (headers["x-arriero-job-id"], headers["x-arriero-attempts"]) == (job_id, "1")
    assert headers["x-arriero-model"] == "llama3.2:latest"
    job = (await served.http.get(f"/v1/jobs/{job_id}")).json()
    assert job["status"] == "succeeded"


@pytest.mark.req("S3-25")
async def test_a_stream_of_events(served: Served, worker: HandWorker) -> None:
    async def slowly(job: RunningJob) -> bytes:
        return await say(job, HELLO, pause_s=0.03)

    worker.script = slowly
    response = await ask(served, stream=True)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["request-id"] == response.headers["x-request-id"]
    told = [event for event in events(response.text) if event["type"] != "ping"]
    assert [event["type"] for event in (told[0], told[1], *told[-3:])] == [
        "message_start",
        "content_block_start",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert text_of(told) == HELLO
    assert len(told) > 6, "it came in several pieces"
    assert told[-2]["usage"] == {"input_tokens": 3, "output_tokens": 5}


@pytest.mark.req("S3-12", "C18")
async def test_what_the_worker_gets_and_the_client_is_told(served: Served, worker: HandWorker) -> None:
    asked: list[object] = []
    call = ToolCall(id="call_1", name="get_weather", arguments='{"city": "Lima"}')

    async def calls(job: RunningJob) -> bytes:
        asked.append(job.request())
        job.publish(Delta("", "hm"))
        job.publish(Delta(tool_calls=[call]))
        return encode(
            TextAnswer(model="m", thinking="hm", tool_calls=[call], finish_reason="tool_calls", usage=Usage())
        )

    worker.script = calls
    tool = {"name": "get_weather", "input_schema": {"type": "object"}}
    whole = (await ask(served, tools=[tool], system="Be brief.", temperature=0.25)).json()
    assert whole["content"][1] == {"type": "tool_use", "id": "call_1", "name": "get_weather", "input": {"city": "Lima"}}
    assert whole["stop_reason"] == "tool_use"
    streamed = events((await ask(served, tools=[tool], stream=True)).text)
    (piece,) = [event for event in streamed if event.get("delta", {}).get("type") == "input_json_delta"]
    assert json.loads(piece["delta"]["partial_json"]) == {"city": "Lima"}
    assert asked[0] == ChatRequest(
        model="llama3.2",
        messages=[Message(role="system", content="Be brief."), Message(role="user", content="hi")],
        sampling=Sampling(temperature=0.25, max_tokens=64),
        tools=[{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}],
    )


async def test_answers_are_as_described(served: Served, worker: HandWorker) -> None:
    schemas = (await served.http.get("/openapi.json")).json()["components"]

    def check(schema: str, body: Any) -> None:
        described = {"$ref": f"#/components/schemas/{schema}", "components": schemas}
        jsonschema_rs.Draft202012Validator(described).validate(body)

    check("AnthropicMessagesBody", ASK)
    check("AnthropicAnswer", (await ask(served)).json())
    check("AnthropicError", (await ask(served, max_tokens=0)).json())


async def test_an_early_failure_of_a_stream_has_its_own_status(served: Served, worker: HandWorker) -> None:
    async def fails(job: RunningJob) -> bytes:
        raise ModelNotFound("The model 'llama3.2' is not installed on any backend.")

    worker.script = fails
    response = await ask(served, stream=True)
    assert response.status_code == 404
    assert response.json() == {
        "type": "error",
        "error": {
            "type": "not_found_error",
            "message": "The model 'llama3.2' is not installed on any backend.",
            "code": "model_not_found",
        },
        "request_id": response.headers["request-id"],
    }
    assert response.headers["x-arriero-job-id"] == worker.ran[0]


async def test_a_failure_after_the_first_event_is_an_event(served: Served, worker: HandWorker) -> None:
    async def breaks(job: RunningJob) -> bytes:
        await say(job, "Hello", pause_s=0.1)
        raise BackendFault("The model server reported an internal error.")

    worker.script = breaks
    response = await ask(served, {"x-request-id": "mine"}, stream=True)
    *said, last = events(response.text)
    assert text_of(said) == "Hello"
    assert not any(event["type"] == "message_stop" for event in said)
    assert (last["type"], last["error"]["type"], last["error"]["code"]) == ("error", "api_error", "backend_fault")
    assert last["request_id"] == "mine"


async def test_silence_is_filled_with_pings(start_gateway: StartGateway, worker: HandWorker) -> None:
    served = await start_gateway(stream_keepalive=0.05, stream_grace=0.05)
    release = asyncio.Event()

    async def held(job: RunningJob) -> bytes:
        await release.wait()
        return await hello(job)

    worker.script = held
    got = ""
    async with served.http.stream("POST", MESSAGES, json={**ASK, "stream": True}) as response:
        async for piece in response.aiter_text():
            got += piece
            if "event: ping" in got:
                release.set()
    told = events(got)
    assert told[0] == {"type": "ping"}
    assert text_of(told) == HELLO
    assert told[-1]["type"] == "message_stop"
    assert got.startswith(": "), "a comment tells people where the job is"


async def test_a_run_that_starts_over_goes_on_or_says_so(served: Served, worker: HandWorker) -> None:
    texts = {1: "the cat", 2: "the cat sat"}

    async def again(job: RunningJob) -> bytes:
        await say(job, texts[job.attempt], pause_s=0.05)
        if job.attempt == 1:
            raise RetryLater(BackendFault(), 0.05)
        return answer(texts[2])

    worker.script = again
    assert text_of(events((await ask(served, stream=True)).text)) == "the cat sat"
    texts[2] = "the dog sat"
    broken = await ask(served, stream=True)
    last = events(broken.text)[-1]
    assert last["error"]["code"] == "stream_restarted"
    assert broken.headers["x-arriero-job-id"] in last["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_ends_its_job(
    served: Served, worker: HandWorker, wait_until: WaitUntil, stream: bool
) -> None:
    async def for_ever(job: RunningJob) -> bytes:
        while True:
            await say(job, "word", pause_s=0.05)

    worker.script = for_ever
    call = asyncio.create_task(ask(served, stream=stream))
    await wait_until(lambda: worker.ran, description="job running")
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await wait_until(lambda: worker.stopped == worker.ran, 5, description="job stopped")

    async def cancelled() -> bool:
        record = await served.queue.get(worker.ran[0])
        return record is not None and record.state is State.CANCELLED

    await wait_until(cancelled, 5, description="job cancelled")


async def test_one_idempotency_key_is_one_job(served: Served, worker: HandWorker) -> None:
    key = {"Idempotency-Key": "k-1"}
    first, second = [await ask(served, key) for _ in range(2)]
    assert first.json() == second.json()
    assert len(worker.ran) == 1
    streamed = await ask(served, {"Idempotency-Key": "k-2"}, stream=True)
    joined = await ask(served, {"Idempotency-Key": "k-2"}, stream=True)
    assert text_of(events(streamed.text)) == text_of(events(joined.text)) == HELLO
    assert len(worker.ran) == 2
    other = await ask(served, key, max_tokens=65)
    assert other.status_code == 422
    assert other.json()["error"]["code"] == "idempotency_mismatch"
