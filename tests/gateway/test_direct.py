"""The direct face: prompts, messages, streams, worker types, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from gateway.direct_errors import DirectErrors
from gateway.routes.direct_bodies import DirectGeneration, DirectReply, UsableWorkers, WorkerKinds, WorkerModels
from shared.backends.base import ModelInfo
from shared.errors import ArrieroError, BackendUnreachable, BadRequest, ModelNotFound
from shared.queue.running import RunningJob
from shared.wire.canonical import TextAnswer, Timings, Usage
from shared.wire.codec import decode_request, encode
from tests.gateway.conftest import HandWorker, Served, StartGateway, say
from tests.gateway.offers import Offers

PROMPT: dict[str, Any] = {"prompt": "Why do llamas hum?", "worker_type": "local_llm"}
MESSAGE: dict[str, Any] = {"message": "Why do llamas hum?"}


def error_of(response: httpx.Response) -> dict[str, Any]:
    """The error of a body that has the face's form."""
    body = response.json()
    assert set(body) == {"success", "error", "timestamp"}
    assert body["success"] is False
    assert body["timestamp"].endswith("Z")
    error: dict[str, Any] = body["error"]
    assert set(error) == {"error_code", "message", "type", "details"}
    return error


def events(text: str) -> list[tuple[str, dict[str, Any]]]:
    """(name, data) of each event; comments are passed over."""
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("event: ")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]


async def hosts(served: Served, *names: str) -> None:
    """Let the gateway see model hosts with these models."""

    async def host() -> list[ModelInfo]:
        return [ModelInfo(name=name, size_bytes=7) for name in names]

    assert served.gateway.services is not None
    served.gateway.services.catalogue._offers = Offers(host)


@pytest.mark.req("S0-05", "S0-06", "S0-07", "S0-10")
async def test_a_prompt_is_answered_with_its_text_and_figures(served: Served, worker: HandWorker) -> None:
    async def timed(job: RunningJob) -> bytes:
        return encode(
            TextAnswer(
                model="mistral:latest",
                content="They are content.",
                usage=Usage(prompt_tokens=3, completion_tokens=5),
                timings=Timings(total_s=1.25),
            )
        )

    worker.script = timed
    response = await served.http.post("/generate", json={**PROMPT, "model_id": "mistral"})
    assert response.status_code == 200
    assert response.json() == {
        "success": True,
        "response": "They are content.",
        "worker_type": "local_llm",
        "model_id": "mistral",
        "metadata": {"generation_time": 1.25, "tokens_used": 8},
    }
    DirectGeneration.model_validate(response.json())
    assert response.headers["x-arriero-job-id"] == worker.ran[0], "it went through the queue"


@pytest.mark.req("S2-19", "S3-33")
async def test_without_a_model_the_default_one_is_asked(start_gateway: StartGateway, worker: HandWorker) -> None:
    assert (await (await start_gateway()).http.post("/generate", json=PROMPT)).json()["model_id"] == "llama3.2"
    served = await start_gateway(ollama_default_model="mistral")
    answered = await served.http.post("/chat", json={**MESSAGE, "worker_type": "local_llm"})
    assert answered.json()["model_id"] == "mistral"
    refused = list(served.gateway.settings.model_copy(update={"allowed_models": ["phi3"]}).conflicts())
    assert any("OLLAMA_DEFAULT_MODEL" in sentence for sentence in refused)


@pytest.mark.req("S0-17")
async def test_a_message_is_answered_and_its_context_labels_the_job(served: Served, worker: HandWorker) -> None:
    response = await served.http.post("/chat", json={**MESSAGE, "context": {"project_id": "p-1"}})
    body = response.json()
    assert response.status_code == 200
    assert body["response"] == "Hello from the other side"
    assert (body["worker_type"], body["conversation_id"], body["remembered"]) == ("local_llm", None, False)
    DirectReply.model_validate(body)
    job = (await served.http.get(f"/v1/jobs/{response.headers['x-arriero-job-id']}")).json()
    assert job["metadata"] == {"project_id": "p-1"}


@pytest.mark.req("S0-18", "S0-38")
async def test_a_stream_brings_the_text_in_pieces_and_then_the_whole(served: Served, worker: HandWorker) -> None:
    async def slowly(job: RunningJob) -> bytes:
        return await say(job, "Hello from the other side", pause_s=0.03)

    worker.script = slowly
    response = await served.http.post("/chat/stream", json=MESSAGE)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-accel-buffering"] == "no"
    told = events(response.text)
    pieces = [data["content"] for name, data in told if name == "delta"]
    assert len(pieces) > 2
    assert "".join(pieces) == "Hello from the other side"
    name, done = told[-1]
    assert name == "done"
    assert done["response"] == "Hello from the other side"
    DirectReply.model_validate(done)


