"""What a service of the Messages API is asked besides answers, and whether the server of these tests is a true one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from anthropic import AsyncAnthropic, BadRequestError, OverloadedError
from pydantic import SecretStr

from shared.backends.anthropic import AnthropicBackend
from shared.backends.base import CallTimeouts
from shared.errors import BackendMisconfigured, BackendProtocolError
from shared.services.config import ServiceConfig
from shared.wire.canonical import ChatRequest, Delta, Message
from tests.shared.backends.anthropic_server import KEY, AnthropicServer, message, refusal, text, thinking, tool_use
from tests.shared.backends.scripted_server import whole

MODEL = "claude-opus-4-6"
MODELS: dict[str, Any] = {
    "data": [
        {"type": "model", "id": MODEL, "display_name": "Opus", "created_at": "2026-02-01T00:00:00Z"},
        {
            "type": "model",
            "id": "blind",
            "created_at": "2024-01-01T00:00:00Z",
            "capabilities": {"image_input": {"supported": False}, "thinking": {"supported": False, "types": {}}},
        },
    ],
    "has_more": False,
    "first_id": MODEL,
    "last_id": "blind",
}


@pytest.fixture
async def server() -> AsyncIterator[AnthropicServer]:
    async with AnthropicServer() as running:
        yield running


def service(**more: Any) -> ServiceConfig:
    return ServiceConfig(**{"name": "anthropic", "api_key": SecretStr(KEY), "short_timeout_sec": 10, **more})


@pytest.fixture
async def backend(server: AnthropicServer) -> AsyncIterator[AnthropicBackend]:
    made = AnthropicBackend(service(), server.url)
    yield made
    await made.aclose()


async def test_the_models_of_a_key_page_by_page(server: AnthropicServer, backend: AnthropicBackend) -> None:
    more = {"data": [{"id": "claude-next", "type": "model"}], "has_more": False, "last_id": "claude-next"}
    server.lists({**MODELS, "has_more": True}, more)
    models = {info.name: info for info in await backend.models()}
    assert list(models) == [MODEL, "blind", "claude-next"]
    assert models[MODEL].capabilities == ("completion", "tools", "vision", "thinking")
    assert models[MODEL].modified_at == "2026-02-01T00:00:00Z"
    assert models["blind"].capabilities == ("completion", "tools")
    assert server.query == "limit=1000&after_id=blind"


async def test_models_from_the_configuration(server: AnthropicServer) -> None:
    server.lists(MODELS)
    both = AnthropicBackend(service(models=["mine", MODEL]), server.url)
    assert [info.name for info in await both.models()] == [MODEL, "blind", "mine"]
    fixed = AnthropicBackend(service(models=["mine"], enable_discovery=False), server.url)
    before = len(server.requests)
    assert [info.name for info in await fixed.models()] == ["mine"]
    assert len(server.requests) == before
    await both.aclose()
    await fixed.aclose()


async def test_the_probe(server: AnthropicServer, backend: AnthropicBackend) -> None:
    server.lists(MODELS)
    assert await backend.version() == "2023-06-01"
    assert server.query == "limit=1"
    server.scripts["/v1/models"] = refusal(401, "authentication_error", "invalid x-api-key")
    with pytest.raises(BackendMisconfigured):
        await backend.version()
    server.scripts["/v1/models"] = whole(b"<html>Welcome to the hotel</html>", content_type="text/html")
    with pytest.raises(BackendProtocolError):
        await backend.version()


async def test_a_server_without_a_list_of_models_is_well_where_its_configuration_says_so(
    server: AnthropicServer,
) -> None:
    server.scripts["/v1/models"] = refusal(404, "not_found_error", "Not found")
    fixed = AnthropicBackend(service(models=["mine"], enable_discovery=False), server.url)
    assert await fixed.version() == "2023-06-01"
    asking = AnthropicBackend(service(), server.url)
    with pytest.raises(BackendMisconfigured):
        await asking.version()
    await fixed.aclose()
    await asking.aclose()


async def test_a_base_url_may_end_in_v1(server: AnthropicServer) -> None:
    server.answer(*message(text(0, "Hello")))
    backend = AnthropicBackend(service(), f"{server.url}/v1/")
    ask = ChatRequest(model=MODEL, messages=[Message(role="user", content="hi")])
    items = [item async for item in backend.chat(ask, request_id="j", timeouts=CallTimeouts())]
    assert items[0] == Delta("Hello")
    assert backend.name == server.url.removeprefix("http://")
    await backend.aclose()


async def test_the_official_client_takes_the_server_for_the_real_one(server: AnthropicServer) -> None:
    """What is shown with this server holds as far as it behaves like the real one."""
    async with AsyncAnthropic(base_url=server.url, api_key=KEY, max_retries=0) as client:
        server.answer(
            *message(thinking(0, "hm"), text(1, "Hel", "lo"), tool_use(2, "f", '{"a": 1}'), reason="tool_use")
        )
        turns: Any = [{"role": "user", "content": "hi"}]
        async with client.messages.stream(model=MODEL, max_tokens=9, messages=turns) as stream:
            whole_answer = await stream.get_final_message()
        assert [part.type for part in whole_answer.content] == ["thinking", "text", "tool_use"]
        assert whole_answer.usage.output_tokens == 7
        with pytest.raises(BadRequestError, match="whitespace"):
            await client.messages.create(
                model=MODEL, max_tokens=9, messages=[{"role": "user", "content": " "}], stream=True
            )
        server.fail(refusal(529, "overloaded_error", "Overloaded"))
        with pytest.raises(OverloadedError):
            await client.messages.create(model=MODEL, max_tokens=9, messages=turns)
        server.lists(MODELS)
        assert [info.id async for info in client.models.list()] == [MODEL, "blind"]
