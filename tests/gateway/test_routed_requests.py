"""Every face routes: services by name, header and body, private requests, the decision on headers, records, metrics."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import pytest

from gateway.routes.routing import Decision
from gateway.settings import GatewaySettings
from shared.queue.running import RunningJob
from shared.routes import Candidate
from shared.wire.canonical import ChatRequest, CompletionRequest, Request, TextAnswer
from shared.wire.codec import decode_request, encode
from tests.gateway.conftest import CHAT, NOBODY, HandWorker, Served, StartGateway, frames, say, settings_for

OURS = ["llama3.2", "mistral", "qwen2.5", "nomic-embed-text"]
SERVICES: dict[str, Any] = {
    "ollama": {"urls": [NOBODY], "enable_discovery": False, "models": OURS},
    "lm_studio": {"enable_discovery": False, "models": ["phi4"]},
    "openai": {
        "urls": [f"{NOBODY}/v1"],
        "api_key": "sk-0123456789abcdef",
        "enable_discovery": False,
        "models": ["gpt-4o"],
        "default_model": "gpt-4o",
    },
}
"""No service is ever spoken to: their lists are written down, and the worker is the test's own."""
PRIVATE = "The patient sleeps."
LONG = "one two three four five six seven eight nine ten " * 2


class Seen:
    """The jobs that a worker was given."""

    def __init__(self, worker: HandWorker) -> None:
        self.jobs: list[RunningJob] = []
        self.requests: list[Request] = []
        worker.script = self._run

    async def _run(self, job: RunningJob) -> bytes:
        self.jobs.append(job)
        self.requests.append(decode_request(job.kind, job.raw_request))
        return await say(job, "yes")

    def places(self) -> list[str]:
        """Where the latest job may run."""
        route = self.jobs[-1].route
        assert route is not None
        return [target.qualified for target in route.candidates]


@pytest.fixture
async def routed(start_gateway: StartGateway) -> Served:
    return await start_gateway(services=SERVICES)


@pytest.fixture
def seen(worker: HandWorker) -> Seen:
    return Seen(worker)


def user(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


FACES: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", user("hi")),
    ("/v1/completions", {"prompt": "hi"}),
    ("/v1/messages", {**user("hi"), "max_tokens": 5}),
    ("/api/chat", {**user("hi"), "stream": False}),
    ("/api/generate", {"prompt": "hi", "stream": False}),
]


@pytest.mark.req("S2-07", "S2-09", "S2-10", "S4-45", "S4-49", "S0-16")
@pytest.mark.parametrize(("path", "body"), FACES, ids=[path for path, _ in FACES])
async def test_each_face_takes_names_with_a_service_and_echoes_them(
    routed: Served, seen: Seen, path: str, body: dict[str, Any]
) -> None:
    for name, place, reason in (
        ("lm_studio~phi4", "lm_studio~phi4", "named"),
        ("lm_studio:phi4", "lm_studio~phi4", "named"),
        ("phi4", "lm_studio~phi4", "found"),
        ("llama3.2", "ollama~llama3.2", "default"),
    ):
        response = await routed.http.post(path, json={**body, "model": name})
        assert response.status_code == 200, response.text
        assert response.headers["x-arriero-route"] == f"{place}; reason={reason}"
        assert response.json()["model"] == name
        assert seen.places()[0] == place
        assert seen.requests[-1].model == place.partition("~")[2], "the service's own name for it"
    missing = await routed.http.post(path, json={**body, "model": "lama3.2"})
    assert missing.status_code == 404
    assert "Did you mean ollama~llama3.2" in missing.text


@pytest.mark.req("S3-40")
async def test_the_service_may_stand_in_a_header_or_the_body(routed: Served, seen: Seen) -> None:
    header = {"x-arriero-provider": "lm_studio"}
    body: dict[str, Any] = {"provider": "lm_studio"}
    for headers, more in ((header, {}), ({}, body), (header, body)):
        response = await routed.chat(headers, model="phi4", **more)
        assert response.headers["x-arriero-route"] == "lm_studio~phi4; reason=named"
        assert seen.jobs[-1].route is not None
        assert seen.jobs[-1].route.explicit
    anything: tuple[Any, ...] = ("auto", None, {"order": ["someone"]})
    for provider in anything:
        found = await routed.chat(model="phi4", provider=provider)
        assert found.headers["x-arriero-route"].endswith("reason=found")
    wrong = await routed.chat(header, model="phi4", provider="ollama")
    assert wrong.status_code == 400
    assert "two services" in wrong.text


