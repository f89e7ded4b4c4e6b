"""A call's whole way through the gateway and the queue, with a worker the test plays."""

from __future__ import annotations

import asyncio

import pytest

from shared.backends.base import ModelInfo
from shared.errors import BackendFault, ModelNotFound
from shared.jobs import State
from shared.queue.running import RunningJob
from shared.wire.canonical import EmbeddingAnswer, pack_vector
from shared.wire.codec import encode
from tests.conftest import WaitUntil
from tests.gateway.conftest import CHAT, HandWorker, Served, StartGateway, frames, hello, say, streamed_text
from tests.gateway.offers import Offers


@pytest.mark.req("S1-03", "S1-08", "D-01", "D-02")
async def test_a_chat_is_answered_through_the_queue(served: Served, worker: HandWorker) -> None:
    response = await served.chat({"x-request-id": "my-request.1"})
    body = response.json()
    assert response.status_code == 200
    assert body["choices"][0]["message"]["content"] == "Hello from the other side"
    assert body["usage"] == {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    assert body["model"] == "llama3.2", "the name asked for is echoed"
    headers = response.headers
    assert headers["x-request-id"] == "my-request.1"
    assert headers["x-arriero-job-id"] == worker.ran[0]
    assert headers["x-arriero-model"] == "llama3.2:latest"
    assert headers["x-arriero-attempts"] == "1"
    assert int(headers["x-arriero-queue-ms"]) >= 0
    assert int(headers["openai-processing-ms"]) >= 0
    job = (await served.http.get(f"/v1/jobs/{headers['x-arriero-job-id']}")).json()
    assert job["status"] == "succeeded"
    assert job["request_id"] == "my-request.1"


async def test_a_request_id_that_could_harm_a_log_is_replaced(served: Served, worker: HandWorker) -> None:
    response = await served.chat({"x-request-id": "a b\tc" + "x" * 200})
    assert response.headers["x-request-id"].startswith("req_")


@pytest.mark.req("S1-04")
async def test_embeddings_in_both_encodings(served: Served, worker: HandWorker) -> None:
    async def embed(job: RunningJob) -> bytes:
        return encode(EmbeddingAnswer(model="nomic", vectors=[pack_vector([0.5, -1.0])]))

    worker.script = embed
    body = {"model": "nomic-embed-text", "input": "a"}
    numbers = (await served.http.post("/v1/embeddings", json=body)).json()
    assert numbers["data"][0]["embedding"] == [0.5, -1.0]
    packed = (await served.http.post("/v1/embeddings", json={**body, "encoding_format": "base64"})).json()
    assert packed["data"][0]["embedding"] == "AAAAPwAAgL8="


@pytest.mark.req("S2-35", "S0-38")
async def test_a_stream_comes_in_frames_and_ends_in_words(served: Served, worker: HandWorker) -> None:
    async def slowly(job: RunningJob) -> bytes:
        return await say(job, "Hello from the other side", pause_s=0.03)

    worker.script = slowly
    response = await served.chat(stream=True, stream_options={"include_usage": True})
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-accel-buffering"] == "no"
    assert response.headers["x-arriero-job-id"] == worker.ran[0]
    assert streamed_text(response.text) == "Hello from the other side"
    told = frames(response.text)
    assert len(told) > 3, "it came in several pieces"
    assert told[0]["choices"][0]["delta"]["role"] == "assistant"
    assert told[-2]["choices"][0]["finish_reason"] == "stop"
    assert told[-1]["usage"]["total_tokens"] == 8
    assert response.text.endswith("data: [DONE]\n\n")


async def test_an_early_failure_of_a_stream_has_its_own_status(served: Served, worker: HandWorker) -> None:
    async def fails(job: RunningJob) -> bytes:
        raise ModelNotFound("The model 'llama3.2' is not installed on any backend.")

    worker.script = fails
    response = await served.chat(stream=True)
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"
    assert response.headers["x-arriero-job-id"] == worker.ran[0]
    assert response.headers["x-should-retry"] == "false"


async def test_a_failure_after_the_first_chunk_is_one_error_frame(served: Served, worker: HandWorker) -> None:
    async def breaks(job: RunningJob) -> bytes:
        await say(job, "Hello", pause_s=0.1)
        raise BackendFault("The model server reported an internal error.")

    worker.script = breaks
    response = await served.chat(stream=True)
    assert response.status_code == 200
    assert streamed_text(response.text) == "Hello"
    assert frames(response.text)[-1]["error"]["code"] == "backend_fault"
    assert "[DONE]" not in response.text, "an end mark would say that all went well"


async def test_a_waiting_stream_tells_its_place_in_line(start_gateway: StartGateway) -> None:
    served = await start_gateway(stream_grace=0.05)
    for _ in range(2):
        await served.http.post("/v1/chat/completions", json=CHAT, headers={"Prefer": "respond-async"})
    async with served.http.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as response:
        assert response.status_code == 200
        async for line in response.aiter_lines():
            if "position" in line:
                break
    assert line == ": queued position=3 reason=no_worker"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_ends_its_job(
    served: Served, worker: HandWorker, wait_until: WaitUntil, stream: bool
) -> None:
    async def for_ever(job: RunningJob) -> bytes:
        while True:
            await say(job, "word", pause_s=0.05)

    worker.script = for_ever
    call = asyncio.create_task(served.chat(stream=stream))
    await wait_until(lambda: worker.ran, description="job running")
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await wait_until(lambda: worker.stopped == worker.ran, 3, description="job stopped")

    async def cancelled() -> bool:
        record = await served.queue.get(worker.ran[0])
        return record is not None and record.state is State.CANCELLED

    await wait_until(cancelled, 3, description="job cancelled")


async def test_a_client_that_leaves_the_queue_takes_its_job_along(served: Served, wait_until: WaitUntil) -> None:
    call = asyncio.create_task(served.chat())

    async def waiting() -> list[str]:
        return [job.id for job in (await served.queue.list("default")).jobs]

    await wait_until(waiting, description="job queued")
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)

    async def gone() -> bool:
        jobs = (await served.queue.list("default")).jobs
        return jobs[0].state is State.CANCELLED

    await wait_until(gone, 3, description="job cancelled")