@pytest.mark.req("S0-18", "S0-21")
async def test_a_stream_that_breaks_ends_in_an_error_event(served: Served, worker: HandWorker) -> None:
    async def breaks(job: RunningJob) -> bytes:
        await say(job, "Hello from", pause_s=0.03)
        raise ModelNotFound("The model is gone.")

    worker.script = breaks
    name, body = events((await served.http.post("/chat/stream", json=MESSAGE)).text)[-1]
    assert name == "error"
    assert (body["success"], body["error"]["error_code"]) == (False, "MODEL_NOT_FOUND")


@pytest.mark.req("S0-11", "S0-15")
async def test_the_worker_types_say_what_they_are_and_why_they_are_off(served: Served) -> None:
    body = (await served.http.get("/workers/types")).json()
    WorkerKinds.model_validate(body)
    kinds = {kind["worker_type"]: kind for kind in body["worker_types"]}
    assert set(kinds) == {"local_llm", "openai", "anthropic"}
    assert all(kind["description"] for kind in kinds.values())
    assert kinds["anthropic"]["aliases"] == ["claude"]
    assert kinds["local_llm"]["available"] is True
    assert kinds["local_llm"]["reason"] is None
    assert kinds["openai"]["available"] is False
    assert "OPENAI_API_KEY" in kinds["openai"]["reason"]


@pytest.mark.req("S0-12")
async def test_usable_workers_need_a_host_and_a_worker_process(served: Served) -> None:
    async def local() -> str:
        body = (await served.http.get("/workers")).json()
        UsableWorkers.model_validate(body)
        assert {row["worker_type"] for row in body["workers"] + body["unavailable"]} == {
            *("local_llm", "openai", "anthropic"),
        }
        reasons = {row["worker_type"]: row["reason"] for row in body["unavailable"]}
        return str(reasons.get("local_llm", body["workers"]))

    assert "/health/ollama" in await local()
    await hosts(served, "llama3.2:latest")
    assert "no worker process" in await local()


@pytest.mark.req("S0-12", "S0-13")
async def test_workers_and_their_models(served: Served, worker: HandWorker) -> None:
    await hosts(served, "mistral:7b", "llama3.2:latest")
    await served.http.post("/generate", json=PROMPT)
    (usable,) = (await served.http.get("/workers")).json()["workers"]
    assert (usable["worker_type"], usable["models"]) == ("local_llm", 2)
    body = (await served.http.get("/workers/local_llm/models")).json()
    WorkerModels.model_validate(body)
    assert [model["model_id"] for model in body["models"]] == ["llama3.2:latest", "mistral:7b"]


@pytest.mark.parametrize(
    ("worker_type", "says"),
    [
        ("openai", "OPENAI_API_KEY"),
        ("claude", "ANTHROPIC_API_KEY"),
    ],
)
@pytest.mark.req("S0-41", "S2-30")
async def test_a_worker_type_that_cannot_serve_is_refused(served: Served, worker_type: str, says: str) -> None:
    for path, body in (("/generate", PROMPT), ("/chat", MESSAGE), ("/chat/stream", MESSAGE)):
        response = await served.http.post(path, json={**body, "worker_type": worker_type})
        assert response.status_code == 404
        error = error_of(response)
        assert (error["error_code"], error["type"]) == ("WORKER_TYPE_NOT_FOUND", "WorkerTypeNotFoundError")
        assert says in error["message"]
    listed = await served.http.get(f"/workers/{worker_type}/models")
    assert says in error_of(listed)["message"]
    assert (await served.queue.list("default")).jobs == [], "nothing was put in the queue"


@pytest.mark.req("S0-19")
async def test_a_worker_type_nobody_knows_is_left_to_routing(served: Served, worker: HandWorker) -> None:
    response = await served.http.post("/generate", json={**PROMPT, "worker_type": "quantum"})
    assert response.status_code == 200
    assert response.headers["x-arriero-route"] == "ollama~llama3.2; reason=short"
    assert response.json()["worker_type"] == "local_llm"
    for unknown, says in (("local_lm", "Did you mean local_llm?"), ("nope", "name. GET /workers/types")):
        listed = await served.http.get(f"/workers/{unknown}/models")
        assert listed.status_code == 404
        assert says in error_of(listed)["message"]


@pytest.mark.req("S0-39", "S0-40", "S0-41")
@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/generate", {**PROMPT, "prompt": "x" * 8001}, "prompt"),
        ("/chat", {**MESSAGE, "message": "é" * 8001}, "message"),
        ("/generate", {"worker_type": "local_llm"}, "prompt"),
        ("/generate", {**PROMPT, "prompt": ""}, "prompt"),
        ("/generate", {"prompt": "hi"}, "worker_type"),
        ("/generate", {**PROMPT, "worker_type": "Local LLM!"}, "worker_type"),
        ("/generate", {**PROMPT, "worker_type": "local_llm\n"}, "worker_type"),
        ("/generate", {**PROMPT, "model_id": "http://evil/x"}, "model_id"),
        ("/chat", {**MESSAGE, "conversation_id": "a:b"}, "conversation_id"),
        ("/chat", {**MESSAGE, "context": {"project_id": 7}}, "context.project_id"),
    ],
)
async def test_a_body_that_does_not_fit_is_refused_by_its_field(
    served: Served, path: str, body: dict[str, Any], field: str
) -> None:
    response = await served.http.post(path, json=body)
    assert response.status_code == 400
    error = error_of(response)
    assert error["error_code"] == "INVALID_REQUEST"
    assert error["message"].startswith(f"`{field}`: ")


