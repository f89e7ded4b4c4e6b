"""The whole road in real processes: any face, the queue, a worker, and a service of Anthropic's API at its end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from anthropic import AsyncAnthropic
from anthropic.types import MessageParam

from tests.integration.stack import Stack
from tests.shared.backends.anthropic_server import (
    KEY,
    MESSAGES,
    AnthropicServer,
    message,
    refusal,
    text,
    thinking,
    tool_use,
)
from tests.shared.backends.scripted_server import Reply

CLAUDE = "claude-opus-4-6"
QUESTION: list[MessageParam] = [{"role": "user", "content": "Why do llamas hum?"}]
MODELS = {"data": [{"type": "model", "id": CLAUDE, "created_at": "2026-02-01T00:00:00Z"}], "has_more": False}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def service() -> AsyncIterator[AnthropicServer]:
    async with AnthropicServer() as server:
        server.lists(MODELS)
        yield server


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def stack(service: AnthropicServer) -> AsyncIterator[Stack]:
    services = {"anthropic": {"urls": [service.url], "api_key": KEY, "default_model": CLAUDE}}
    # Started in a thread, since the service answers in this one.
    stack = Stack(SERVICES=json.dumps(services))
    await asyncio.to_thread(stack.__enter__)
    try:
        stack.gateway()
        stack.worker()
        await asyncio.to_thread(stack.wait)
        yield stack
    finally:
        await asyncio.to_thread(stack.__exit__, None, None, None)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def http(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=stack.url, timeout=30, trust_env=False) as client:
        yield client


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.req("S3-03", "S3-25", "S4-09")
async def test_an_openai_client_is_answered_by_the_service(service: AnthropicServer, http: httpx.AsyncClient) -> None:
    service.answer(*message(text(0, "They", " like it.")))
    body = {"model": f"anthropic~{CLAUDE}", "messages": QUESTION}
    whole = await http.post("/v1/chat/completions", json=body)
    assert whole.status_code == 200, whole.text
    assert whole.json()["choices"][0]["message"]["content"] == "They like it."
    assert whole.json()["usage"]["prompt_tokens"] == 17
    assert whole.headers["x-arriero-route"].startswith(f"anthropic~{CLAUDE}")
    assert service.asked["model"] == CLAUDE
    streamed = await http.post("/v1/chat/completions", json={**body, "stream": True})
    assert '"content":"They"' in streamed.text
    assert streamed.text.endswith("data: [DONE]\n\n")


@pytest.mark.req("S3-12", "S3-24", "C18")
async def test_the_official_client_calls_a_tool_through_the_queue(service: AnthropicServer, stack: Stack) -> None:
    tools: Any = [{"name": "get_weather", "input_schema": {"type": "object", "properties": {}}}]
    async with AsyncAnthropic(base_url=stack.url, api_key="none", max_retries=0) as client:
        service.answer(*message(text(0, "Let me look."), tool_use(1, "get_weather", "{}"), reason="tool_use"))
        async with client.messages.stream(
            model=f"anthropic~{CLAUDE}", max_tokens=99, messages=QUESTION, tools=tools
        ) as stream:
            called = await stream.get_final_message()
        assert called.stop_reason == "tool_use"
        use = called.content[1]
        assert use.type == "tool_use" and use.id == "toolu_01"
        service.answer(*message(text(0, "Sunny.")))
        result: Any = {"type": "tool_result", "tool_use_id": use.id, "content": "sunny"}
        turns: list[Any] = [
            *QUESTION,
            {"role": "assistant", "content": called.content},
            {"role": "user", "content": [result]},
        ]
        final = await client.messages.create(model=f"anthropic~{CLAUDE}", max_tokens=99, messages=turns, tools=tools)
    assert final.content[0].type == "text" and final.content[0].text == "Sunny."
    assert [turn["role"] for turn in service.asked["messages"]] == ["user", "assistant", "user"]


@pytest.mark.req("S3-12", "S3-24")
@pytest.mark.parametrize("streamed", [True, False])
async def test_signed_thinking_comes_to_the_client_and_goes_back_as_it_was(
    service: AnthropicServer, stack: Stack, streamed: bool
) -> None:
    tools: Any = [{"name": "get_weather", "input_schema": {"type": "object", "properties": {}}}]
    ask: Any = {
        "model": f"anthropic~{CLAUDE}", "max_tokens": 2000, "tools": tools,
        "thinking": {"type": "enabled", "budget_tokens": 1024},
    }  # fmt: skip
    async with AsyncAnthropic(base_url=stack.url, api_key="none", max_retries=0) as client:
        service.answer(*message(thinking(0, "Let me", " see."), tool_use(1, "get_weather", "{}"), reason="tool_use"))
        if streamed:
            async with client.messages.stream(messages=QUESTION, **ask) as stream:
                called = await stream.get_final_message()
        else:
            called = await client.messages.create(messages=QUESTION, **ask)
        thought = {"type": "thinking", "thinking": "Let me see.", "signature": "c2lnbmVk"}
        assert called.content[0].to_dict() == thought
        service.answer(*message(text(0, "Sunny.")))
        result: Any = {"type": "tool_result", "tool_use_id": "toolu_01", "content": "sunny"}
        said: Any = [{"role": "assistant", "content": called.content}, {"role": "user", "content": [result]}]
        await client.messages.create(messages=[*QUESTION, *said], **ask)
    assert service.asked["messages"][1]["content"][0] == thought
    assert service.asked["thinking"]["type"] == "adaptive"


async def test_of_thinking_in_several_pieces_a_whole_answer_has_no_signature(
    service: AnthropicServer, http: httpx.AsyncClient
) -> None:
    service.answer(*message(thinking(0, "One."), thinking(1, "Two."), text(2, "So.")))
    ask = {"model": f"anthropic~{CLAUDE}", "max_tokens": 2000, "messages": QUESTION, "thinking": {"type": "enabled"}}
    whole = await http.post("/v1/messages", json=ask)
    assert whole.json()["content"][0] == {"type": "thinking", "thinking": "One.Two.", "signature": ""}


@pytest.mark.req("S0-09")
@pytest.mark.parametrize("worker_type", ["anthropic", "claude"])
async def test_the_worker_type_and_its_other_name(
    service: AnthropicServer, http: httpx.AsyncClient, worker_type: str
) -> None:
    service.answer(*message(text(0, "They like it.")))
    answer = await http.post("/generate", json={"prompt": "Why?", "worker_type": worker_type, "model_id": CLAUDE})
    assert answer.status_code == 200, answer.text
    assert answer.json()["response"] == "They like it."
    assert answer.json()["worker_type"] == "anthropic"


async def test_a_wrong_key_is_the_operators_matter_and_stays_unsaid(
    service: AnthropicServer, http: httpx.AsyncClient
) -> None:
    service.fail(refusal(401, "authentication_error", f"invalid x-api-key {KEY}"))
    refused = await http.post(
        "/v1/messages", json={"model": f"anthropic~{CLAUDE}", "max_tokens": 9, "messages": QUESTION}
    )
    assert refused.status_code == 502
    assert refused.json()["error"]["code"] == "backend_misconfigured"
    job = await http.get(f"/v1/jobs/{refused.headers['x-arriero-job-id']}")
    assert KEY not in refused.text + job.text


async def test_a_limited_rate_is_waited_for(service: AnthropicServer, http: httpx.AsyncClient) -> None:
    service.answer(*message(text(0, "They like it.")))
    answers = service.scripts[MESSAGES]
    refusals = [refusal(429, "rate_limit_error", "Slow down", "Retry-After: 1\r\n")]

    async def once_refused(reply: Reply) -> None:
        await (refusals.pop() if refusals else answers)(reply)

    service.fail(once_refused)
    body = {"model": f"anthropic~{CLAUDE}", "max_tokens": 9, "messages": QUESTION}
    answer = await http.post("/v1/messages", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["content"][0]["text"] == "They like it."
    assert answer.headers["x-arriero-attempts"] == "2"
