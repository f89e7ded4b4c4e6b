"""The API description: whole, valid, exact about bodies, and true to what the renderers write."""

from __future__ import annotations

from typing import Any, Literal

import jsonschema_rs
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from schemathesis import openapi as schemathesis_openapi
from schemathesis.core.result import Ok

from gateway.openapi import document
from gateway.route_table import Role, Route
from shared.errors import BackendBusy, BadRequest
from shared.jobs import Attempt, JobRecord, Kind, Priority, State
from shared.wire.canonical import EmbeddingAnswer, TextAnswer, ToolCall, pack_vector
from shared.wire.codec import encode
from shared.wire.openai import ChatCompletionBody, CompletionBody, EmbeddingBody, validate
from shared.wire.openai_render import (
    Rendering,
    chat_body,
    completion_body,
    embedding_body,
    error_body,
    job_body,
)


class ListQuery(BaseModel):
    status: State | None = Field(None, description="Only these.")
    limit: int = Field(20, ge=1, le=100)


async def handler(request: web.Request) -> web.Response:
    return web.Response()


def route(method: str, path: str, **fields: Any) -> Route:
    defaults: dict[str, Any] = {"handler": handler, "role": Role.INFERENCE, "summary": "Does it", "tag": "T"}
    return Route(method=method, path=path, **defaults | fields)


ROUTES = [
    route(
        "POST",
        "/v1/chat/completions",
        body=ChatCompletionBody,
        headers=("Idempotency-Key", "Prefer"),
        answers={200: "ChatCompletion | text/event-stream", 202: "Job"},
        errors=(404, 504),
    ),
    route("POST", "/v1/completions", body=CompletionBody, answers={200: "Completion | text/event-stream"}),
    route("POST", "/v1/embeddings", body=EmbeddingBody, answers={200: "EmbeddingList"}),
    route("GET", "/v1/models/{model:.+}", answers={200: "Model"}),
    route("GET", "/v1/jobs", query=ListQuery, answers={200: "JobList"}),
    route("DELETE", "/v1/jobs/{job_id}", answers={200: "Job"}),
    route("GET", "/metrics", role=Role.PUBLIC, answers={200: "text/plain"}),
    route("GET", "/openapi.json", role=Role.PUBLIC, answers={200: "application/json"}),
]


def described(*, keys_required: bool = True) -> dict[str, Any]:
    return document(ROUTES, version="1.2.3", keys_required=keys_required)


def operation(method: str, path: str) -> dict[str, Any]:
    found: dict[str, Any] = described()["paths"][path][method]
    return found


def validator(name: str) -> jsonschema_rs.Draft202012Validator:
    schemas = described()["components"]["schemas"]
    return jsonschema_rs.Draft202012Validator(
        {"$ref": f"#/components/schemas/{name}", "components": {"schemas": schemas}}
    )


def test_schemathesis_reads_it_and_makes_requests_from_it() -> None:
    schema = schemathesis_openapi.from_dict(described())
    schema.config.base_url = "http://127.0.0.1:1"
    operations = [found.ok().label for found in schema.get_all_operations() if isinstance(found, Ok)]
    assert len(operations) == len(ROUTES)
    assert "GET /v1/models/{model}" in operations


def test_every_reference_leads_somewhere() -> None:
    description = described()

    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
            return own + [ref for child in node.values() for ref in references(child)]
        return [ref for child in node for ref in references(child)] if isinstance(node, list) else []

    found = set(references(description))
    assert found
    for reference in found:
        node = description
        for step in reference.removeprefix("#/").split("/"):
            node = node[step]
    assert jsonschema_rs.meta.is_valid({"$defs": description["components"]["schemas"]})


def test_statuses_follow_from_role_body_and_path() -> None:
    assert set(operation("post", "/v1/embeddings")["responses"]) == {
        *("200", "400", "401", "403", "408", "413", "415", "429", "500", "503"),
    }
    assert {"202", "404", "504"} <= set(operation("post", "/v1/chat/completions")["responses"])
    assert "404" in operation("delete", "/v1/jobs/{job_id}")["responses"]
    assert set(operation("get", "/metrics")["responses"]) == {"200", "400", "429", "500", "503"}


def test_contents_and_headers() -> None:
    responses = operation("post", "/v1/chat/completions")["responses"]
    assert set(responses["200"]["content"]) == {"application/json", "text/event-stream"}
    assert set(responses["202"]["headers"]) == {"x-request-id", "x-arriero-job-id", "Location"}
    assert "Retry-After" in responses["429"]["headers"]
    assert operation("get", "/metrics")["responses"]["200"]["content"] == {"text/plain": {"schema": {"type": "string"}}}
    described_as = operation("get", "/openapi.json")["responses"]["200"]["content"]
    assert described_as == {"application/json": {"schema": {"type": "object"}}}


def test_parameters() -> None:
    status, limit = operation("get", "/v1/jobs")["parameters"]
    assert (status["in"], status["required"], status["description"]) == ("query", False, "Only these.")
    assert status["schema"]["enum"] == [state.value for state in State]
    assert (limit["schema"]["minimum"], limit["schema"]["maximum"]) == (1, 100)
    (job_id,) = operation("delete", "/v1/jobs/{job_id}")["parameters"]
    assert (job_id["name"], job_id["in"], job_id["required"]) == ("job_id", "path", True)
    names = [parameter["name"] for parameter in operation("post", "/v1/chat/completions")["parameters"]]
    assert names == ["Idempotency-Key", "Prefer"]


def test_security_follows_the_role() -> None:
    assert operation("post", "/v1/embeddings")["security"] == [{"apiKey": []}]
    assert "security" not in operation("get", "/metrics")
    keyless = described(keys_required=False)["paths"]["/v1/embeddings"]["post"]
    assert {} in keyless["security"]