@pytest.mark.req("S2-30", "S2-29")
async def test_a_service_that_is_off_or_unknown_is_told_so(routed: Served) -> None:
    off = await routed.chat(model="openrouter~vendor/model")
    assert off.status_code == 404
    assert off.json()["error"]["code"] == "service_not_configured"
    assert "OPENROUTER_API_KEY" in off.json()["error"]["message"]
    unknown = await routed.chat({"x-arriero-provider": "lmstudio"})
    assert unknown.status_code == 404
    assert "Did you mean lm_studio?" in unknown.json()["error"]["message"]


@pytest.mark.req("S3-40")
async def test_a_refused_service_is_told_by_the_place_that_named_it(routed: Served) -> None:
    header = {"x-arriero-provider": "nowhere"}
    for headers, body, param in (
        (header, {}, "x-arriero-provider"),
        (header, {"provider": "nowhere"}, "x-arriero-provider"),
        ({}, {"provider": "nowhere"}, "provider"),
        ({}, {"model": "nowhere~x"}, "model"),
        ({}, {"provider": "openai", "private": True}, "provider"),
    ):
        refused = (await routed.chat(headers, **body)).json()["error"]
        assert refused["param"] == param, refused
    for direct, named in (({}, "`openai`"), ({"model_id": "gpt-4o"}, "`openai~gpt-4o`")):
        body = {"message": "hi", "worker_type": "openai", **direct}
        private = await routed.http.post("/chat", json=body, headers={"x-arriero-private": "true"})
        assert f" {named} is not on machines of ours" in private.json()["error"]["message"]


@pytest.mark.req("S3-04", "S3-13", "S3-14", "S3-15", "S3-16", "S3-17", "S3-18", "S0-49")
@pytest.mark.parametrize(
    ("prompt", "more", "places", "reason"),
    [
        ("hi", {}, ["ollama~llama3.2", "openai~gpt-4o"], "short"),
        (LONG + "Python", {}, ["ollama~qwen2.5", "ollama~llama3.2", "openai~gpt-4o"], "code"),
        (LONG + "analyze", {}, ["openai~gpt-4o", "ollama~llama3.2"], "complex"),
        (LONG, {}, ["ollama~llama3.2", "openai~gpt-4o"], "general"),
        (LONG + PRIVATE, {}, ["ollama~llama3.2"], "private"),
        (
            "hi",
            {"tools": [{"type": "function", "function": {"name": "f"}}]},
            ["ollama~mistral", "openai~gpt-4o", "ollama~llama3.2"],
            "tools",
        ),
    ],
)
async def test_auto_goes_by_the_task(
    routed: Served, seen: Seen, prompt: str, more: dict[str, Any], places: list[str], reason: str
) -> None:
    response = await routed.chat(model="auto", **user(prompt), **more)
    assert response.headers["x-arriero-route"] == f"{places[0]}; reason={reason}"
    assert seen.places() == places
    assert response.json()["model"] == places[0].partition("~")[2], "what was chosen, not `auto`"


@pytest.mark.req("S3-13")
async def test_a_private_request_stays_with_ours_whatever_says_so(routed: Served, seen: Seen) -> None:
    header = {"x-arriero-private": "true"}
    for headers, more in ((header, {}), ({}, {"private": True}), ({}, user(PRIVATE)), (header, {"private": False})):
        assert (await routed.chat(headers, **more)).status_code == 200
        assert seen.places() == ["ollama~llama3.2"]
        assert seen.jobs[-1].local_only
        refused = await routed.chat(headers, model="gpt-4o", **more)
        assert refused.status_code == 400
        assert refused.json()["error"]["code"] == "private_request"
        assert "patient" not in refused.json()["error"]["message"], "the words themselves are nobody's business"
    assert (await routed.chat()).status_code == 200
    assert not seen.jobs[-1].local_only
    assert (await routed.chat({"x-arriero-private": "yes"})).status_code == 400, "unclear is not public"


