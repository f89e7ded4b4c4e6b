"""The short way of a request: the same routes, guards and words on the wire as aiohttp's own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st
from msgspec.json import Decoder

from gateway.app import ROUTES, build_app
from gateway.connections import ConnectionLimits, GuardedServer
from gateway.dispatch import Dispatcher
from gateway.metrics import GatewayMetrics
from gateway.routes.submission import PlainChatJob, Submission
from gateway.whole_answer import WholeAnswer
from shared.errors import BadRequest
from shared.wire.openai import ChatCompletionBody, validate
from shared.wire.openai_plain import read_plain
from tests.gateway.conftest import CHAT, Served
from tests.gateway.test_connections import exchange

JOB = {"type": "chat.completion", "request": CHAT}


async def test_a_fixed_path_leads_where_the_router_would_lead(served: Served) -> None:
    assert served.gateway.services is not None
    services = served.gateway.services
    app = build_app(services)
    app.freeze()

    async def by_router(request: web.Request) -> web.StreamResponse:
        raise AssertionError

    dispatcher = Dispatcher(app, services, by_router)
    fixed = [route for route in ROUTES if "{" not in route.path]
    assert len(dispatcher.fixed) == len(fixed) > 20
    for route in fixed:
        found = await app.router.resolve(make_mocked_request(route.method, route.path))
        declared, handler = dispatcher.fixed[route.method, route.path]
        assert declared is route
        assert declared is services.routes[found.route]
        assert handler is found.handler


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /v1/models HTTP/1.1\r\nHost: evil.example\r\n", 403),
        (b"GET /v1/models?x=1 HTTP/1.1\r\nHost: evil.example\r\n", 403),
        (b"PUT /v1/jobs HTTP/1.1\r\nHost: localhost\r\n", 405),
        (b"GET /v1/jobs/ HTTP/1.1\r\nHost: localhost\r\n", 404),
        (b"GET http://localhost/health/live HTTP/1.1\r\nHost: localhost\r\n", 200),
        (b"GET /health/live?verbose HTTP/1.1\r\nHost: localhost\r\n", 200),
        (b"HEAD /health/live HTTP/1.1\r\nHost: localhost\r\n", 405),
    ],
)
async def test_guards_hold_on_either_way(served: Served, head: bytes, status: int) -> None:
    answer = await exchange(served.port, head + b"Connection: close\r\n\r\n")
    assert int(answer.split(b" ", 2)[1]) == status, answer


async def test_a_client_may_wait_for_100_continue(served: Served) -> None:
    body = json.dumps(JOB).encode()
    head = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(head + b"Content-Length: %d\r\n\r\n" % len(body))
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 202 ")
    writer.close()


def parts(answer: bytes) -> tuple[bytes, dict[str, str], bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return first.encode(), dict(line.split(": ", 1) for line in lines), body


@pytest.fixture
async def answering() -> AsyncIterator[int]:
    """The port of a server that gives the same answer as `/whole` and as `/plain`, and one with a forged header."""

    async def answer(request: web.BaseRequest) -> web.Response:
        kind = web.Response if request.path == "/plain" else WholeAnswer
        headers = {"Content-Type": "application/json", "Server": "s", "X-A": "a"}
        if request.path == "/forged":
            headers["X-A"] = "a\r\nX-B: b"
        return kind(status=202, body=b'{"a":1}', headers=headers)

    limits = ConnectionLimits(
        max_connections=8, header_timeout_s=5.0, keepalive_timeout_s=5.0, max_line_bytes=8190, max_headers=100
    )
    runner = web.ServerRunner(GuardedServer(answer, limits=limits, metrics=GatewayMetrics()))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(("version", "connection"), [("1.1", ""), ("1.1", "close"), ("1.0", ""), ("1.0", "keep-alive")])
async def test_a_whole_answer_reads_like_aiohttps_own(
    answering: int, method: str, version: str, connection: str
) -> None:
    more = f"Connection: {connection}\r\n" if connection else ""
    sent = []
    for path in ("/whole", "/plain"):
        request = f"{method} {path} HTTP/{version}\r\nHost: a\r\n{more}\r\n"
        first, headers, body = parts(await exchange(answering, request.encode()))
        assert headers.pop("Date").endswith("GMT")
        sent.append((first, headers, body))
    assert sent[0] == sent[1]


async def test_a_whole_answer_takes_no_line_break_in_a_header(answering: int) -> None:
    answer = await exchange(answering, b"GET /forged HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert b"X-B" not in answer
    assert b" 202 " not in answer


plain_jobs = Decoder(PlainChatJob)
described: dict[str, st.SearchStrategy[Any]] = {
    "priority": st.sampled_from(["high", "normal", "low", "urgent", None, 1]),
    "delay_seconds": st.one_of(st.integers(-1, 2), st.floats(-1, 3e6), st.none(), st.just("1")),
    "deadline_seconds": st.one_of(st.none(), st.integers(-1, 2), st.floats(0, 1e5), st.booleans()),
    "metadata": st.one_of(
        st.dictionaries(st.text(max_size=65), st.text(max_size=3) | st.none(), max_size=3),
        st.just({str(n): "" for n in range(17)}),
        st.just({"long": "x" * 513}),
        st.none(),
    ),
    "webhook_url": st.none(),
    "priorty": st.just("high"),
}


@given(st.fixed_dictionaries({}, optional=described))
def test_a_plain_description_means_what_it_means_in_full(options: dict[str, Any]) -> None:
    data = {**JOB, **options}
    plain = read_plain(plain_jobs, json.dumps(data).encode())
    if plain is None:
        return
    full = validate(Submission, data)
    for name in ("priority", "delay_seconds", "deadline_seconds", "metadata"):
        assert getattr(plain, name) == getattr(full, name)
    assert plain.request.model == validate(ChatCompletionBody, full.request).model


@pytest.mark.parametrize("wrong", [{"priority": "urgent"}, {"priorty": "high"}, {"metadata": {"": "x"}}])
def test_a_wrong_description_is_not_plain(wrong: dict[str, Any]) -> None:
    data = {**JOB, **wrong}
    assert read_plain(plain_jobs, json.dumps(data).encode()) is None
    with pytest.raises(BadRequest):
        validate(Submission, data)


def test_what_the_short_way_reads_of_aiohttp_is_still_there() -> None:
    """A release without these must not pass unnoticed."""
    assert {"_keep_alive", "_eof_sent", "_body"} <= set(dir(web.Response))
    assert {"_state", "_headers", "_status", "_reason"} <= set(vars(web.Response()))
    assert {"_paused", "_upgraded"} <= set(BaseProtocol.__slots__)
    assert callable(web.RequestHandler.finish_response)
