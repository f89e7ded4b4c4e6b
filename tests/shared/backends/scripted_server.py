"""A model server that sends exactly the bytes a test wants, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import msgspec

Script = Callable[["Reply"], Awaitable[None]]


@dataclass
class Seen:
    """One request. `connection` counts the server's connections from 1."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class _Reader(asyncio.StreamReader):
    """Tells when the client is gone, also while nobody reads."""

    def __init__(self) -> None:
        super().__init__()
        self.gone = asyncio.Event()

    def feed_eof(self) -> None:
        self.gone.set()
        super().feed_eof()

    def set_exception(self, exc: Exception) -> None:
        self.gone.set()
        super().set_exception(exc)


@dataclass
class Reply:
    """What a script writes with. Bytes go out at once."""

    writer: asyncio.StreamWriter
    gone: asyncio.Event
    """Set when the client has closed the connection."""

    async def raw(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self, status: int = 200, content_type: str = "application/x-ndjson", extra: str = "") -> None:
        await self.raw(
            f"HTTP/1.1 {status} X\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n{extra}\r\n".encode()
        )

    async def chunk(self, data: bytes) -> None:
        await self.raw(b"%x\r\n%s\r\n" % (len(data), data))

    async def line(self, value: object) -> None:
        await self.chunk(msgspec.json.encode(value) + b"\n")

    async def end(self) -> None:
        await self.raw(b"0\r\n\r\n")

    def cut(self) -> None:
        self.writer.transport.abort()


def whole(body: bytes, status: int = 200, extra: str = "", content_type: str = "application/json") -> Script:
    """A script that sends one body of known length."""

    async def run(reply: Reply) -> None:
        await reply.raw(
            f"HTTP/1.1 {status} X\r\nContent-Type: {content_type}\r\n"
            f"Content-Length: {len(body)}\r\n{extra}\r\n".encode()
            + body
        )

    return run


def stream(*parts: object, end: str = "clean") -> Script:
    """A script that sends each part as a chunk (bytes as they are, else a JSON line), then ends clean or cut."""

    async def run(reply: Reply) -> None:
        await reply.head()
        for part in parts:
            await (reply.chunk(part) if isinstance(part, bytes) else reply.line(part))
        if end == "clean":
            await reply.end()
        else:
            reply.cut()

    return run


async def silence(reply: Reply) -> None:
    """A script that sends nothing until the client goes."""
    await reply.gone.wait()


@dataclass
class ScriptedServer:
    """`scripts` maps a path to what answers it; `requests` holds what came."""

    scripts: dict[str, Script] = field(default_factory=dict)
    requests: list[Seen] = field(default_factory=list)
    connections: int = 0
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a client closed a connection while its answer was being written."""
    tls: ssl.SSLContext | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> ScriptedServer:
        def protocol() -> asyncio.StreamReaderProtocol:
            reader = _Reader()
            return asyncio.StreamReaderProtocol(reader, lambda _, writer: self._serve(reader, writer))

        self._server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0, ssl=self.tls)
        self.url = f"http{'s' if self.tls else ''}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: _Reader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        number = self.connections
        try:
            while (seen := await _read_request(reader, number)) is not None:
                self.requests.append(seen)
                await self._answer(seen, reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, seen: Seen, reader: _Reader, writer: asyncio.StreamWriter) -> None:
        reply = Reply(writer, reader.gone)
        script = asyncio.ensure_future(self.scripts[seen.path](reply))
        watch = asyncio.ensure_future(reader.gone.wait())
        try:
            await asyncio.wait((script, watch), return_when=asyncio.FIRST_COMPLETED)
            if reader.gone.is_set():
                self.closed.set()
            await script
        finally:
            script.cancel()
            watch.cancel()
            await asyncio.gather(script, watch, return_exceptions=True)


async def _read_request(reader: asyncio.StreamReader, connection: int) -> Seen | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    except asyncio.IncompleteReadError:
        return None
    method, path, _ = head[0].split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Seen(method, path, headers, body, connection)
