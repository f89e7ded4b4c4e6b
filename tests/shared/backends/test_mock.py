"""The backend without a model, and the table from services to backends."""

from __future__ import annotations

from typing import Any

import pytest

from shared.backends.anthropic import AnthropicBackend
from shared.backends.base import Backend, CallTimeouts
from shared.backends.factory import build
from shared.backends.mock import MockBackend
from shared.backends.ollama import OllamaBackend
from shared.backends.openai_compatible import OpenAICompatibleBackend
from shared.errors import BackendRejected, ModelNotFound
from shared.services.config import ServiceConfig
from shared.services.presets import PRESETS
from shared.services.settings import ServiceSettings
from shared.wire.canonical import (
    ChatRequest,
    CompletionRequest,
    Delta,
    EmbeddingRequest,
    Finish,
    Message,
    Sampling,
    unpack_vector,
)

MOCK = ServiceConfig.model_validate({"name": "mock", "models": ["mock", "other"]})
LIMITS = CallTimeouts()
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {}}}


def mock() -> Backend:
    [made] = build(MOCK)
    assert isinstance(made, MockBackend)
    return made


async def said(request: ChatRequest | CompletionRequest) -> tuple[str, list[str], Finish]:
    """The text, the names of the tools called, and the end."""
    backend = mock()
    ask: Any = backend.chat if isinstance(request, ChatRequest) else backend.complete
    items = [item async for item in ask(request, request_id="r", timeouts=LIMITS)]
    deltas = [item for item in items if isinstance(item, Delta)]
    assert isinstance(items[-1], Finish)
    assert len(deltas) == len(items) - 1
    return "".join(d.content for d in deltas), [c.name for d in deltas for c in d.tool_calls], items[-1]


def ask(text: str, **fields: Any) -> ChatRequest:
    return ChatRequest(model="mock", messages=[Message(role="user", content=text)], **fields)


@pytest.mark.req("S4-10")
async def test_the_same_question_has_the_same_answer_and_another_has_another() -> None:
    first, again, other = await said(ask("a")), await said(ask("a")), await said(ask("b"))
    assert first == again
    assert first[0] != other[0]
    assert "No model wrote this mock answer" in first[0]
    assert (first[2].reason, first[2].usage.prompt_tokens, first[2].usage.completion_tokens) == ("stop", 1, 7)
    assert (await said(CompletionRequest(model="other", prompt="a")))[0] == first[0]


@pytest.mark.req("S4-10")
async def test_limits_json_and_tools_are_followed() -> None:
    cut = await said(ask("a", sampling=Sampling(max_tokens=2)))
    assert (cut[0], cut[2].reason) == ("No model", "length")
    assert (await said(ask("a", format="json")))[0] == '{"mock": true}'
    text, tools, end = await said(ask("a", tools=[TOOL]))
    assert (text, tools, end.reason) == ("", ["weather"], "tool_calls")
    after = ChatRequest(model="mock", messages=[Message(role="tool", content="rain")], tools=[TOOL])
    assert (await said(after))[2].reason == "stop"
    with pytest.raises(BackendRejected):
        await said(ask("a", format={"type": "object"}))


@pytest.mark.req("S4-10")
async def test_vectors_have_length_one_and_depend_on_their_text_alone() -> None:
    backend = mock()
    request = EmbeddingRequest(model="mock", inputs=["a", "b", "a"], dimensions=8)
    answer = await backend.embed(request, request_id="r", timeouts=LIMITS)
    vectors = [unpack_vector(vector) for vector in answer.vectors]
    assert vectors[0] == vectors[2] != vectors[1]
    assert [len(vector) for vector in vectors] == [8, 8, 8]
    assert sum(value * value for value in vectors[0]) == pytest.approx(1, abs=1e-5)
    with pytest.raises(BackendRejected):
        await backend.embed(EmbeddingRequest(model="mock", inputs=["a"], dimensions=0), request_id="r", timeouts=LIMITS)
    with pytest.raises(ModelNotFound):
        await backend.embed(EmbeddingRequest(model="none", inputs=["a"]), request_id="r", timeouts=LIMITS)
    assert [model.name for model in await backend.models()] == ["mock", "other"]
    assert [model.name for model in await backend.loaded()] == ["mock", "other"]
    assert await backend.version() == "mock"
    await backend.aclose()


@pytest.mark.req("S3-01", "S4-01", "S4-51", "S0-14")
@pytest.mark.parametrize("name", PRESETS)
async def test_every_preset_has_a_backend_for_each_of_its_urls(name: str) -> None:
    urls = [f"{PRESETS[name].url.rstrip('/')}", "http://127.0.0.1:1/v1"]
    service = ServiceConfig.model_validate({"name": name, "urls": urls, "api_key": "a-key"})
    kinds = {
        "ollama": OllamaBackend, "openai": OpenAICompatibleBackend, "anthropic": AnthropicBackend, "mock": MockBackend,
    }  # fmt: skip
    backends = build(service)
    assert [type(backend) for backend in backends] == [kinds[service.api_format]] * 2
    assert len({backend.name for backend in backends}) == 2
    for backend in backends:
        await backend.aclose()


def test_the_mock_is_there_only_where_it_is_configured() -> None:
    assert "mock" not in [service.name for service in ServiceSettings().configured_services]
    assert "mock" in [service.name for service in ServiceSettings(services={"mock": MOCK}).configured_services]
