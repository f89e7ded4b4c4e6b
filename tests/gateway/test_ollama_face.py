"""Ollama's face on the queue: lines, their end, what goes wrong, and in what words."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import jsonschema_rs
import ollama
import pytest

from infra.simulator.app import listening
from infra.simulator.settings import SimulatorSettings
from shared.api_keys import Role, as_key_store, create_key
from shared.errors import BackendFault, ModelNotFound
from shared.jobs import State
from shared.queue.running import RetryLater, RunningJob
from shared.wire.canonical import ChatRequest, CompletionRequest, EmbeddingAnswer, EmbeddingRequest, pack_vector
from shared.wire.codec import encode
from tests.conftest import WaitUntil
from tests.gateway.conftest import HandWorker, Served, StartGateway, answer, hello, say

CHAT: dict[str, Any] = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}]}
HELLO = "Hello from the other side"


async def chat(served: Served, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
    return await served.http.post("/api/chat", json={**CHAT, **more}, headers=headers)


def lines(text: str) -> list[dict[str, Any]]:
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def text_of(told: list[dict[str, Any]]) -> str:
    return "".join(line["message"]["content"] for line in told if "message" in line)


@pytest.mark.req("S2-24", "S2-35", "S0-38", "C26")
async def test_a_chat_streams_unless_told_otherwise(served: Served, worker: HandWorker) -> None:
    async def slowly(job: RunningJob) -> bytes:
        return await say(job, HELLO, pause_s=0.03)

    worker.script = slowly
    response = await chat(served, {"x-request-id": "mine"})
    assert response.status_code == 200
    headers = response.headers
    assert headers["content-type"] == "application/x-ndjson"
    assert headers["x-accel-buffering"] == "no"
    assert (headers["x-arriero-job-id"], headers["x-request-id"]) == (worker.ran[0], "mine")
    *said, last = lines(response.text)
    assert text_of(said) == HELLO
    assert len(said) > 3, "it came in several pieces"
    assert not any(line["done"] for line in said)
    assert (last["done"], last["done_reason"], last["eval_count"]) == (True, "stop", 5)
    assert last["model"] == "llama3.2", "the name asked for is echoed"


@pytest.mark.req("S2-24")
async def test_the_operator_may_choose_the_other_default(start_gateway: StartGateway, worker: HandWorker) -> None:
    served = await start_gateway(ollama_streaming=False)
    assert (await chat(served)).json()["message"]["content"] == HELLO
    assert len(lines((await chat(served, stream=True)).text)) > 1
    openai = await served.http.post("/v1/chat/completions", json=CHAT)
    assert openai.headers["content-type"].startswith("application/json"), "/v1 has OpenAI's default, whatever it is"


async def test_an_answer_in_one_piece(served: Served, worker: HandWorker) -> None:
    response = await chat(served, stream=False)
    assert response.headers["content-type"].startswith("application/json")
    body = response.json()
    assert body["message"] == {"role": "assistant", "content": HELLO}
    assert (body["done"], body["prompt_eval_count"]) == (True, 3)
    assert response.headers["x-arriero-model"] == "llama3.2:latest"
    assert response.headers["x-arriero-attempts"] == "1"
    job = (await served.http.get(f"/v1/jobs/{response.headers['x-arriero-job-id']}")).json()
    assert job["status"] == "succeeded"
    assert body["total_duration"] >= (job["finished_at"] - job["created_at"] - 0.01) * 1e9, "it holds the wait"


async def test_each_route_asks_for_its_own_kind_of_job(served: Served, worker: HandWorker) -> None:
    asked: list[object] = []

    async def note(job: RunningJob) -> bytes:
        asked.append(job.request())
        if isinstance(asked[-1], EmbeddingRequest):
            return encode(EmbeddingAnswer(model="m", vectors=[pack_vector([0.5])] * len(asked[-1].inputs)))
        return answer("said")

    worker.script = note
    generated = await served.http.post("/api/generate", json={"model": "m", "prompt": "p", "stream": False})
    assert generated.json()["response"] == "said"
    embedded = await served.http.post("/api/embed", json={"model": "m", "input": ["a", "b"]})
    assert embedded.json()["embeddings"] == [[0.5], [0.5]]
    one = await served.http.post("/api/embeddings", json={"model": "m", "prompt": "a"})
    assert one.json() == {"embedding": [0.5]}
    assert asked == [
        CompletionRequest(model="m", prompt="p"),
        EmbeddingRequest(model="m", inputs=["a", "b"]),
        EmbeddingRequest(model="m", inputs=["a"]),
    ]


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
async def test_an_order_to_load_is_a_job_and_one_object(served: Served, worker: HandWorker, path: str) -> None:
    async def load(job: RunningJob) -> bytes:
        request = job.request()
        assert isinstance(request, ChatRequest | CompletionRequest)
        return answer("")

    worker.script = load
    response = await served.http.post(path, json={"model": "llama3.2"})
    assert response.headers["x-arriero-job-id"] == worker.ran[0]
    body = response.json()
    assert (body["done"], body["done_reason"]) == (True, "load")
    assert "total_duration" not in body


async def test_answers_are_as_described(start_gateway: StartGateway, worker: HandWorker) -> None:
    async with listening(SimulatorSettings(port=0, load_seconds=0)) as simulator:
        served = await start_gateway(ollama_base_urls=[simulator.url])
        schemas = (await served.http.get("/openapi.json")).json()["components"]

        def check(schema: str, response: httpx.Response) -> None:
            assert response.status_code == 200, response.text
            described = {"$ref": f"#/components/schemas/{schema}", "components": schemas}
            for line in response.text.splitlines():
                jsonschema_rs.Draft202012Validator(described).validate(json.loads(line))

        async def answer_all(job: RunningJob) -> bytes:
            if isinstance(job.request(), EmbeddingRequest):
                return encode(EmbeddingAnswer(model="m", vectors=[pack_vector([0.5])]))
            return await hello(job)

        worker.script = answer_all
        check("OllamaChat", await chat(served))
        check("OllamaChat", await chat(served, stream=False))
        check("OllamaChat", await chat(served, messages=[]))
        prompt = {"model": "llama3.2", "prompt": "a"}
        check("OllamaGeneration", await served.http.post("/api/generate", json=prompt))
        check("OllamaVectors", await served.http.post("/api/embed", json={"model": "llama3.2", "input": "a"}))
        check("OllamaVector", await served.http.post("/api/embeddings", json=prompt))
        await served.http.post(f"{simulator.url}/api/generate", json={"model": "llama3.2"})
        for path, schema in [("tags", "OllamaModels"), ("ps", "OllamaResidents"), ("version", "OllamaVersion")]:
            check(schema, await served.http.get(f"/api/{path}"))
        check("OllamaModelDetails", await served.http.post("/api/show", json={"name": "llama3.2"}))


async def test_an_order_to_unload_is_left_to_operators(served: Served) -> None:
    response = await served.http.post("/api/generate", json={"model": "llama3.2", "keep_alive": 0})
    assert response.status_code == 403
    assert "arriero models unload llama3.2" in response.json()["error"]


async def test_an_early_failure_of_a_stream_has_its_own_status(served: Served, worker: HandWorker) -> None:
    async def fails(job: RunningJob) -> bytes:
        raise ModelNotFound("The model 'llama3.2' is not installed on any backend.")

    worker.script = fails
    response = await chat(served)
    assert response.status_code == 404
    assert response.json() == {"error": "The model 'llama3.2' is not installed on any backend."}
    assert response.headers["x-arriero-job-id"] == worker.ran[0]


async def test_a_failure_after_the_first_line_is_the_last_line(served: Served, worker: HandWorker) -> None:
    async def breaks(job: RunningJob) -> bytes:
        await say(job, "Hello", pause_s=0.1)
        raise BackendFault("The model server reported an internal error.")

    worker.script = breaks
    *said, last = lines((await chat(served)).text)
    assert text_of(said) == "Hello"
    assert last == {"error": "The model server reported an internal error."}


async def test_a_long_silence_is_filled_with_blanks(
    start_gateway: StartGateway, worker: HandWorker, wait_until: WaitUntil
) -> None:
    served = await start_gateway(stream_keepalive=0.05)
    release = asyncio.Event()

    async def held(job: RunningJob) -> bytes:
        await release.wait()
        return await hello(job)

    worker.script = held
    got = b""
    async with served.http.stream("POST", "/api/chat", json=CHAT) as response:
        assert response.headers["x-arriero-job-id"].startswith("job_")
        async for piece in response.aiter_raw():
            got += piece
            release.set()
    assert got.startswith(b" ")
    told = lines(got.decode())
    assert text_of(told) == HELLO
    assert told[-1]["done"]


async def test_the_client_library_passes_over_the_blanks(start_gateway: StartGateway, worker: HandWorker) -> None:
    served = await start_gateway(stream_keepalive=0.02)

    async def slowly(job: RunningJob) -> bytes:
        return await say(job, HELLO, pause_s=0.1)

    worker.script = slowly
    async with ollama.AsyncClient(host=f"http://127.0.0.1:{served.port}") as client:
        parts = [part async for part in await client.chat("llama3.2", CHAT["messages"], stream=True)]
    assert "".join(part.message.content or "" for part in parts) == HELLO


async def test_a_run_that_starts_over_goes_on_or_says_so(served: Served, worker: HandWorker) -> None:
    texts = {1: "the cat", 2: "the cat sat"}

    async def again(job: RunningJob) -> bytes:
        await say(job, texts[job.attempt], pause_s=0.05)
        if job.attempt == 1:
            raise RetryLater(BackendFault(), 0.05)
        return answer(texts[2])

    worker.script = again
    assert text_of(lines((await chat(served)).text)) == "the cat sat"
    texts[2] = "the dog sat"
    broken = await chat(served)
    last = lines(broken.text)[-1]
    assert broken.headers["x-arriero-job-id"] in last["error"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_ends_its_job(
    served: Served, worker: HandWorker, wait_until: WaitUntil, stream: bool
) -> None:
    async def for_ever(job: RunningJob) -> bytes:
        while True:
            await say(job, "word", pause_s=0.05)

    worker.script = for_ever
    call = asyncio.create_task(chat(served, stream=stream))
    await wait_until(lambda: worker.ran, description="job running")
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await wait_until(lambda: worker.stopped == worker.ran, 3, description="job stopped")

    async def cancelled() -> bool:
        record = await served.queue.get(worker.ran[0])
        return record is not None and record.state is State.CANCELLED

    await wait_until(cancelled, 3, description="job cancelled")


async def test_one_idempotency_key_is_one_job(served: Served, worker: HandWorker) -> None:
    key = {"Idempotency-Key": "k-1"}
    first, second = [await chat(served, key, stream=False) for _ in range(2)]
    assert first.json()["message"] == second.json()["message"]
    assert len(worker.ran) == 1
    streamed = await chat(served, {"Idempotency-Key": "k-2"})
    joined = await chat(served, {"Idempotency-Key": "k-2"})
    assert text_of(lines(streamed.text)) == text_of(lines(joined.text)) == HELLO
    assert len(worker.ran) == 2
    other = await chat(served, key, stream=False, think=False)
    assert other.status_code == 422


async def test_a_deadline_from_the_client(served: Served) -> None:
    response = await chat(served, {"x-arriero-deadline-seconds": "0.5"})
    assert response.status_code == 504
    assert isinstance(response.json()["error"], str)


async def test_a_full_queue(start_gateway: StartGateway) -> None:
    served = await start_gateway(max_queue_depth=1)
    await served.http.post("/v1/chat/completions", json=CHAT, headers={"Prefer": "respond-async"})
    refused = await chat(served)
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 120
    assert isinstance(refused.json()["error"], str)


async def test_keys_and_roles_are_the_gateway_s(served: Served) -> None:
    store = as_key_store(served.queue.redis)
    text, _ = await create_key(store, "gw", tenant="t", role=Role.INFERENCE)
    key = {"Authorization": f"Bearer {text}"}
    assert (await served.http.post("/api/pull", json={"model": "x"}, headers=key)).status_code == 403
    for method, path in [("POST", "/api/chat"), ("GET", "/api/tags"), ("GET", "/api/version"), ("POST", "/api/pull")]:
        stranger = await served.http.request(method, path)
        assert stranger.status_code == 401
        assert isinstance(stranger.json()["error"], str)
    assert (await chat(served, {**key, "x-arriero-deadline-seconds": "0.1"})).status_code == 504
    assert (await served.http.head("/")).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "says"),
    [
        ("POST", "/api/chat", b"", 400, "empty"),
        ("POST", "/api/chat", b"{", 400, "not valid JSON"),
        ("POST", "/api/chat", b"{}", 400, "`model`"),
        ("POST", "/api/show", b"{}", 400, "`model`"),
        ("POST", "/api/generate", b'{"model":"m","prompt":"a","context":[1]}', 400, "`context`"),
        ("POST", "/api/chat", b" " * 2000, 413, "larger"),
        ("GET", "/api/chat", b"", 405, "POST"),
        ("GET", "/api/unheard", b"", 404, "Unknown path"),
        ("POST", "/api/pull", b'{"model":"m"}', 403, "arriero models pull"),
        ("DELETE", "/api/delete", b'{"model":"m"}', 403, "arriero models cleanup"),
        ("POST", "/api/create", b"", 403, "ollama create"),
        ("POST", "/api/copy", b"", 403, "ollama cp"),
        ("POST", "/api/push", b"", 403, "ollama push"),
        ("POST", "/api/blobs/sha256:00", b"abc", 403, "ollama create"),
        ("GET", "/api/tags", b"", 503, "No model host answers"),
        ("GET", "/api/ps", b"", 503, "No model host answers"),
        ("GET", "/api/version", b"", 503, "No model host answers"),
        ("POST", "/api/show", b'{"model":"m"}', 503, "No model host answers"),
    ],
)
async def test_every_refusal_is_one_text(
    start_gateway: StartGateway, method: str, path: str, body: bytes, status: int, says: str
) -> None:
    served = await start_gateway(max_body_bytes=1024)
    response = await served.http.request(method, path, content=body)
    assert response.status_code == status
    assert list(response.json()) == ["error"]
    assert says in response.json()["error"]
    assert ("retry-after" in response.headers) == (status == 503)


async def test_json_under_any_name_but_not_from_a_web_page(served: Served, worker: HandWorker) -> None:
    body = json.dumps({**CHAT, "stream": False}).encode()
    as_curl_sends_it = {"Content-Type": "application/x-www-form-urlencoded"}
    assert (await served.http.post("/api/chat", content=body, headers=as_curl_sends_it)).status_code == 200
    page = {"Content-Type": "text/plain", "Origin": "https://elsewhere.example"}
    assert (await served.http.post("/api/chat", content=body, headers=page)).status_code == 415
    openai = await served.http.post("/v1/chat/completions", content=body, headers=as_curl_sends_it)
    assert openai.status_code == 415
