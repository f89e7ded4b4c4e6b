"""Hostile and broken clients on real sockets: an answer or a closed connection, in time, and the gateway lives on."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import time
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.base_protocol import BaseProtocol

from shared.queue.running import RunningJob
from tests.conftest import WaitUntil
from tests.gateway.conftest import CHAT, HandWorker, Served, StartGateway, hello

BODY = json.dumps(CHAT).encode()
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
MOST_STALL_S = 0.1


async def exchange(port: int, data: bytes, *, within_s: float = 5.0, close_write: bool = False) -> bytes:
    """Send and read until the gateway closes, or nothing more comes within 0.5 s of an answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        with contextlib.suppress(ConnectionError):
            writer.write(data)
            await writer.drain()
            if close_write:
                writer.write_eof()
        received = b""
        async with asyncio.timeout(within_s):
            while True:
                try:
                    block = await asyncio.wait_for(reader.read(65536), 0.5 if received else within_s)
                except TimeoutError:
                    return received
                except ConnectionError:
                    return received
                if not block:
                    return received
                received += block
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def error_of(answer: bytes) -> dict[str, str]:
    body = answer.split(b"\r\n\r\n", 1)[1]
    error: dict[str, str] = json.loads(body)["error"]
    return error


@contextlib.asynccontextmanager
async def no_stall() -> AsyncIterator[None]:
    """Fails when the event loop, which the gateway shares with the test, stood still for more than 100 ms."""
    loop = asyncio.get_running_loop()
    worst = 0.0

    async def watch() -> None:
        nonlocal worst
        while True:
            before = loop.time()
            await asyncio.sleep(0.005)
            worst = max(worst, loop.time() - before - 0.005)

    task = asyncio.create_task(watch())
    try:
        yield
    finally:
        task.cancel()
    assert worst < MOST_STALL_S, f"the loop stood still for {worst * 1000:.0f} ms"


ATTACKS = {
    "content length and chunked": HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two content lengths": HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    "signed content length": HEAD + b"Content-Length: +5\r\n\r\nabcde",
    "negative content length": HEAD + b"Content-Length: -5\r\n\r\n",
    "unknown transfer encoding": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "no host": b"GET /health/live HTTP/1.1\r\n\r\n",
    "64 KB header": b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX-A: " + b"a" * 65536 + b"\r\n\r\n",
    "5000 headers": b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n"
    + b"".join(b"X-%d: a\r\n" % i for i in range(5000))
    + b"\r\n",
    "long request line": b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "bare line feeds": b"GET /health/live HTTP/1.1\nHost: localhost\n\n",
    "space before colon": b"GET /health/live HTTP/1.1\r\nHost : localhost\r\n\r\n",
    "NUL in a header": b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX-A: a\x00b\r\n\r\n",
    "folded header": b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX-A: a\r\n b\r\n\r\n",
    "no HTTP at all": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "chunk of 2^64": HEAD + b"Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n",
    "bad chunk size": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
async def test_malformed_http_is_refused_in_our_words(served: Served, attack: bytes) -> None:
    answer = await exchange(served.port, attack)
    assert status_of(answer) in (400, 413, 431), answer[:200]
    error = error_of(answer)
    assert error["type"] == "invalid_request_error"
    assert error["request_id"] in answer.decode()
    assert "aiohttp" not in answer.decode().lower()
    assert (await served.http.get("/health/live")).status_code == 200


async def test_a_head_that_never_ends_is_answered_408(start_gateway: StartGateway) -> None:
    served = await start_gateway(header_timeout=0.3)
    began = time.monotonic()
    answer = await exchange(served.port, b"GET /health/live HTTP/1.1\r\nHost: loc")
    assert status_of(answer) == 408
    assert 0.2 < time.monotonic() - began < 2


async def test_a_head_sent_byte_by_byte_gains_no_time(start_gateway: StartGateway) -> None:
    served = await start_gateway(header_timeout=0.4)
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    began = time.monotonic()
    closed = asyncio.create_task(reader.read())
    with contextlib.suppress(ConnectionError):
        for byte in HEAD * 10:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.02)
            if closed.done():
                break
    assert status_of(await closed) == 408
    assert time.monotonic() - began < 2
    writer.close()


async def test_a_connection_that_says_nothing_is_closed(start_gateway: StartGateway) -> None:
    served = await start_gateway(header_timeout=0.3)
    assert await exchange(served.port, b"", within_s=3) == b""


