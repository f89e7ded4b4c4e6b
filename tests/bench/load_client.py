"""The one HTTP client that every gateway is measured with, in a process of its own.

`python -m tests.bench.load_client` writes ready-made requests on keep-alive connections and looks at no more of an
answer than its end, its status and its tokens, so that it costs far less than any server measured. It prints one line
of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

import uvloop

from tests.bench.figures import percentile

TOKEN = b"tok "
_END_OF_CHUNKS = b"\r\n0\r\n\r\n"


class LoadError(Exception):
    """A server answered with an error or cut the connection; nothing measured so far counts."""


@dataclass(slots=True, kw_only=True)
class Reply:
    """What one answer showed; times are seconds since the request was written."""

    total_s: float
    first_token_s: float
    tokens: int


class Connection(asyncio.Protocol):
    """One keep-alive connection with one request in flight."""

    def __init__(self, request: bytes, expect: int) -> None:
        self._request = request
        self._expect = b" %d " % expect
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[Reply] | None = None
        self._reset()

    def _reset(self) -> None:
        self._head = b""
        self._body_left = -1
        """Bytes of body still to come; -1 for a chunked answer."""
        self._tail = b""
        self._tokens = 0
        self._first_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's TCP transport is one in all but its class.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"the connection was closed before the answer ended: {exc or 'end of stream'}")

    def ask(self) -> asyncio.Future[Reply]:
        """Send the request; the future holds the reply or a LoadError."""
        assert self._transport is not None
        self._waiter = asyncio.get_running_loop().create_future()
        self._started = time.perf_counter()
        self._transport.write(self._request)
        return self._waiter

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        if not self._tail:
            data = self._head + data
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._head = data
                return
            if self._expect not in data[:16]:
                self._fail(" ".join(data[:800].decode(errors="replace").split()))
                return
            self._read_length(data[:end].lower())
            data = data[end + 4 :]
            # The blank line stands in for the chunk end that every later piece has before it.
            self._tail = b"\r\n"
        self._count(data)
        if self._body_left >= 0:
            self._body_left -= len(data)
            finished = self._body_left <= 0
        else:
            finished = self._tail.endswith(_END_OF_CHUNKS)
        if finished:
            self._finish()

    def _read_length(self, head: bytes) -> None:
        at = head.find(b"content-length:")
        if at >= 0:
            self._body_left = int(head[at + 15 :].split(b"\r\n", 1)[0])

    def _count(self, data: bytes) -> None:
        """Count the tokens; one that is split between two reads is counted with the second."""
        seen = self._tail[-len(TOKEN) + 1 :] + data
        if tokens := seen.count(TOKEN):
            if not self._tokens:
                self._first_s = time.perf_counter() - self._started
            self._tokens += tokens
        self._tail = (self._tail + data)[-len(_END_OF_CHUNKS) :]

    def _finish(self) -> None:
        reply = Reply(total_s=time.perf_counter() - self._started, first_token_s=self._first_s, tokens=self._tokens)
        self._reset()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(reply)

    def _fail(self, reason: str) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(LoadError(reason))


@dataclass(slots=True, kw_only=True)
class Load:
    """What to send: `clients` ask one after the other until `requests` are spent or `seconds` are over."""

    url: str
    body: bytes
    headers: dict[str, str]
    clients: int
    requests: int
    seconds: float
    expect: int
    tokens: int
    """How many tokens each answer must hold."""
    timeout: float = 60.0
    """Seconds until an answer must have ended."""
    pause: float = 0.0
    """Seconds between an answer and the client's next request."""
    spread: float = 0.0
    """Seconds over which the clients begin, so that they do not go on in step."""


@dataclass(slots=True)
class Tally:
    started: float = 0.0
    ended: float = 0.0
    replies: list[Reply] = field(default_factory=list)

    def summary(self) -> dict[str, float]:
        """Rates per second, times in milliseconds."""
        took_s = self.ended - self.started
        totals = [reply.total_s * 1000 for reply in self.replies]
        firsts = [reply.first_token_s * 1000 for reply in self.replies]
        return {
            "requests": len(totals),
            "per_s": len(totals) / took_s,
            "p50_ms": percentile(totals, 0.5),
            "p99_ms": percentile(totals, 0.99),
            "first_p50_ms": percentile(firsts, 0.5),
            "first_p99_ms": percentile(firsts, 0.99),
            "tokens_per_s": sum(reply.tokens for reply in self.replies) / took_s,
        }


def encode_request(load: Load) -> bytes:
    parts = urlsplit(load.url)
    headers = {"host": parts.netloc, "content-type": "application/json", "content-length": str(len(load.body))}
    headers |= load.headers
    lines = [f"POST {parts.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + load.body


async def run(load: Load) -> Tally:
    """Send the load and return what came back. Raises LoadError at the first answer that is not as expected."""
    loop = asyncio.get_running_loop()
    parts = urlsplit(load.url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    request = encode_request(load)

    async def connect() -> Connection:
        return (await loop.create_connection(lambda: Connection(request, load.expect), host, port))[1]

    # Those that begin later also connect later: a server closes a connection that asks nothing.
    ready = [await connect() for _ in range(0 if load.spread else load.clients)]
    tally, left = Tally(), load.requests

    async def client(number: int) -> None:
        nonlocal left
        await asyncio.sleep(load.spread * number / load.clients)
        connection = ready[number] if ready else await connect()
        try:
            while left > 0 and time.perf_counter() < tally.started + load.seconds:
                left -= 1
                reply = await asyncio.wait_for(connection.ask(), load.timeout)
                if reply.tokens != load.tokens:
                    raise LoadError(f"expected {load.tokens} tokens in an answer, got {reply.tokens}")
                tally.replies.append(reply)
                if load.pause:
                    await asyncio.sleep(load.pause)
        finally:
            connection.close()

    tally.started = time.perf_counter()
    try:
        async with asyncio.TaskGroup() as group:
            for number in range(load.clients):
                group.create_task(client(number))
    except* LoadError as failures:
        raise failures.exceptions[0] from None
    tally.ended = time.perf_counter()
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--body", required=True, help="JSON text of the request's body")
    parser.add_argument("--headers", default="{}", help="JSON object of further headers")
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--expect", type=int, default=200, help="status of a good answer")
    parser.add_argument("--tokens", type=int, default=1, help="tokens in a good answer")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for one answer")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds from an answer to the next request")
    parser.add_argument("--spread", type=float, default=0.0, help="seconds over which the clients begin")
    given = vars(parser.parse_args())
    load = Load(**{**given, "body": given["body"].encode(), "headers": json.loads(given["headers"])})
    print(json.dumps(uvloop.run(run(load)).summary()))


if __name__ == "__main__":
    main()
