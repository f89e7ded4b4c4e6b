"""llama.cpp's own server, a real one that is not ours, on a tiny model of random weights: what it takes and gives."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import pytest

from shared.backends.base import CallTimeouts
from shared.backends.openai_compatible import OpenAICompatibleBackend
from shared.errors import BackendMisconfigured, BackendRejected
from shared.services.config import ServiceConfig
from shared.wire.canonical import (
    ChatRequest,
    CompletionRequest,
    Delta,
    EmbeddingRequest,
    Finish,
    Message,
    Sampling,
    ToolCall,
    unpack_vector,
)
from tests.compat.llama_cpp.process import KEY, MODEL, LlamaCpp, serving

# The first test may have to fetch some 60 MB.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TIMEOUTS = CallTimeouts(connect_s=5, first_byte_s=30, gap_s=30, total_s=60)
DIMENSIONS = 32
SCHEMA = {
    "type": "object",
    "properties": {"legs": {"type": "integer"}, "woolly": {"type": "boolean"}},
    "required": ["legs", "woolly"],
    "additionalProperties": False,
}
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaCpp]:
    with serving(tmp_path_factory.mktemp("llama_cpp")) as running:
        yield running


@pytest.fixture
async def backend(server: LlamaCpp) -> AsyncIterator[OpenAICompatibleBackend]:
    made = backend_of(server)
    yield made
    await made.aclose()


def backend_of(server: LlamaCpp, key: str = KEY) -> OpenAICompatibleBackend:
    service = ServiceConfig.model_validate({"name": "llamacpp", "urls": [server.url], "api_key": key})
    return OpenAICompatibleBackend(service, server.url)


def ask(text: str = "Why do llamas hum?", *, max_tokens: int = 12, **fields: Any) -> ChatRequest:
    sampling = Sampling(max_tokens=max_tokens, seed=1, options={"top_k": 20, "num_ctx": 4096, "repeat_penalty": 1.0})
    return ChatRequest(
        model=MODEL, **{"messages": [Message(role="user", content=text)], "sampling": sampling, **fields}
    )


async def chat(backend: OpenAICompatibleBackend, request: ChatRequest) -> tuple[list[Delta], Finish]:
    items = [item async for item in backend.chat(request, request_id="job_1", timeouts=TIMEOUTS)]
    finish = items.pop()
    assert isinstance(finish, Finish)
    return [item for item in items if isinstance(item, Delta)], finish


@pytest.mark.req("S4-72", "S4-13")
async def test_a_chat_streams_and_is_counted(backend: OpenAICompatibleBackend) -> None:
    deltas, finish = await chat(backend, ask())
    assert len(deltas) > 4
    assert finish.reason == "length"
    assert finish.usage.completion_tokens == 12
    assert finish.usage.prompt_tokens > 12
    assert finish.timings.eval_s > 0


async def test_the_seed_is_taken(backend: OpenAICompatibleBackend) -> None:
    first, again = [await chat(backend, ask()) for _ in range(2)]
    other = await chat(backend, ask(sampling=Sampling(max_tokens=12, seed=2)))
    assert [delta.content for delta in first[0]] == [delta.content for delta in again[0]]
    assert [delta.content for delta in first[0]] != [delta.content for delta in other[0]]


async def test_an_answer_follows_its_schema(backend: OpenAICompatibleBackend) -> None:
    deltas, finish = await chat(backend, ask(max_tokens=300, format=SCHEMA))
    found = json.loads("".join(delta.content for delta in deltas))
    assert finish.reason == "stop"
    assert found.keys() == {"legs", "woolly"}
    assert isinstance(found["legs"], int)
    assert isinstance(found["woolly"], bool)


async def test_logprobs_and_their_alternatives(backend: OpenAICompatibleBackend) -> None:
    deltas, _ = await chat(backend, ask(max_tokens=4, logprobs=True, top_logprobs=2))
    tokens = [token for delta in deltas for token in delta.logprobs]
    assert len(tokens) == 4
    assert all(token["logprob"] < 0 and len(token["top_logprobs"]) == 2 for token in tokens)


async def test_stop_words_end_the_answer(backend: OpenAICompatibleBackend) -> None:
    whole = "".join(delta.content for delta in (await chat(backend, ask()))[0])
    stop = whole[len(whole) // 2]
    sampling = Sampling(max_tokens=12, seed=1, stop=[stop], options={"top_k": 20})
    deltas, finish = await chat(backend, ask(sampling=sampling))
    assert "".join(delta.content for delta in deltas) == whole[: whole.index(stop)]
    assert finish.reason == "stop"


async def test_a_conversation_with_tools_and_thoughts_is_taken(backend: OpenAICompatibleBackend) -> None:
    messages = [
        Message(role="system", content="Be brief."),
        Message(role="user", content="Is it cold in Puno?"),
        Message(
            role="assistant",
            thinking="I should look.",
            tool_calls=[ToolCall(id="", name="weather", arguments='{"city":"Puno"}')],
        ),
        Message(role="tool", content="12 C", tool_name="weather"),
    ]
    _, finish = await chat(backend, ask(messages=messages, tools=[WEATHER], think=False))
    assert finish.usage.completion_tokens == 12


async def test_a_prompt_is_continued(backend: OpenAICompatibleBackend) -> None:
    request = CompletionRequest(
        model=MODEL, prompt="6*7=", sampling=Sampling(max_tokens=5), logprobs=True, top_logprobs=1
    )
    items = [item async for item in backend.complete(request, request_id="job_2", timeouts=TIMEOUTS)]
    finish = items[-1]
    assert isinstance(finish, Finish)
    assert (finish.reason, finish.usage.completion_tokens) == ("length", 5)
    # Its template is left out, so the prompt is little more than its four characters.
    assert finish.usage.prompt_tokens < 8
    assert any(isinstance(item, Delta) and item.logprobs for item in items)


async def test_vectors(backend: OpenAICompatibleBackend) -> None:
    request = EmbeddingRequest(model=MODEL, inputs=["a llama", "an invoice", "a llama"])
    answer = await backend.embed(request, request_id="job_3", timeouts=TIMEOUTS)
    first, other, again = map(unpack_vector, answer.vectors)
    assert len(first) == DIMENSIONS
    assert first == pytest.approx(again, abs=1e-4)
    assert first != pytest.approx(other, abs=1e-2)
    assert answer.usage.prompt_tokens > 3


@pytest.mark.req("S2-06")
async def test_its_models(backend: OpenAICompatibleBackend) -> None:
    (model,) = await backend.models()
    (loaded,) = await backend.loaded()
    assert (model.name, loaded.name) == (MODEL, MODEL)
    assert model.size_bytes == loaded.size_bytes > 100_000
    assert loaded.context_length == 512
    assert await backend.version() == "llama.cpp"


async def test_a_request_longer_than_its_context_is_the_callers_mistake(backend: OpenAICompatibleBackend) -> None:
    with pytest.raises(BackendRejected, match="longer than 'tiny' can read") as refused:
        await chat(backend, ask("llama " * 500))
    assert refused.value.param == "messages"


async def test_a_wrong_key_is_an_operators_matter(server: LlamaCpp) -> None:
    backend = backend_of(server, "sk-wrong-0123456789")
    with pytest.raises(BackendMisconfigured, match="API key"):
        await chat(backend, ask())
    await backend.aclose()


async def test_leaving_frees_the_slots(backend: OpenAICompatibleBackend) -> None:
    # Two slots: were the model not stopped, the third of these would have to wait for 400 tokens, and the last be late.
    for _ in range(4):
        async with aclosing(backend.chat(ask(max_tokens=400), request_id="job_4", timeouts=TIMEOUTS)) as stream:
            assert isinstance(await anext(stream), Delta)
    _, finish = await chat(backend, ask(max_tokens=1))
    assert finish.usage.completion_tokens == 1