@pytest.mark.req("S0-40")
async def test_the_prompt_cap_is_a_setting_and_counts_characters(
    start_gateway: StartGateway, worker: HandWorker
) -> None:
    served = await start_gateway()
    assert (await served.http.post("/generate", json={**PROMPT, "prompt": "é" * 8000})).status_code == 200
    short = await start_gateway(max_prompt_chars=10)
    assert (await short.http.post("/generate", json={**PROMPT, "prompt": "x" * 11})).status_code == 400
    described = (await short.http.get("/openapi.json")).json()["components"]["schemas"]
    assert described["DirectGenerateBody"]["properties"]["prompt"]["maxLength"] == 10
    assert described["DirectChatBody"]["properties"]["message"]["maxLength"] == 10


@pytest.mark.req("S0-16")
async def test_a_model_nobody_has_is_refused_before_the_queue(served: Served) -> None:
    await hosts(served, "llama3.2:latest")
    response = await served.http.post("/generate", json={**PROMPT, "model_id": "lama3.2"})
    assert response.status_code == 404
    assert error_of(response)["error_code"] == "MODEL_NOT_FOUND"
    assert "Did you mean llama3.2?" in response.json()["error"]["message"]


@pytest.mark.req("S0-22", "S0-23", "S0-24")
@pytest.mark.parametrize("debug", [False, True])
async def test_a_lost_connection_has_its_own_code_and_details_only_in_debug(
    start_gateway: StartGateway, worker: HandWorker, debug: bool
) -> None:
    async def unreachable(job: RunningJob) -> bytes:
        raise BackendUnreachable("The model server does not answer.")

    worker.script = unreachable
    url = "http://user:s3cret@127.0.0.1:9"
    served = await start_gateway(debug=debug, ollama_base_urls=[url], healthcheck_timeout=3)
    for response in (
        await served.http.post("/generate", json=PROMPT, headers={"x-request-id": "find.me"}),
        await served.http.get("/workers/local_llm/models", headers={"x-request-id": "find.me"}),
    ):
        assert response.status_code == 503
        error = error_of(response)
        assert (error["error_code"], error["type"]) == ("OLLAMA_CONNECTION_ERROR", "OllamaConnectionError")
        assert "s3cret" not in response.text
        if debug:
            assert error["details"]["url"] == "http://127.0.0.1:9"
            assert error["details"]["timeout"] == 3
            assert error["details"]["request_id"] == "find.me"
        else:
            assert error["details"] == {}
            assert "127.0.0.1" not in response.text


@pytest.mark.req("S0-21", "S4-73")
def test_every_error_of_the_tree_has_a_code_and_a_type() -> None:
    write = DirectErrors(debug=True, url="http://x", timeout_s=5).body
    bodies = {error: write(error().record(), "r")["error"] for error in (ArrieroError, BadRequest, BackendUnreachable)}
    assert {error.__name__: (body["error_code"], body["type"]) for error, body in bodies.items()} == {
        "ArrieroError": ("INTERNAL_ERROR", "InternalError"),
        "BadRequest": ("INVALID_REQUEST", "InvalidRequestError"),
        "BackendUnreachable": ("OLLAMA_CONNECTION_ERROR", "OllamaConnectionError"),
    }
    assert "url" not in bodies[BadRequest]["details"], "it has nothing to do with a host"


@pytest.mark.req("S0-21")
async def test_the_form_is_the_faces_own_whatever_is_wrong(served: Served, start_gateway: StartGateway) -> None:
    assert error_of(await served.http.get("/workers/nothing/here"))["error_code"] == "ROUTE_NOT_FOUND"
    wrong = await served.http.get("/generate")
    assert wrong.status_code == 405
    assert error_of(wrong)["error_code"] == "METHOD_NOT_ALLOWED"
    form = await served.http.post("/chat", content="message=hi", headers={"Content-Type": "text/plain"})
    assert (form.status_code, error_of(form)["error_code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")
    other = (await served.http.get("/v1/nothing")).json()
    assert set(other) == {"error"}, "other faces keep theirs"


async def test_what_the_queue_holds_is_what_was_asked(served: Served, worker: HandWorker) -> None:
    seen: list[Any] = []

    async def look(job: RunningJob) -> bytes:
        seen.append(decode_request(job.kind, job.raw_request))
        return await say(job, "yes")

    worker.script = look
    await served.http.post("/generate", json=PROMPT)
    await served.http.post("/chat", json=MESSAGE)
    assert seen[0].prompt == PROMPT["prompt"]
    assert [(turn.role, turn.content) for turn in seen[1].messages] == [("user", MESSAGE["message"])]