async def test_respond_async_gives_the_job_and_leaves_it_running(
    served: Served, worker: HandWorker, wait_until: WaitUntil
) -> None:
    response = await served.chat({"Prefer": "respond-async"})
    assert response.status_code == 202
    assert response.headers["preference-applied"] == "respond-async"
    body = response.json()
    assert response.headers["location"] == f"/v1/jobs/{body['id']}"
    done = (await served.http.get(response.headers["location"], params={"wait": 10})).json()
    assert done["status"] == "succeeded"
    assert done["result"]["choices"][0]["message"]["content"] == "Hello from the other side"


async def test_one_idempotency_key_is_one_job(served: Served, worker: HandWorker) -> None:
    release = asyncio.Event()

    async def held(job: RunningJob) -> bytes:
        await release.wait()
        return await hello(job)

    worker.script = held
    calls = [asyncio.create_task(served.chat({"Idempotency-Key": "k-1"})) for _ in range(20)]
    await asyncio.sleep(0.3)
    release.set()
    answers = await asyncio.gather(*calls)
    assert {a.status_code for a in answers} == {200}
    assert len({a.json()["id"] for a in answers}) == 1
    assert len(worker.ran) == 1
    late = await served.chat({"Idempotency-Key": "k-1"})
    assert late.json()["choices"] == answers[0].json()["choices"], "a repetition after the end gets the same answer"
    assert len(worker.ran) == 1
    other = await served.chat({"Idempotency-Key": "k-1"}, temperature=0.5)
    assert other.status_code == 422
    assert other.json()["error"]["code"] == "idempotency_mismatch"


async def test_a_deadline_from_the_client_expires_the_job(served: Served) -> None:
    response = await served.chat({"x-stainless-read-timeout": "0.5"})
    assert response.status_code == 504
    assert response.json()["error"]["code"] == "job_timeout"
    refused = await served.chat({"x-arriero-deadline-seconds": "soon"})
    assert refused.status_code == 400


async def test_a_full_queue_sheds_with_a_time_to_come_back(start_gateway: StartGateway) -> None:
    served = await start_gateway(max_queue_depth=2)
    answers = [await served.chat({"Prefer": "respond-async"}) for _ in range(3)]
    assert [a.status_code for a in answers] == [202, 202, 429]
    refused = answers[-1]
    assert refused.json()["error"]["code"] == "queue_full"
    assert 1 <= int(refused.headers["retry-after"]) <= 120
    assert int(refused.headers["retry-after-ms"]) <= 120_000
    assert refused.headers["x-should-retry"] == "true"


@pytest.mark.req("S2-29")
async def test_an_unknown_model_is_refused_with_near_names(served: Served) -> None:
    async def host() -> list[ModelInfo]:
        return [ModelInfo(name="llama3.2:latest"), ModelInfo(name="mistral:7b")]

    assert served.gateway.services is not None
    served.gateway.services.catalogue._offers = Offers(host)
    response = await served.chat(model="lama3.2")
    error = response.json()["error"]
    assert response.status_code == 404
    assert error["code"] == "model_not_found"
    assert "llama3.2" in error["message"]
    assert "ollama pull" in error["message"]
    listed = (await served.http.get("/v1/models")).json()
    assert [model["id"] for model in listed["data"]] == ["llama3.2:latest", "mistral:7b"]
    assert (await served.http.get("/v1/models/LLAMA3.2")).json()["id"] == "llama3.2:latest"
    assert (await served.http.get("/v1/models/vendor/none")).status_code == 404


@pytest.mark.parametrize("name", ["../../etc/passwd", "http://evil/x", "a\r\nb", "x" * 300, "", "a b"])
async def test_what_is_no_model_name_is_refused(served: Served, name: str) -> None:
    response = await served.chat(model=name)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "model"