async def test_private_by_default_turns_it_round(start_gateway: StartGateway, seen: Seen) -> None:
    routed = await start_gateway(services=SERVICES, private_by_default=True)
    for said, local in ((None, True), (True, True), (False, False)):
        await routed.chat(private=said)
        assert seen.jobs[-1].local_only is local


@pytest.mark.req("S3-13")
async def test_detection_is_a_setting_and_so_are_the_words(start_gateway: StartGateway, seen: Seen) -> None:
    off = await start_gateway(services=SERVICES, privacy_detection="auto")
    assert (await off.chat(model="gpt-4o", **user(PRIVATE))).status_code == 200
    assert (await off.chat(model="auto", **user(PRIVATE))).headers["x-arriero-route"].endswith("reason=private")
    own = await start_gateway(services=SERVICES, privacy_words=["llama"])
    assert (await own.chat(model="gpt-4o", **user("a llama"))).status_code == 400
    assert (await own.chat(model="gpt-4o", **user(PRIVATE))).status_code == 200


async def test_a_conversation_that_was_private_once_stays_so(routed: Served, seen: Seen) -> None:
    said = {"message": "first", "conversation_id": "c1"}
    assert (await routed.http.post("/chat", json=said, headers={"x-arriero-private": "true"})).status_code == 200
    for headers in ({}, {"x-arriero-private": "false"}):
        again = await routed.http.post("/chat", json={**said, "message": "then"}, headers=headers)
        assert again.json()["remembered"] is True
        assert seen.jobs[-1].local_only, "the first turn goes along"
    elsewhere = await routed.http.post("/chat", json={**said, "worker_type": "openai"})
    assert elsewhere.status_code == 400
    assert elsewhere.json()["error"]["error_code"] == "PRIVATE_REQUEST"
    other = await routed.http.post("/chat", json={"message": "first", "conversation_id": "c2"})
    assert other.status_code == 200
    assert not seen.jobs[-1].local_only


@pytest.mark.req("S0-50")
async def test_jobs_and_batches_are_routed_and_their_records_say_where(routed: Served, seen: Seen) -> None:
    described = {"type": "chat.completion", "request": {"model": "lm_studio~phi4", **user("hi")}}
    job = (await routed.http.post("/v1/jobs", json=described)).json()
    expected = {
        "candidates": [{"service": "lm_studio", "model": "phi4"}],
        "reason": "named",
        "local_only": False,
    }
    assert (job["model"], job["route"]) == ("lm_studio~phi4", expected)
    read = (await routed.http.get(f"/v1/jobs/{job['id']}?wait=20")).json()
    assert (read["status"], read["route"], read["result"]["model"]) == ("succeeded", expected, "lm_studio~phi4")
    found = await routed.http.get("/v1/jobs", params={"model": "lm_studio~phi4"})
    assert [one["id"] for one in found.json()["data"]] == [job["id"]]
    private = {"type": "embedding", "request": {"model": "nomic-embed-text", "input": [PRIVATE]}}
    rows = (await routed.http.post("/v1/jobs:batch", json={"jobs": [described, private]})).json()["data"]
    assert [row["route"]["local_only"] for row in rows] == [False, True]
    assert len(rows[1]["route"]["candidates"]) == 1


async def test_a_batch_says_which_job_can_go_nowhere(routed: Served) -> None:
    good, far, gone = (
        {"type": "chat.completion", "request": {"model": model, **user(text)}}
        for model, text in (("llama3.2", "hi"), ("gpt-4o", PRIVATE), ("lama3.2", "hi"))
    )
    for wrong, status, code in ((far, 400, "private_request"), (gone, 404, "model_not_found")):
        refused = await routed.http.post("/v1/jobs:batch", json={"jobs": [good, wrong]})
        error = refused.json()["error"]
        assert (refused.status_code, error["code"], error["param"]) == (status, code, "jobs[1].model")
    assert (await routed.queue.list("default")).jobs == [], "all or nothing"


