"""The OpenAI-compatible backend against a real socket: paths, headers, streams, limits, keys."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from shared.backends.base import CallTimeouts
from shared.errors import (
    AnswerIncomplete,
    ArrieroError,
    BackendBusy,
    BackendMisconfigured,
    BackendProtocolError,
    BackendRejected,
    BackendTimeout,
    BackendUnreachable,
)
from shared.wire.canonical import (
    ChatRequest,
    CompletionRequest,
    Delta,
    EmbeddingRequest,
    Finish,
    ToolCall,
    Usage,
    unpack_vector,
)
from tests.shared.backends.openai_server import (
    ASK,
    CHAT,
    KEY,
    MARK,
    STOPPED,
    TIMEOUTS,
    Make,
    answer,
    backends,
    chat,
    chunk,
    events,
)
from tests.shared.backends.scripted_server import Script, ScriptedServer, silence, whole


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as running:
        yield running


@pytest.fixture
async def make(server: ScriptedServer) -> AsyncIterator[Make]:
    async with backends(server.url) as made:
        yield made


@pytest.mark.req("S4-72", "S2-02", "S2-38", "S4-71")
async def test_a_chat_streams_its_deltas_and_one_finish(server: ScriptedServer, make: Make) -> None:
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\n'
    server.scripts[CHAT] = events(b": OPENROUTER PROCESSING\n\n", chunk("Hel"), chunk("lo", "stop"), usage, MARK)
    items = await chat(make("openrouter", api_key=KEY))
    assert items == [
        Delta("Hel"),
        Delta("lo"),
        Finish(reason="stop", usage=Usage(prompt_tokens=3, completion_tokens=2)),
    ]
    (seen,) = server.requests
    assert (seen.method, seen.path) == ("POST", CHAT)
    assert seen.json == {
        "model": "vendor/model",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert seen.headers["authorization"] == f"Bearer {KEY}"
    assert seen.headers["x-client-request-id"] == "job_7"
    # llama-cpp-python's server answers 400 to one that is no UUID.
    assert "x-request-id" not in seen.headers
    assert seen.headers["x-title"] == "Arriero"


async def test_without_a_key_none_is_sent(server: ScriptedServer, make: Make) -> None:
    server.scripts[CHAT] = events(chunk("x", "stop"), MARK)
    await chat(make())
    assert "authorization" not in server.requests[0].headers


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/", "/api/v1", "/v1beta/openai"])
async def test_a_url_is_what_clients_call_base_url(server: ScriptedServer, make: Make, path: str) -> None:
    expected = (path.rstrip("/") or "/v1") + "/chat/completions"
    server.scripts[expected] = events(chunk("x", "stop"), MARK)
    assert await chat(make(url=server.url + path)) == [Delta("x"), STOPPED]


WHOLE_ANSWER = chunk("a") + b": comment\r\n\r\n" + chunk("é\u2028\u0085x") + chunk("", "stop") + MARK


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 10_000])
async def test_a_stream_may_be_cut_anywhere(server: ScriptedServer, make: Make, size: int) -> None:
    server.scripts[CHAT] = events(*(WHOLE_ANSWER[at : at + size] for at in range(0, len(WHOLE_ANSWER), size)))
    assert await chat(make()) == [Delta("a"), Delta("é\u2028\u0085x"), STOPPED]


@pytest.mark.parametrize(
    "script",
    [
        events(chunk("x"), chunk("", "stop")),
        events(chunk("x", "stop"), end="cut"),
        events(chunk("x", "stop"), MARK, b"rubbish", end="hang"),
        events(chunk("x", "stop"), chunk("", ""), MARK),
        answer("x"),
    ],
    ids=["no mark", "cut after the reason", "rubbish after the mark", "empty reasons", "in one piece"],
)
async def test_an_answer_is_whole_once_its_reason_was_read(server: ScriptedServer, make: Make, script: Script) -> None:
    server.scripts[CHAT] = script
    assert await chat(make()) == [Delta("x"), STOPPED]


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (events(chunk("x")), AnswerIncomplete),
        (events(), AnswerIncomplete),
        (events(chunk("x"), end="cut"), BackendProtocolError),
        (events(chunk("x"), b'data: {"choices":[{"del\n\n'), BackendProtocolError),
        (events(chunk("x"), b'data: {"choices":"no"}\n\n'), BackendProtocolError),
        (events(chunk("x"), b'data: {"error":{"code":429,"message":"slow down"}}\n\n', MARK), BackendBusy),
        (events(b"<html>welcome</html>"), BackendProtocolError),
        (whole(b"<html>welcome</html>", content_type="text/html"), BackendProtocolError),
        (whole(b'{"error":{"message":"flagged","type":"invalid_request_error"}}'), BackendRejected),
        (whole(b"{}"), AnswerIncomplete),
        (events(b"data: " + b"a" * (1024 * 1024 + 1)), BackendProtocolError),
        (whole(b"", 302, "Location: http://127.0.0.1:1/\r\n"), BackendMisconfigured),
        (whole(b'{"error":{"message":"no","code":"invalid_api_key"}}', 401), BackendMisconfigured),
        (whole(b"", 429, "Retry-After: 7\r\n"), BackendBusy),
    ],
)
async def test_what_is_no_answer(server: ScriptedServer, make: Make, script: Script, kind: type[ArrieroError]) -> None:
    server.scripts[CHAT] = script
    with pytest.raises(kind) as raised:
        await chat(make())
    assert type(raised.value) is kind
    if kind is BackendBusy and server.requests and raised.value.retry_after_s != 1:
        assert raised.value.retry_after_s == 7


async def test_a_redirect_is_not_followed(server: ScriptedServer, make: Make) -> None:
    server.scripts[CHAT] = whole(b"", 307, f"Location: {server.url}/elsewhere\r\n")
    with pytest.raises(BackendMisconfigured):
        await chat(make(api_key=KEY))
    assert [seen.path for seen in server.requests] == [CHAT]


async def test_no_proxy_of_the_environment_is_used(
    server: ScriptedServer, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    server.scripts[CHAT] = events(chunk("x", "stop"), MARK)
    assert await chat(make()) == [Delta("x"), STOPPED]


@pytest.mark.req("S4-61")
async def test_a_certificate_is_checked_unless_told_otherwise(make: Make) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(Path(__file__).with_name("self_signed.pem"))
    async with ScriptedServer(tls=tls) as server:
        server.scripts[CHAT] = events(chunk("x", "stop"), MARK)
        with pytest.raises(BackendUnreachable, match="TLS"):
            await chat(make(url=server.url))
        assert await chat(make(url=server.url, verify_cert=False)) == [Delta("x"), STOPPED]
        assert len(server.requests) == 1


async def test_tool_calls_come_in_one_delta(server: ScriptedServer, make: Make) -> None:
    def piece(**call: Any) -> bytes:
        body = {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, **call}]}}]}
        return b"data: " + json.dumps(body).encode() + b"\n\n"

    server.scripts[CHAT] = events(
        piece(id="a", function={"name": "f", "arguments": ""}),
        piece(function={"arguments": '{"x":'}),
        piece(function={"arguments": "1}"}),
        chunk("", "tool_calls"),
        MARK,
    )
    assert await chat(make()) == [
        Delta(tool_calls=[ToolCall(id="a", name="f", arguments='{"x":1}')]),
        Finish(reason="tool_calls", usage=Usage()),
    ]


@pytest.mark.req("S4-05", "S4-06")
@pytest.mark.parametrize(
    ("preset", "tools", "streams"), [("gpt4all", [], False), ("localai", [{}], False), ("localai", [], True)]
)
async def test_where_a_stream_is_not_to_be_had_none_is_asked_for(
    server: ScriptedServer, make: Make, preset: str, tools: list[dict[str, Any]], streams: bool
) -> None:
    server.scripts[CHAT] = answer("x")
    request = ChatRequest(model="m", messages=ASK.messages, tools=tools)
    assert await chat(make(preset), request) == [Delta("x"), STOPPED]
    assert server.requests[0].json["stream"] is streams


async def test_a_prompt_goes_to_completions_or_else_to_the_chat(server: ScriptedServer, make: Make) -> None:
    text = b'{"choices":[{"index":0,"text":"42","finish_reason":"length"}]}'
    server.scripts["/v1/completions"] = events(b"data: " + text + b"\n\n", MARK)
    server.scripts[CHAT] = events(chunk("42", "length"), MARK)
    expected = [Delta("42"), Finish(reason="length", usage=Usage())]
    for preset in ("llamacpp", "jan"):
        request = CompletionRequest(model="m", prompt="6*7=")
        items = [item async for item in make(preset).complete(request, request_id="j", timeouts=TIMEOUTS)]
        assert items == expected
    assert [seen.path for seen in server.requests] == ["/v1/completions", CHAT]
    assert server.requests[0].json["prompt"] == "6*7="


async def test_an_order_to_load_costs_nothing(server: ScriptedServer, make: Make) -> None:
    request = CompletionRequest(model="m", prompt="", keep_alive="5m")
    assert [item async for item in make().complete(request, request_id="j", timeouts=TIMEOUTS)] == [STOPPED]
    assert server.requests == []


async def test_vectors_come_in_order_and_say_who_made_them(server: ScriptedServer, make: Make) -> None:
    body = (
        b'{"data":[{"index":1,"embedding":[2,3]},{"index":0,"embedding":"AAAAPwAAgD8="}],"usage":{"prompt_tokens":4}}'
    )
    server.scripts["/v1/embeddings"] = whole(body)
    backend = make()
    found = await backend.embed(EmbeddingRequest(model="e", inputs=["a", "b"]), request_id="job_9", timeouts=TIMEOUTS)
    assert [unpack_vector(vector) for vector in found.vectors] == [[0.5, 1.0], [2.0, 3.0]]
    assert found.backend == backend.name == server.url.removeprefix("http://")
    assert server.requests[0].json == {"model": "e", "input": ["a", "b"], "encoding_format": "base64"}


async def test_vectors_larger_than_could_be_are_not_read(server: ScriptedServer, make: Make) -> None:
    server.scripts["/v1/embeddings"] = whole(b" " * (1024 * 1024))
    with pytest.raises(BackendProtocolError, match="limit"):
        await make().embed(EmbeddingRequest(model="e", inputs=["a"]), request_id="j", timeouts=TIMEOUTS)


@pytest.mark.req("S4-59", "S4-60")
async def test_the_services_own_limits(server: ScriptedServer, make: Make) -> None:
    server.scripts[CHAT] = server.scripts["/v1/models"] = silence
    backend = make(short_timeout_sec=0.2, long_timeout_sec=0.3)
    with pytest.raises(BackendTimeout, match=r"0\.2 s"):
        await backend.version()
    with pytest.raises(BackendTimeout, match=r"0\.3 s"):
        await chat(backend)
    with pytest.raises(BackendTimeout, match=r"0\.1 s"):
        await chat(backend, timeouts=CallTimeouts(first_byte_s=0.1))


async def test_closing_the_stream_closes_the_connection(server: ScriptedServer, make: Make) -> None:
    server.scripts[CHAT] = events(chunk("x"), end="hang")
    async with aclosing(make().chat(ASK, request_id="j", timeouts=TIMEOUTS)) as stream:
        assert await anext(stream) == Delta("x")
    await asyncio.wait_for(server.closed.wait(), 5)


@pytest.mark.parametrize(("preset", "connections"), [("vllm", 1), ("llamacpp", 3)])
async def test_a_connection_is_used_again_where_the_server_keeps_it(
    server: ScriptedServer, make: Make, preset: str, connections: int
) -> None:
    server.scripts[CHAT] = events(chunk("x", "stop"), MARK)
    backend = make(preset)
    for _ in range(3):
        await chat(backend)
    assert server.connections == connections


async def test_a_server_that_is_away(make: Make) -> None:
    with pytest.raises(BackendUnreachable):
        await chat(make(url="http://127.0.0.1:1/v1"))


async def test_a_key_stays_out_of_errors(server: ScriptedServer, make: Make) -> None:
    said = json.dumps({"error": {"message": f"no such key: {KEY}", "type": "invalid_request_error"}})
    for script in (whole(said.encode(), 400), events(b"data: " + said.encode() + b"\n\n"), whole(said.encode())):
        server.scripts[CHAT] = script
        with pytest.raises(BackendRejected) as raised:
            await chat(make(api_key=KEY))
        assert KEY not in f"{raised.value} {raised.value.__notes__}"
