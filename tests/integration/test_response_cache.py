"""The response cache over real processes: who asks for an earlier answer gets it without a job, nobody else does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from redis import Redis

from tests.integration.processes import eventually
from tests.integration.stack import Stack, chat_body

USE = {"x-arriero-cache": "use"}


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with Stack() as stack:
        stack.gateway()
        stack.gateway(RESPONSE_CACHE="always")
        stack.worker()
        stack.wait()
        yield stack


@pytest.fixture(scope="module")
def tenants(stack: Stack) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    keys = [stack.create_key(tenant)["key"] for tenant in ("llamas", "alpacas")]
    with stack.http(keys[0]) as llama, stack.http(keys[1]) as alpaca:
        eventually(lambda: all(one.get("/v1/models").status_code == 200 for one in (llama, alpaca)), 5, "keys known")
        yield llama, alpaca


@pytest.fixture
def llama(tenants: tuple[httpx.Client, httpx.Client]) -> httpx.Client:
    return tenants[0]


def ask(client: httpx.Client, body: dict[str, Any], headers: dict[str, str], path: str = "/v1/chat/completions") -> Any:
    answer = client.post(path, json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer


def kept(client: httpx.Client, body: dict[str, Any], path: str = "/v1/chat/completions") -> Any:
    """The first answer to a request, once a repetition finds it."""
    first = ask(client, body, USE, path)
    assert first.headers["x-cache"] == "miss"
    assert first.headers["x-arriero-job-id"]
    eventually(lambda: ask(client, body, USE, path).headers["x-cache"] == "hit", 5, "the answer is kept")
    return first


def runs(stack: Stack) -> int:
    return len(stack.simulator.calls())


@pytest.mark.req("S0-53", "S2-36")
def test_the_same_question_is_answered_again_without_a_job(stack: Stack, llama: httpx.Client) -> None:
    body = chat_body("Why do llamas hum?")
    first = kept(llama, body)
    before = runs(stack)
    again = ask(llama, body, USE)
    assert again.headers["x-cache"] == "hit"
    assert int(again.headers["Age"]) >= 0
    assert again.headers["x-arriero-route"] == first.headers["x-arriero-route"]
    assert "x-arriero-job-id" not in again.headers
    assert again.json()["choices"] == first.json()["choices"]
    other = ask(llama, {**body, "temperature": 0.3}, USE)
    assert other.headers["x-cache"] == "miss"
    assert runs(stack) == before + 1


@pytest.mark.req("S0-53", "S2-36")
def test_repeated_texts_get_their_vectors(stack: Stack, llama: httpx.Client) -> None:
    body = {"model": "nomic-embed-text", "input": ["a herd", "a road"]}
    first = kept(llama, body, "/v1/embeddings")
    before = runs(stack)
    assert ask(llama, body, USE, "/v1/embeddings").json()["data"] == first.json()["data"]
    assert runs(stack) == before


@pytest.mark.parametrize("face", ["openai", "ollama", "anthropic", "direct"])
def test_every_face_streams_or_writes_an_answer_that_was_kept(llama: httpx.Client, face: str) -> None:
    question = f"Tell the {face} story"
    messages = [{"role": "user", "content": question}]
    faces: dict[str, tuple[str, dict[str, Any]]] = {
        "openai": ("/v1/chat/completions", {"model": "llama3.2", "messages": messages, "stream": True}),
        "ollama": ("/api/chat", {"model": "llama3.2", "messages": messages}),
        "anthropic": ("/v1/messages", {"model": "llama3.2", "messages": messages, "max_tokens": 64, "stream": True}),
        "direct": ("/chat", {"message": question, "worker_type": "local_llm"}),
    }
    path, body = faces[face]
    first = kept(llama, body, path)
    again = ask(llama, body, USE, path)
    assert texts(face, again) == texts(face, first) != ""


def texts(face: str, answer: httpx.Response) -> str:
    """What was said, of one body or of a stream."""
    if face == "direct":
        return str(answer.json()["response"])
    lines = [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line[-1:] == "}"]
    read: dict[str, Callable[[Any], str]] = {
        "openai": lambda line: (line["choices"] or [{"delta": {}}])[0]["delta"].get("content") or "",
        "ollama": lambda line: line["message"]["content"],
        "anthropic": lambda line: line.get("delta", {}).get("text", ""),
    }
    return "".join(read[face](line) for line in lines)


@pytest.mark.req("S0-53", "C20")
def test_nobody_gets_another_tenant_s_answer(stack: Stack, tenants: tuple[httpx.Client, httpx.Client]) -> None:
    llama, alpaca = tenants
    body = chat_body("What is ours alone?")
    kept(llama, body)
    before = runs(stack)
    assert ask(alpaca, body, USE).headers["x-cache"] == "miss"
    assert runs(stack) == before + 1


@pytest.mark.req("S0-53", "C20")
@pytest.mark.parametrize(
    "headers", [{"x-arriero-private": "true"}, {"Cache-Control": "no-store"}, {"Cache-Control": "no-cache"}]
)
def test_private_and_fresh_answers_are_not_taken_from_it(
    stack: Stack, llama: httpx.Client, headers: dict[str, str]
) -> None:
    body = chat_body(f"Say it anew, {headers}")
    kept(llama, body)
    before = runs(stack)
    answer = ask(llama, body, {**USE, **headers})
    assert answer.headers.get("x-cache") != "hit"
    assert runs(stack) == before + 1


@pytest.mark.req("S0-53", "C20")
@pytest.mark.parametrize("text", ["The patient sleeps at noon", "The road is long"])
def test_private_questions_are_never_kept(stack: Stack, llama: httpx.Client, text: str) -> None:
    """The first is private by its words, the second by its header."""
    headers = {**USE, "x-arriero-private": "true"} if "road" in text else USE
    with Redis.from_url(stack.redis.url) as redis:
        before = set(redis.scan_iter(match="gw:*response*"))
        for _ in range(2):
            assert "x-cache" not in ask(llama, chat_body(text, model="auto"), headers).headers
        assert set(redis.scan_iter(match="gw:*response*")) == before


def test_max_age_asks_for_it_and_says_how_old(stack: Stack, llama: httpx.Client) -> None:
    body = chat_body("How old is the road?")
    kept(llama, body)
    assert ask(llama, body, {"Cache-Control": "max-age=3600"}).headers["x-cache"] == "hit"
    assert "x-cache" not in ask(llama, body, {"Cache-Control": "max-age=0"}).headers
    assert "x-cache" not in ask(llama, body, {}).headers


def test_with_the_setting_repeatable_requests_need_not_ask(stack: Stack, llama: httpx.Client) -> None:
    url = stack.gateways[1].url + "/v1/chat/completions"
    body = chat_body("Without a word of the header", temperature=0)
    first = ask(llama, body, {}, url)
    assert first.headers["x-cache"] == "miss"
    eventually(lambda: ask(llama, body, {}, url).headers["x-cache"] == "hit", 5, "the answer is kept")
    for _ in range(2):
        assert "x-cache" not in ask(llama, {**body, "temperature": 0.9}, {}, url).headers


def test_an_idempotency_key_stands_for_its_own_job(llama: httpx.Client) -> None:
    body = chat_body("Only once")
    kept(llama, body)
    keyed = ask(llama, body, {**USE, "Idempotency-Key": "once"})
    assert keyed.headers["x-cache"] == "miss"
    assert keyed.headers["x-arriero-job-id"]


def test_another_word_in_the_header_is_refused(llama: httpx.Client) -> None:
    refused = llama.post("/v1/chat/completions", json=chat_body("hi"), headers={"x-arriero-cache": "yes"})
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "x-arriero-cache"