@pytest.mark.req("S4-49")
async def test_answers_may_name_the_model_with_its_service(start_gateway: StartGateway, seen: Seen) -> None:
    routed = await start_gateway(services=SERVICES, response_model_name="qualified")
    assert (await routed.chat(model="phi4")).json()["model"] == "lm_studio~phi4"
    streamed = await routed.chat(model="phi4", stream=True)
    assert {frame["model"] for frame in frames(streamed.text)} == {"lm_studio~phi4"}


@pytest.mark.req("S2-22", "S2-23", "S2-27", "S4-53", "S4-54")
async def test_defaults_hold_where_the_request_says_nothing(start_gateway: StartGateway, seen: Seen) -> None:
    routed = await start_gateway(services=SERVICES, ollama_max_tokens=50)
    for path, body, expected in (
        ("/v1/chat/completions", {**CHAT}, (0.7, 50)),
        ("/v1/chat/completions", {**CHAT, "temperature": 0, "max_tokens": 9}, (0, 9)),
        ("/v1/chat/completions", {**CHAT, "options": {"num_predict": -1}}, (0.7, None)),
        ("/v1/completions", {"model": "phi4", "prompt": "hi"}, (0.7, 50)),
        ("/generate", {"prompt": "hi", "worker_type": "local_llm"}, (0.7, 50)),
        ("/api/chat", {**CHAT, "stream": False}, (None, None)),
        ("/v1/chat/completions", {**CHAT, "model": "gpt-4o"}, (None, None)),
    ):
        assert (await routed.http.post(path, json=body)).status_code == 200
        request = seen.requests[-1]
        assert isinstance(request, ChatRequest | CompletionRequest)
        assert (request.sampling.temperature, request.sampling.max_tokens) == expected, path
    own = settings_for("redis://localhost", llm_temperature="none", llm_max_tokens="4096")
    assert (own.ollama_temperature, own.ollama_max_tokens) == (None, 4096)


@pytest.mark.req("C21")
async def test_long_prompts_are_for_v1(routed: Served, seen: Seen) -> None:
    long = "x" * 9000
    assert (await routed.http.post("/generate", json={"prompt": long, "worker_type": "auto"})).status_code == 400
    assert (await routed.http.post("/v1/completions", json={"model": "auto", "prompt": long})).status_code == 200


async def test_no_body_says_everything(routed: Served, seen: Seen) -> None:
    """Embeddings get no defaults, and one place."""
    body = {"model": "nomic-embed-text", "input": "hi", "provider": "ollama"}
    described = {"type": "embedding", "request": body}
    decided = await routed.http.post("/v1/route", json=described)
    assert decided.json()["candidates"] == [{"service": "ollama", "model": "nomic-embed-text"}]
    assert decided.json()["task"] is None
    assert (await routed.http.post("/v1/embeddings", json={**body, "model": "auto"})).status_code == 400


@pytest.mark.req("S3-07")
async def test_what_would_happen_can_be_asked(routed: Served) -> None:
    described = {"type": "chat.completion", "request": {"model": "auto", **user(LONG + "debug this code")}}
    decided = await routed.http.post("/v1/route", json=described)
    body = decided.json()
    Decision.model_validate_json(decided.content)
    assert (body["asked"], body["task"], body["reason"]) == ("auto", "code", "code")
    assert body["candidates"][0] == {"service": "ollama", "model": "qwen2.5"}
    private = await routed.http.post("/v1/route", json=described, headers={"x-arriero-private": "true"})
    assert (private.json()["local_only"], private.json()["task"]) == (True, "code")
    refused = await routed.http.post("/v1/route", json={**described, "request": {"model": "nobody", **user("hi")}})
    assert refused.status_code == 404
    assert (await routed.queue.list("default")).jobs == [], "nothing was put in the queue"


@pytest.mark.req("S3-27")
async def test_routes_are_counted_by_service_and_reason(routed: Served, seen: Seen) -> None:
    await routed.chat()
    await routed.chat(model="phi4")
    await routed.chat(model="phi4")
    page = (await routed.http.get("/metrics")).text
    assert 'arriero_routes_total{reason="default",service="ollama"} 1.0' in page
    assert 'arriero_routes_total{reason="found",service="lm_studio"} 2.0' in page


