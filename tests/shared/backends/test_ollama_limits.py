"""Time limits, cancellation and the connection pool, against a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import pytest

from shared.backends.base import CallTimeouts
from shared.backends.ollama import OllamaBackend
from shared.errors import BackendProtocolError, BackendTimeout, BackendUnreachable
from shared.wire.canonical import ChatRequest, CompletionRequest, Delta, EmbeddingRequest, Finish, Message
from tests.shared.backends.scripted_server import Reply, ScriptedServer, silence, stream, whole

ASK = ChatRequest(model="m", messages=[Message(role="user", content="hi")])
PATIENT = CallTimeouts(connect_s=2, first_byte_s=10, gap_s=10, total_s=20)
TOKEN: dict[str, Any] = {"message": {"content": "x"}, "done": False}
END: dict[str, Any] = {"message": {"content": ""}, "done": True}


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as running:
        yield running


@pytest.fixture
async def backend(server: ScriptedServer) -> AsyncIterator[OllamaBackend]:
    made = OllamaBackend(server.url)
    yield made
    await made.aclose()


async def chat(backend: OllamaBackend, timeouts: CallTimeouts) -> list[Delta | Finish]:
    return [item async for item in backend.chat(ASK, request_id="j", timeouts=timeouts)]


def drip(pause_s: float, count: int) -> Callable[[Reply], Any]:
    """A script: `count` tokens with pauses between them, then the end."""

    async def run(reply: Reply) -> None:
        await reply.head()
        for _ in range(count):
            await reply.line(TOKEN)
            await asyncio.sleep(pause_s)
        await reply.line(END)
        await reply.end()

    return run


async def _one_token_then_silence(reply: Reply) -> None:
    await reply.head()
    await reply.line(TOKEN)
    await reply.gone.wait()


async def _head_then_silence(reply: Reply) -> None:
    await reply.head()
    await reply.gone.wait()


@pytest.mark.parametrize(
    ("script", "timeouts", "limit_s", "words"),
    [
        (silence, CallTimeouts(first_byte_s=0.2, gap_s=9, total_s=9), 0.2, "first-byte limit of 0.2 s"),
        (_head_then_silence, CallTimeouts(first_byte_s=0.2, gap_s=9, total_s=9), 0.2, "first-byte limit of 0.2 s"),
        (_head_then_silence, CallTimeouts(first_byte_s=0.3, gap_s=0.1, total_s=9), 0.3, "first-byte limit of 0.3 s"),
        (_one_token_then_silence, CallTimeouts(first_byte_s=9, gap_s=0.2, total_s=9), 0.2, "gap limit of 0.2 s"),
        (drip(0.02, 1000), CallTimeouts(first_byte_s=9, gap_s=9, total_s=0.3), 0.3, "limit of 0.3 s for one call"),
        (silence, CallTimeouts(first_byte_s=9, gap_s=9, total_s=0.2), 0.2, "limit of 0.2 s for one call"),
    ],
    ids=["first byte", "first byte after the head", "gap below first byte", "gap", "total", "total before any byte"],
)
async def test_each_limit_ends_the_call_and_names_itself(
    server: ScriptedServer,
    backend: OllamaBackend,
    script: Callable[[Reply], Any],
    timeouts: CallTimeouts,
    limit_s: float,
    words: str,
) -> None:
    server.scripts["/api/chat"] = script
    began = time.monotonic()
    with pytest.raises(BackendTimeout, match=words):
        await chat(backend, timeouts)
    assert limit_s - 0.05 <= time.monotonic() - began < limit_s + 1
    await asyncio.wait_for(server.closed.wait(), 1)


async def test_slow_but_steady_passes(server: ScriptedServer, backend: OllamaBackend) -> None:
    server.scripts["/api/chat"] = drip(0.1, 8)
    items = await chat(backend, CallTimeouts(first_byte_s=0.3, gap_s=0.3, total_s=5))
    assert len(items) == 9


async def test_a_slow_consumer_is_not_a_silent_server(server: ScriptedServer, backend: OllamaBackend) -> None:
    server.scripts["/api/chat"] = drip(0.0, 3)
    seen = 0
    async for _ in backend.chat(ASK, request_id="j", timeouts=CallTimeouts(first_byte_s=1, gap_s=0.1, total_s=5)):
        seen += 1
        await asyncio.sleep(0.25)
    assert seen == 4


async def test_the_total_limit_holds_for_a_slow_consumer_too(server: ScriptedServer, backend: OllamaBackend) -> None:
    server.scripts["/api/chat"] = drip(0.05, 100)
    with pytest.raises(BackendTimeout, match="for one call"):
        async for _ in backend.chat(ASK, request_id="j", timeouts=CallTimeouts(gap_s=5, total_s=0.3)):
            await asyncio.sleep(0.2)


async def test_an_embedding_has_the_first_byte_limit(server: ScriptedServer, backend: OllamaBackend) -> None:
    server.scripts["/api/embed"] = silence
    with pytest.raises(BackendTimeout, match="first-byte"):
        await backend.embed(
            EmbeddingRequest(model="m", inputs=["a"]), request_id="j", timeouts=CallTimeouts(first_byte_s=0.1)
        )


async def test_vectors_are_not_read_without_end(server: ScriptedServer, backend: OllamaBackend) -> None:
    sent = 0

    async def endless(reply: Reply) -> None:
        nonlocal sent
        await reply.head(content_type="application/json")
        while sent < 64 * 1024 * 1024:
            await reply.chunk(b" " * 65_536)
            sent += 65_536

    server.scripts["/api/embed"] = endless
    with pytest.raises(BackendProtocolError, match="larger than"):
        await backend.embed(EmbeddingRequest(model="m", inputs=["x", "y"]), request_id="j", timeouts=PATIENT)
    assert sent < 16 * 1024 * 1024


async def test_a_line_may_be_longer_where_it_repeats_the_context(
    server: ScriptedServer, backend: OllamaBackend
) -> None:
    context = list(range(100_000, 300_000))
    server.scripts["/api/generate"] = stream({"response": "x", "done": False}, {"done": True, "context": context})
    server.scripts["/api/chat"] = stream(TOKEN, END | {"context": context})
    request = CompletionRequest(model="m", prompt="hi")
    found = [item async for item in backend.complete(request, request_id="j", timeouts=PATIENT)]
    assert isinstance(found[-1], Finish)
    with pytest.raises(BackendProtocolError, match="1048576"):
        await chat(backend, PATIENT)


async def test_no_connection_in_time_is_unreachable() -> None:
    # A listener with a full backlog answers no SYN, so connecting hangs as it does with a host that is gone.
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as stack:
        import socket

        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        backend = OllamaBackend(f"http://127.0.0.1:{listener.getsockname()[1]}")
        began = loop.time()
        with pytest.raises(BackendUnreachable, match=r"no connection within 0\.2 s"):
            await chat(backend, CallTimeouts(connect_s=0.2, first_byte_s=9, gap_s=9, total_s=9))
        assert loop.time() - began < 2
        await backend.aclose()


async def _endless(reply: Reply) -> None:
    await reply.head()
    while not reply.gone.is_set():
        await reply.line(TOKEN)
        await asyncio.sleep(0.005)


async def test_closing_the_generator_closes_the_connection(server: ScriptedServer, backend: OllamaBackend) -> None:
    server.scripts["/api/chat"] = _endless
    async with aclosing(backend.chat(ASK, request_id="j", timeouts=PATIENT)) as answer:
        assert await anext(answer) == Delta("x")
        assert not server.closed.is_set()
    await asyncio.wait_for(server.closed.wait(), 1)


@pytest.mark.parametrize("script", [silence, _head_then_silence, _endless], ids=["before the head", "head", "tokens"])
async def test_cancelling_the_task_closes_the_connection(
    server: ScriptedServer, backend: OllamaBackend, script: Callable[[Reply], Any], wait_until: Any
) -> None:
    server.scripts["/api/chat"] = script
    task = asyncio.create_task(chat(backend, PATIENT))
    await wait_until(lambda: server.requests, description="the call is at the server")
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(server.closed.wait(), 1)


async def test_closing_the_backend_ends_calls_in_flight(
    server: ScriptedServer, backend: OllamaBackend, wait_until: Any
) -> None:
    server.scripts["/api/embed"] = silence
    ask = EmbeddingRequest(model="m", inputs=["a"])
    task = asyncio.create_task(backend.embed(ask, request_id="j", timeouts=PATIENT))
    await wait_until(lambda: server.requests, description="the call is at the server")
    await backend.aclose()
    await backend.aclose()
    with pytest.raises(BackendUnreachable):
        await asyncio.wait_for(task, 2)


@pytest.mark.req("S0-36")
async def test_connections_are_pooled_and_reused(server: ScriptedServer, backend: OllamaBackend) -> None:
    server.scripts["/api/chat"] = stream(TOKEN, END)
    server.scripts["/api/version"] = whole(b'{"version":"0.24.0"}')
    server.scripts["/api/embed"] = whole(b'{"error":"model \\"m\\" not found"}', 404)
    for _ in range(5):
        await chat(backend, PATIENT)
        await backend.version()
        with contextlib.suppress(Exception):
            await backend.embed(EmbeddingRequest(model="m", inputs=["a"]), request_id="j", timeouts=PATIENT)
    assert len(server.requests) == 15
    assert server.connections == 1


@pytest.mark.req("S0-36")
async def test_parallel_calls_use_no_more_connections_than_the_pool_has(server: ScriptedServer) -> None:
    server.scripts["/api/chat"] = drip(0.02, 3)
    backend = OllamaBackend(server.url, pool_size=2)
    answers = await asyncio.gather(*(chat(backend, PATIENT) for _ in range(8)))
    assert all(isinstance(answer[-1], Finish) for answer in answers)
    assert server.connections == 2
    await backend.aclose()


async def test_waiting_for_a_free_connection_counts_as_waiting_for_the_first_byte(server: ScriptedServer) -> None:
    server.scripts["/api/chat"] = silence
    backend = OllamaBackend(server.url, pool_size=1)
    first = asyncio.create_task(chat(backend, CallTimeouts(first_byte_s=0.6)))
    await asyncio.sleep(0.05)
    with pytest.raises(BackendTimeout, match="first-byte"):
        await chat(backend, CallTimeouts(connect_s=0.05, first_byte_s=0.2))
    with pytest.raises(BackendTimeout):
        await first
    await backend.aclose()


async def test_a_connection_that_was_not_read_to_the_end_is_not_used_again(
    server: ScriptedServer, backend: OllamaBackend
) -> None:
    server.scripts["/api/chat"] = _endless
    async with aclosing(backend.chat(ASK, request_id="j", timeouts=PATIENT)) as answer:
        await anext(answer)
    server.scripts["/api/chat"] = stream(TOKEN, END)
    assert len(await chat(backend, PATIENT)) == 2
    assert [seen.connection for seen in server.requests] == [1, 2]


async def _done_but_no_end(reply: Reply) -> None:
    await reply.head()
    await reply.line(TOKEN)
    await reply.line(END)
    await reply.gone.wait()


async def test_a_server_that_never_ends_its_body_after_done_costs_half_a_second(
    server: ScriptedServer, backend: OllamaBackend
) -> None:
    server.scripts["/api/chat"] = _done_but_no_end
    began = time.monotonic()
    items = await chat(backend, PATIENT)
    assert isinstance(items[-1], Finish)
    assert time.monotonic() - began < 2
    await asyncio.wait_for(server.closed.wait(), 1)


async def test_no_cookie_is_sent_back(server: ScriptedServer, backend: OllamaBackend) -> None:
    server.scripts["/api/version"] = whole(b'{"version":"1"}', extra="Set-Cookie: a=b; Path=/\r\n")
    await backend.version()
    await backend.version()
    assert all("cookie" not in seen.headers for seen in server.requests)


async def test_proxies_of_the_environment_are_ignored(
    server: ScriptedServer, backend: OllamaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    server.scripts["/api/version"] = whole(b'{"version":"1"}')
    assert await backend.version() == "1"