async def test_a_second_head_on_the_same_connection_has_the_same_limit(start_gateway: StartGateway) -> None:
    served = await start_gateway(header_timeout=0.3)
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
    await asyncio.sleep(0.5)  # idle is not slow: the connection is still good
    writer.write(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await asyncio.sleep(0.1)
    writer.write(b"GET /hea")
    rest = await asyncio.wait_for(reader.read(), 3)
    assert b"200 OK" in rest
    assert b"408 Request Timeout" in rest
    writer.close()


async def test_a_slow_answer_is_not_a_slow_head(start_gateway: StartGateway, worker: HandWorker) -> None:
    served = await start_gateway(header_timeout=0.2)

    async def slow(job: RunningJob) -> bytes:
        await asyncio.sleep(0.8)
        return await hello(job)

    worker.script = slow
    assert (await served.chat()).status_code == 200


async def test_a_body_that_never_comes_is_answered_408(start_gateway: StartGateway) -> None:
    served = await start_gateway(body_timeout=0.3)
    answer = await exchange(served.port, HEAD + b"Content-Length: 100\r\n\r\n{")
    assert status_of(answer) == 408
    assert error_of(answer)["code"] == "request_timeout"


async def test_a_body_that_breaks_off_makes_no_job(served: Served) -> None:
    await exchange(served.port, HEAD + b"Content-Length: 100\r\n\r\n{", close_write=True, within_s=2)
    assert (await served.queue.list("default")).jobs == []


@pytest.mark.parametrize("framing", ["declared", "streamed"])
async def test_a_large_body_is_refused_before_it_is_read(start_gateway: StartGateway, framing: str) -> None:
    served = await start_gateway(max_body_bytes=10_000)
    if framing == "declared":
        data = HEAD + b"Content-Length: 100000000\r\n\r\n" + b"x" * 1000
    else:
        data = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1000\r\n" + b"x" * 4096 + b"\r\n"
        data += (b"1000\r\n" + b"x" * 4096 + b"\r\n") * 5
    began = time.monotonic()
    answer = await exchange(served.port, data)
    assert status_of(answer) == 413
    assert b"connection: close" in answer.lower()
    assert time.monotonic() - began < 4


async def test_a_gzip_bomb_is_refused_unopened(served: Served) -> None:
    bomb = gzip.compress(b"0" * 50_000_000, 9)
    async with no_stall():
        response = await served.http.post(
            "/v1/chat/completions",
            content=bomb,
            headers={"Content-Encoding": "gzip", "Content-Type": "application/json"},
        )
    assert response.status_code == 415
    assert "uncompressed" in response.json()["error"]["message"]


@pytest.mark.req("S4-50")
@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonp"])
async def test_only_json_is_taken(served: Served, content_type: str) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    response = await served.http.post("/v1/chat/completions", content=BODY, headers=headers)
    assert response.status_code == 415


async def test_many_tiny_chunks_do_not_stop_the_others(start_gateway: StartGateway, worker: HandWorker) -> None:
    served = await start_gateway()
    padded = BODY[:-1] + b" " * 300_000 + b"}"
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in padded) + b"0\r\n\r\n"
    request = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks
    async with no_stall():
        answer = await exchange(served.port, request, within_s=20)
    assert status_of(answer) in (200, 400, 413)


async def test_too_many_connections_are_told_so(start_gateway: StartGateway, wait_until: WaitUntil) -> None:
    served = await start_gateway(max_connections=3)
    held = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(3)]
    await asyncio.sleep(0.1)
    answer = await exchange(served.port, b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert status_of(answer) == 503
    assert b"Retry-After: 1" in answer
    for _, writer in held:
        writer.close()

    async def admitted() -> bool:
        answer = await exchange(served.port, b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return status_of(answer) == 200

    await wait_until(admitted, description="room for a connection again")


async def test_a_thousand_pipelined_requests_are_all_answered(served: Served) -> None:
    answer = await exchange(served.port, b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000, within_s=20)
    assert answer.count(b"HTTP/1.1 200 OK") == 1000


async def test_slowloris_does_not_keep_others_out(start_gateway: StartGateway) -> None:
    served = await start_gateway(header_timeout=1.0)
    slow = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(200)]
    for _, writer in slow:
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-")
    assert (await served.http.get("/health/live")).status_code == 200
    ends = await asyncio.gather(*(asyncio.wait_for(reader.read(), 5) for reader, _ in slow))
    assert all(b"408" in end for end in ends)
    for _, writer in slow:
        writer.close()


def test_what_we_read_of_aiohttp_is_still_there() -> None:
    """`GuardedHandler` relies on these; a release without them must not pass unnoticed."""
    assert {"_request_count", "_request_in_progress", "_messages"} <= set(web.RequestHandler.__slots__)
    assert "_reading_paused" in BaseProtocol.__slots__
    assert callable(web.RequestHandler.handle_error)
    assert callable(web.Server.__call__)