@pytest.mark.req("S4-48")
async def test_the_first_loaded_model_answers_for_names_nobody_has(
    start_gateway: StartGateway, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def loaded() -> list[Candidate]:
        return [Candidate("ollama", "mistral")]

    routed = await start_gateway(services=SERVICES, first_loaded_model=True)
    assert routed.gateway.services is not None
    monkeypatch.setattr(routed.gateway.services.router, "_loaded", loaded)
    response = await routed.chat(model="gpt-3")
    assert response.headers["x-arriero-route"] == "ollama~mistral; reason=first_loaded"
    embedding = await routed.http.post("/v1/embeddings", json={"model": "ada", "input": "hi"})
    assert embedding.status_code == 404, "vectors of two models do not mix"
    strict = await start_gateway(services=SERVICES)
    assert (await strict.chat(model="gpt-3")).status_code == 404


@pytest.mark.req("S0-08", "S0-09", "S0-10", "S0-12", "S0-13", "S0-19")
async def test_worker_types_are_services(routed: Served, seen: Seen) -> None:
    for worker_type, place, model in (
        ("openai", "openai~gpt-4o", "gpt-4o"),
        ("local_llm", "ollama~llama3.2", "llama3.2"),
        ("lm_studio", "lm_studio~phi4", "phi4"),
        ("oracle", "lm_studio~phi4", "phi4"),
    ):
        asked = None if worker_type in ("openai", "local_llm") else "phi4"
        body = {"prompt": "hi", "worker_type": worker_type, "model_id": asked}
        response = await routed.http.post("/generate", json=body)
        assert response.status_code == 200, response.text
        assert seen.places()[0] == place
        assert response.json()["model_id"] == model
        assert response.json()["worker_type"] == ("lm_studio" if worker_type == "oracle" else worker_type)
    unknown = await routed.http.post("/chat", json={"message": "hi", "worker_type": "oracle"})
    assert unknown.headers["x-arriero-route"] == "ollama~llama3.2; reason=short", "it went to the classifier"
    usable = (await routed.http.get("/workers")).json()
    assert {row["worker_type"] for row in usable["workers"]} == {"local_llm", "openai", "lm_studio"}
    assert [row["worker_type"] for row in usable["unavailable"]] == ["anthropic"]
    assert "ANTHROPIC_API_KEY" in usable["unavailable"][0]["reason"]
    models = (await routed.http.get("/workers/openai/models")).json()["models"]
    assert [model["model_id"] for model in models] == ["gpt-4o"]


async def test_a_stand_in_is_named_in_the_form_that_was_asked_for(routed: Served, worker: HandWorker) -> None:
    async def stands_in(job: RunningJob) -> bytes:
        return encode(TextAnswer(model="gpt-4o", service="openai", content="yes", fallback_from="llama3.2"))

    worker.script = stands_in
    assert (await routed.chat()).json()["model"] == "gpt-4o"
    assert (await routed.chat(model="ollama~llama3.2")).json()["model"] == "openai~gpt-4o"


@pytest.mark.req("S3-34", "S3-35", "S2-19", "S3-33")
def test_models_of_the_tasks_are_settings_that_must_be_allowed() -> None:
    settings = settings_for("redis://localhost", ollama_fast_model="phi3", ollama_code_model="lm_studio~coder")
    assert settings.ollama_tool_model == "mistral"
    narrow = GatewaySettings.model_copy(settings, update={"allowed_models": ["llama3.2", "coder"]})
    said = [sentence for sentence in narrow.conflicts() if "_MODEL:" in sentence]
    assert len(said) == 1
    assert said[0].startswith("OLLAMA_FAST_MODEL: phi3")


async def test_the_command_tells_the_same(routed: Served) -> None:
    async def told(*arguments: str) -> str:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "arriero", "route", *arguments, "--url", str(routed.http.base_url)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await asyncio.wait_for(process.communicate(), 30)
        return out.decode()

    plain, private, missing = await asyncio.gather(
        told("auto", "--prompt", LONG + "analyze"),
        told("llama3.2", "--private", "--json"),
        told("lama3.2", "--provider", "ollama"),
    )
    assert plain.splitlines() == ["1. openai~gpt-4o", "2. ollama~llama3.2", "reason: complex (`auto`: it is complex)"]
    assert json.loads(private)["local_only"] is True
    assert "Did you mean llama3.2?" in missing