def test_operation_ids_are_unique() -> None:
    ids = [found["operationId"] for path in described()["paths"].values() for found in path.values()]
    assert len(set(ids)) == len(ROUTES)
    assert "delete_v1_jobs_by_job_id" in ids


@pytest.mark.parametrize(
    ("routes", "says"),
    [
        ([route("GET", "/a", answers={200: "Nowhere"})], "Nowhere"),
        ([route("GET", "/a/{x}"), route("get", "/a/{x:.+}")], "twice"),
    ],
)
def test_a_wrong_table_is_refused(routes: list[Route], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        document(routes, version="1", keys_required=True)


def test_more_answers_and_colliding_names() -> None:
    class Health(BaseModel):
        status: Literal["ok"]

    routes = [route("GET", "/health", answers={200: "Health"})]
    found = document(routes, version="1", keys_required=True, more_answers=[Health])
    assert found["components"]["schemas"]["Health"]["required"] == ["status"]

    class Error(BaseModel):
        other: int

    with pytest.raises(ValueError, match="Error"):
        document([route("POST", "/x", body=Error)], version="1", keys_required=True)


R = Rendering(id="chatcmpl-1", created=1, model="m")
LOGPROBS: list[dict[str, Any]] = [{"token": "a", "logprob": -1.0, "top_logprobs": [{"token": "b", "logprob": -2.0}]}]
TEXT = TextAnswer(model="m", content="a", thinking="t", logprobs=LOGPROBS, finish_reason="length")
CALL = TextAnswer(model="m", tool_calls=[ToolCall(id="c", name="f", arguments="{}")])
VECTORS = EmbeddingAnswer(model="m", vectors=[pack_vector([0.5])])


def job(kind: Kind, answer: object) -> JobRecord:
    error = BackendBusy().record()
    return JobRecord(
        id="job_1",
        kind=kind,
        state=State.SUCCEEDED,
        priority=Priority.LOW,
        tenant="t",
        model="m",
        created_at=1.0,
        deadline_at=2.0,
        updated_at=1.0,
        attempts=[
            Attempt(number=1, worker="w", started_at=1.0, ended_at=1.5, outcome="retried", error=error),
            Attempt(number=2, worker="w", started_at=1.0),
        ],
        result=encode(answer),
        error=error,
    )


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("ChatCompletion", chat_body(R, TEXT)),
        ("ChatCompletion", chat_body(R, CALL)),
        ("Completion", completion_body(R, TEXT)),
        ("EmbeddingList", embedding_body(R, VECTORS)),
        ("EmbeddingList", embedding_body(R, VECTORS, "base64")),
        ("Error", error_body(BadRequest("no", param="x").record(), "req_1")),
        ("Job", job_body(job(Kind.CHAT, CALL), position=1, expected_wait_seconds=0.5)),
        ("Job", job_body(job(Kind.COMPLETION, TEXT))),
        ("Job", job_body(job(Kind.EMBEDDING, VECTORS))),
    ],
)
def test_what_is_rendered_is_what_is_described(name: str, body: dict[str, Any]) -> None:
    found = validator(name)
    found.validate(body)
    # The schema has teeth: no top-level field may go missing.
    for field in set(body) & set(described()["components"]["schemas"][name]["required"]):
        assert not found.is_valid({key: value for key, value in body.items() if key != field})


GOOD_CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
values = (
    st.none()
    | st.booleans()
    | st.integers(-3, 30)
    | st.sampled_from([0.5, 2.5, 1.0, "auto", "none", "low", "5m", "300", "", "json_object", [], {}, ["x"], [1]])
    | st.sampled_from([{"type": "text"}, {"type": "json_object"}, {"effort": "low"}, {"num_ctx": 1}, {"num_ctx": 0}])
    | st.sampled_from([{"include_usage": True}, {"include_usage": 1}, {"type": "function", "function": {"name": ""}}])
)
SIMPLE_FIELDS = sorted(set(ChatCompletionBody.model_fields) - {"messages", "model"})


@given(st.dictionaries(st.sampled_from(SIMPLE_FIELDS), values, max_size=3))
def test_schema_and_validation_agree(fields: dict[str, Any]) -> None:
    """What the schema allows is accepted and what it forbids is refused, on the fields a schema can describe."""
    body = GOOD_CHAT | fields
    try:
        validate(ChatCompletionBody, body)
        accepted = True
    except BadRequest:
        accepted = False
    assert CHAT_SCHEMA.is_valid(body) == accepted


CHAT_SCHEMA = validator("ChatCompletionBody")


@pytest.mark.parametrize(
    ("model", "valid"),
    [("llama3.2:3b", True), ("a..b", False), ("http://x", False), ("r:5000/a", False), ("a b", False), ("", False)],
)
def test_model_names_in_the_schema(model: str, valid: bool) -> None:
    assert CHAT_SCHEMA.is_valid(GOOD_CHAT | {"model": model}) is valid


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


@pytest.mark.parametrize(
    ("message", "valid"),
    [
        ({"role": "user", "content": "x"}, True),
        ({"role": "user"}, False),
        ({"role": "assistant"}, True),
        ({"role": "robot", "content": "x"}, False),
        ({"role": "user", "content": [{"type": "text", "text": "x"}]}, True),
        ({"role": "user", "content": [{"type": "input_audio"}]}, False),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/y.png"}}]}, False),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]},
            True,
        ),
    ],
)
def test_messages_in_the_schema(message: dict[str, Any], valid: bool) -> None:
    body = GOOD_CHAT | {"messages": [message]}
    assert CHAT_SCHEMA.is_valid(body) is valid
    if valid:
        validate(ChatCompletionBody, body)
    else:
        with pytest.raises(BadRequest):
            validate(ChatCompletionBody, body)
