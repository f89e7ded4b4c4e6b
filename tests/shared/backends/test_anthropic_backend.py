"""The backend against a server on a real socket: whole answers, faults, limits, and what is sent along."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import pytest
from pydantic import SecretStr

from shared.backends.anthropic import AnthropicBackend
from shared.backends.base import CallTimeouts
from shared.errors import (
    AnswerIncomplete,
    ArrieroError,
    BackendBusy,
    BackendFault,
    BackendMisconfigured,
    BackendProtocolError,
    BackendRejected,
    BackendTimeout,
    BackendUnreachable,
    ModelNotFound,
)
from shared.services.config import ServiceConfig
from shared.wire.canonical import ChatRequest, CompletionRequest, Delta, EmbeddingRequest, Finish, Message, ToolCall
from tests.house.redis_server import free_port
from tests.shared.backends.anthropic_server import (
    KEY,
    MESSAGES,
    PING,
    START,
    AnthropicServer,
    end,
    message,
    refusal,
    sse,
    text,
    thinking,
    tool_use,
)
from tests.shared.backends.scripted_server import Reply, Script, silence, whole

MODEL = "claude-opus-4-6"
ASK = ChatRequest(model=MODEL, messages=[Message(role="user", content="hi")])
PATIENT = CallTimeouts(connect_s=5, first_byte_s=20, gap_s=20, total_s=30)
HELLO = message(text(0, "Hel", "lo"))


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


async def chat(
    backend: AnthropicBackend, request: ChatRequest = ASK, timeouts: CallTimeouts = PATIENT
) -> list[Delta | Finish]:
    return [item async for item in backend.chat(request, request_id="job_1", timeouts=timeouts)]


def said(items: list[Delta | Finish]) -> str:
    return "".join(item.content for item in items if isinstance(item, Delta))


@pytest.mark.req("S3-03", "S3-25", "S4-09")
async def test_a_chat(server: AnthropicServer, backend: AnthropicBackend) -> None:
    server.answer(*HELLO)
    items = await chat(backend)
    assert said(items) == "Hello"
    assert isinstance(items[-1], Finish) and items[-1].usage.prompt_tokens == 17
    seen = server.requests[-1]
    assert (seen.method, seen.path) == ("POST", MESSAGES)
    assert (seen.headers["x-api-key"], seen.headers["anthropic-version"]) == (KEY, "2023-06-01")
    assert "authorization" not in seen.headers
    assert seen.headers["x-request-id"] == "job_1"
    assert server.asked["stream"] is True


@pytest.mark.req("S3-12", "S3-24", "C18")
async def test_a_tool_is_called_and_its_answer_brought_back(server: AnthropicServer, backend: AnthropicBackend) -> None:
    server.answer(*message(thinking(0, "hm"), tool_use(1, "get_weather", '{"city":', '"Lima"}'), reason="tool_use"))
    called = await chat(backend)
    call = ToolCall(id="toolu_01", name="get_weather", arguments='{"city":"Lima"}')
    assert called[1:3] == [Delta(signature="c2lnbmVk"), Delta(tool_calls=[call])]
    assert isinstance(called[-1], Finish) and called[-1].reason == "tool_calls"
    server.answer(*message(text(0, "Sunny.")))
    turns = [
        Message(role="assistant", thinking="hm", tool_calls=[call]),
        Message(role="tool", content="sunny", tool_call_id="toolu_01"),
    ]
    assert said(await chat(backend, ChatRequest(model=MODEL, messages=[*ASK.messages, *turns]))) == "Sunny."
    assert server.asked["messages"][2]["content"][0]["tool_use_id"] == "toolu_01"


async def test_a_prompt_without_a_conversation(server: AnthropicServer, backend: AnthropicBackend) -> None:
    server.answer(*HELLO)
    prompt = CompletionRequest(model=MODEL, prompt="Once upon")
    items = [item async for item in backend.complete(prompt, request_id="j", timeouts=PATIENT)]
    assert said(items) == "Hello"
    assert server.asked["messages"] == [{"role": "user", "content": [{"type": "text", "text": "Once upon"}]}]


async def test_what_the_service_cannot_do_is_refused_before_anything_is_sent(
    server: AnthropicServer, backend: AnthropicBackend
) -> None:
    with pytest.raises(BackendRejected, match="no embeddings"):
        await backend.embed(EmbeddingRequest(model=MODEL, inputs=["a"]), request_id="j", timeouts=PATIENT)
    with pytest.raises(BackendRejected, match="suffix"):
        fill = CompletionRequest(model=MODEL, prompt="a", suffix="b")
        _ = [item async for item in backend.complete(fill, request_id="j", timeouts=PATIENT)]
    assert server.requests == []
    assert await backend.loaded() == []


async def test_events_may_be_cut_anywhere(server: AnthropicServer, backend: AnthropicBackend) -> None:
    stream = b"".join(sse(event) for event in message(text(0, "Grüße", " 🦙"))).replace(b"\n", b"\r\n")
    server.answer(*(stream[at : at + 7] for at in range(0, len(stream), 7)))
    assert said(await chat(backend)) == "Grüße 🦙"


async def test_connections_are_used_again(server: AnthropicServer, backend: AnthropicBackend) -> None:
    server.answer(*HELLO)
    for _ in range(3):
        await chat(backend)
    assert server.connections == 1


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (refusal(529, "overloaded_error", "Overloaded"), BackendBusy),
        (refusal(429, "rate_limit_error", "Slow down", "Retry-After: 7\r\n"), BackendBusy),
        (refusal(401, "authentication_error", f"invalid x-api-key {KEY}"), BackendMisconfigured),
        (refusal(403, "permission_error", f"no {KEY}"), BackendMisconfigured),
        (refusal(404, "not_found_error", "model: claude-opus-4-6"), ModelNotFound),
        (refusal(400, "invalid_request_error", f"tools.0: bad {KEY}"), BackendRejected),
        (refusal(500, "api_error", "Internal server error"), BackendFault),
        (whole(b"<html>bad gateway</html>", 502, content_type="text/html"), BackendFault),
        (whole(b"", 301, "Location: http://127.0.0.1:9/\r\n"), BackendMisconfigured),
        (whole(b"not an event stream"), AnswerIncomplete),
        (whole(b""), AnswerIncomplete),
    ],
)
async def test_refusals(
    server: AnthropicServer, backend: AnthropicBackend, script: Script, expected: type[ArrieroError]
) -> None:
    server.fail(script)
    with pytest.raises(ArrieroError) as caught:
        await chat(backend)
    assert type(caught.value) is expected
    assert KEY not in caught.value.message + "".join(caught.value.__notes__ if expected is not AnswerIncomplete else ())
    if expected is BackendBusy:
        assert caught.value.retry_after_s is not None and caught.value.retry_after_s >= 5


@pytest.mark.parametrize(
    ("parts", "cut", "expected"),
    [
        ([START, PING], False, AnswerIncomplete),
        ([START, *text(0, "a")], False, AnswerIncomplete),
        ([START, *text(0, "a"), end()], False, AnswerIncomplete),
        ([START, *text(0, "a")], True, BackendProtocolError),
        ([START, b"data: {garbage\n\n"], False, BackendProtocolError),
        ([START, b"data: " + b"x" * 1_100_000], False, BackendProtocolError),
        (
            [START, *text(0, "a"), {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}],
            False,
            BackendBusy,
        ),
    ],
    ids=["nothing said", "no end", "no stop", "cut", "garbage", "endless line", "error event"],
)
async def test_streams_that_break(
    server: AnthropicServer, backend: AnthropicBackend, parts: list[Any], cut: bool, expected: type[ArrieroError]
) -> None:
    server.answer(*parts, cut=cut)
    with pytest.raises(ArrieroError) as caught:
        await chat(backend)
    assert type(caught.value) is expected


async def _starts_and_falls_silent(reply: Reply) -> None:
    await reply.head(content_type="text/event-stream")
    await reply.chunk(sse(START))
    await reply.gone.wait()


async def _pings_for_ever(reply: Reply) -> None:
    await reply.head(content_type="text/event-stream")
    while not reply.gone.is_set():
        await reply.chunk(sse(PING))
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("script", "limits", "words"),
    [
        (silence, {"first_byte_s": 0.2}, "first-byte limit"),
        (_starts_and_falls_silent, {"gap_s": 0.2}, "gap limit"),
        (_pings_for_ever, {"total_s": 0.4}, "for one call"),
    ],
)
async def test_limits(
    server: AnthropicServer,
    backend: AnthropicBackend,
    script: Callable[[Reply], Any],
    limits: dict[str, float],
    words: str,
) -> None:
    server.fail(script)
    with pytest.raises(BackendTimeout, match=words):
        await chat(backend, timeouts=CallTimeouts(**{"first_byte_s": 20, "gap_s": 20, "total_s": 30, **limits}))
    await asyncio.wait_for(server.closed.wait(), 10)


async def test_the_services_own_patience_counts_too(server: AnthropicServer) -> None:
    server.fail(silence)
    backend = AnthropicBackend(service(long_timeout_sec=0.2), server.url)
    with pytest.raises(BackendTimeout, match=r"first-byte limit of 0\.2 s"):
        await chat(backend)
    await backend.aclose()


async def test_going_away_closes_the_connection(server: AnthropicServer, backend: AnthropicBackend) -> None:
    async def talk(reply: Reply) -> None:
        await reply.head(content_type="text/event-stream")
        for event in (START, *text(0, "a")):
            await reply.chunk(sse(event))
        await reply.gone.wait()

    server.fail(talk)
    async with aclosing(backend.chat(ASK, request_id="j", timeouts=PATIENT)) as stream:
        assert await anext(stream) == Delta("a")
    await asyncio.wait_for(server.closed.wait(), 10)


async def test_nobody_there() -> None:
    backend = AnthropicBackend(service(), f"http://127.0.0.1:{free_port()}")
    with pytest.raises(BackendUnreachable) as caught:
        await chat(backend)
    assert KEY not in str(caught.value)
    with pytest.raises(BackendUnreachable):
        await backend.version()
    await backend.aclose()
