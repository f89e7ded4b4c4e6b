"""The whole road to a real server that is not ours: OpenAI's client, gateway, Redis, worker, llama.cpp."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from openai import BadRequestError, OpenAI

from tests.compat.conftest import openai_client
from tests.compat.llama_cpp.process import KEY, MODEL, LlamaCpp, serving
from tests.integration.stack import Stack

# The first test may have to fetch some 60 MB.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NAME = f"llamacpp~{MODEL}"
SCHEMA = {
    "type": "object",
    "properties": {"legs": {"type": "integer"}, "woolly": {"type": "boolean"}},
    "required": ["legs", "woolly"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaCpp]:
    with serving(tmp_path_factory.mktemp("llama_cpp")) as running:
        yield running


@pytest.fixture(scope="module")
def stack(server: LlamaCpp) -> Iterator[Stack]:
    services = {"llamacpp": {"urls": [server.url], "api_key": KEY}}
    with Stack(SERVICES=json.dumps(services)) as running:
        running.gateway()
        running.worker()
        running.wait()
        yield running


@pytest.fixture
def client(stack: Stack) -> Iterator[OpenAI]:
    with openai_client(stack.url) as client:
        yield client


@pytest.mark.req("S4-45", "S4-51", "S4-72")
def test_a_chat(client: OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model=NAME, messages=[{"role": "user", "content": "Why do llamas hum?"}], max_tokens=12, seed=1
    )
    answer = raw.parse()
    assert raw.headers["x-arriero-route"].startswith(f"{NAME};")
    assert answer.model == NAME
    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 12


@pytest.mark.req("S2-07", "S2-35")
def test_a_stream_by_the_name_with_a_colon(client: OpenAI) -> None:
    stream = client.chat.completions.create(
        model=f"llamacpp:{MODEL}",
        messages=[{"role": "user", "content": "Why do llamas hum?"}],
        max_tokens=40,
        seed=1,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert sum(bool(chunk.choices and chunk.choices[0].delta.content) for chunk in chunks) > 1
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 40


def test_an_answer_follows_its_schema(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model=NAME,
        messages=[{"role": "user", "content": "Describe a llama."}],
        max_tokens=300,
        seed=1,
        response_format={"type": "json_schema", "json_schema": {"name": "llama", "schema": SCHEMA}},
    )
    found = json.loads(answer.choices[0].message.content or "")
    assert isinstance(found.pop("legs"), int)
    assert isinstance(found.pop("woolly"), bool)
    assert not found


@pytest.mark.req("S4-46")
def test_vectors(client: OpenAI) -> None:
    answer = client.embeddings.create(model=NAME, input=["a llama", "an invoice", "a llama"])
    first, other, again = (item.embedding for item in answer.data)
    assert len(first) == 32
    assert first == pytest.approx(again, abs=1e-4)
    assert first != pytest.approx(other, abs=1e-2)


@pytest.mark.req("S2-06", "S2-11")
def test_its_model_is_among_all_models(client: OpenAI) -> None:
    names = {model.id for model in client.models.list()}
    assert NAME in names
    assert any(name.startswith("llama3.2") for name in names)


def test_a_request_that_is_too_long_is_refused_with_the_servers_reason(client: OpenAI) -> None:
    with pytest.raises(BadRequestError, match="longer than 'tiny' can read") as refused:
        client.chat.completions.create(model=NAME, messages=[{"role": "user", "content": "llama " * 500}])
    assert refused.value.param == "messages"
