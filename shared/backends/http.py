"""One pooled HTTP connection to a model server, with limits that cost little per token.

    call = await upstream.open("POST", "/api/chat", body, request_id=..., timeouts=...)
    try:
        while lines := await call.lines():
            ...
    finally:
        call.close()

Every failure of the network leaves here as a `BackendError`. `close` drops the connection unless the body was read to
its end, which is how a model server learns that nobody wants the rest; only a connection that was read to the end
goes back to the pool.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterable, Mapping

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from structlog.contextvars import get_contextvars
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random
from yarl import URL

from shared import egress
from shared.backends.base import CallTimeouts
from shared.backends.watch import Limit, Watch, timed_out
from shared.errors import BackendError, BackendMisconfigured, BackendProtocolError, BackendUnreachable

MAX_LINE_BYTES = 1024 * 1024
MAX_BODY_BYTES = 256 * 1024 * 1024
MAX_ERROR_BYTES = 64 * 1024
KEEP_ALIVE_S = 30.0
DRAIN_S = 0.5

_NETWORK_ERRORS = (aiohttp.ClientError, HttpProcessingError, OSError)


def _was_refused(exc: BaseException) -> bool:
    """No connection came about, and another try may fare better than with an unknown name or a wrong certificate."""
    return (
        isinstance(exc, aiohttp.ClientConnectorError)
        and not isinstance(exc, aiohttp.ClientConnectorDNSError | aiohttp.ClientSSLError)
        and not isinstance(exc.os_error, egress.OutsideAirgap)
    )


# Outside the usual road, which costs 18 us less so: one more try at once, one after a moment.
_RECONNECT = AsyncRetrying(
    stop=stop_after_attempt(2), wait=wait_random(0.05, 0.15), retry=retry_if_exception(_was_refused), reraise=True
)


def unreachable(reason: str) -> BackendUnreachable:
    return BackendUnreachable(
        f"The model server does not answer ({reason}). Check that it is running and that the configured base URL "
        "is right; an Ollama is started with `ollama serve`."
    )


class Call:
    """An answer that is being read. `status` is known, the body comes through `lines` or `body`."""

    __slots__ = (
        "_content",
        "_gap_s",
        "_loop",
        "_max_line",
        "_next_due",
        "_response",
        "_tail",
        "_watch",
        "headers",
        "status",
    )

    def __init__(
        self, response: aiohttp.ClientResponse, limits: CallTimeouts, started: float, max_line_bytes: int
    ) -> None:
        self._response = response
        self._content = response.content
        self._loop = asyncio.get_running_loop()
        self._gap_s = limits.gap_s
        self._max_line = max_line_bytes
        self._tail = bytearray()
        self._watch = Watch(response.content, limits, started)
        self._next_due: float | None = self._watch.first()
        self.status = response.status
        self.headers = response.headers

    async def _chunk(self) -> bytes:
        """The next bytes, empty at the end. Raises BackendTimeout, or BackendProtocolError when the connection
        breaks."""
        watch = self._watch
        watch.waiting_until = self._next_due or self._loop.time() + self._gap_s
        self._next_due = None
        try:
            return await self._content.readany()
        except BackendError:
            raise
        except _NETWORK_ERRORS as exc:
            error = BackendProtocolError(
                "The connection to the model server broke in the middle of its answer. Try again."
            )
            error.broke_off = True
            raise error from exc
        finally:
            watch.waiting_until = None

    async def lines(self) -> list[bytes]:
        """Whole lines without their newline, as soon as there is one; empty at the end of the body.

        Splits on \\n only. A last line without newline counts. Raises as `_chunk`, and BackendProtocolError for a
        line over the limit.
        """
        tail = self._tail
        while chunk := await self._chunk():
            cut = chunk.rfind(b"\n")
            if cut < 0:
                tail += chunk
                if len(tail) > self._max_line:
                    raise self._line_too_long()
                continue
            if tail:
                tail += chunk[:cut]
                lines = bytes(tail).split(b"\n")
            else:
                lines = chunk[:cut].split(b"\n")
            self._tail = tail = bytearray(chunk[cut + 1 :])
            if len(lines[0]) > self._max_line or (
                len(chunk) > self._max_line and max(map(len, lines)) > self._max_line
            ):
                raise self._line_too_long()
            return lines
        if not tail:
            return []
        self._tail = bytearray()
        return [bytes(tail)]

    def _line_too_long(self) -> BackendProtocolError:
        return BackendProtocolError(
            f"The model server sent a line of more than {self._max_line} bytes, which is the limit."
        )

    async def body(self, max_bytes: int = MAX_BODY_BYTES) -> bytes:
        """The whole body. Raises as `_chunk`, and BackendProtocolError for more than `max_bytes`."""
        parts: list[bytes] = []
        size = 0
        while chunk := await self._chunk():
            parts.append(chunk)
            size += len(chunk)
            if size > max_bytes:
                raise BackendProtocolError(
                    f"The model server's answer is larger than {max_bytes} bytes, which is the limit."
                )
        return b"".join(parts)

    async def error_text(self) -> str:
        """The start of an error's body, whatever it is; empty where it cannot be read."""
        text = bytearray()
        with contextlib.suppress(BackendError):
            while len(text) < MAX_ERROR_BYTES and (chunk := await self._chunk()):
                text += chunk
        return text[:MAX_ERROR_BYTES].decode("utf-8", "replace")

    async def drain(self, within_s: float = DRAIN_S) -> None:
        """Read a finished answer's last bytes, so that the connection can be used again; give up quietly after
        `within_s`."""
        if self._content.at_eof():
            return
        self._watch.sooner(within_s)
        with contextlib.suppress(BackendError):
            for _ in range(16):
                if not await self._chunk():
                    return

    def close(self) -> None:
        """Done with this answer. Ends the connection at once if the body was not read to the end."""
        self._watch.stop()
        self._response.close()


class Upstream:
    """The pooled connections to one base URL. Nothing but that URL is ever called: no redirects, no proxies from the
    environment."""

    def __init__(
        self,
        base_url: str,
        *,
        pool_size: int = 100,
        max_line_bytes: int = MAX_LINE_BYTES,
        headers: Mapping[str, str] | None = None,
        verify_cert: bool = True,
        keeps_connections: bool = True,
        id_header: str = "x-request-id",
        is_ours: bool = False,
    ) -> None:
        """`headers` go with every call. `keeps_connections`: for the next call. `id_header`: where a call's id goes.
        `is_ours`: the server is told the id that our caller gave."""
        url = URL(base_url)
        if url.scheme not in ("http", "https") or not url.host:
            # The value stays out of the text: it may carry a password.
            raise ValueError("The base URL of a model server must look like http://host:port or https://host/path.")
        self._base = str(url.with_query(None).with_fragment(None)).rstrip("/")
        self.label = f"{url.host}:{url.port}"
        self._pool_size = pool_size
        self._max_line_bytes = max_line_bytes
        self._headers = {"Accept-Encoding": "identity", "User-Agent": "arriero", **(headers or {})}
        self._verify_cert = verify_cert
        self._keeps_connections = keeps_connections
        self._id_header = id_header
        self._is_ours = is_ours
        self._session: aiohttp.ClientSession | None = None

    def _open_session(self) -> aiohttp.ClientSession:
        # Made on first use: a session belongs to the running loop, and this object may be built before there is one.
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self._pool_size,
                    keepalive_timeout=KEEP_ALIVE_S if self._keeps_connections else None,
                    force_close=not self._keeps_connections,
                    ssl=self._verify_cert,
                    socket_factory=egress.open_socket,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
                headers=self._headers,
            )
        return self._session

    async def open(
        self,
        method: str,
        path: str,
        body: bytes | AsyncIterable[bytes] | None = None,
        *,
        content_type: str = "application/json",
        request_id: str = "",
        timeouts: CallTimeouts,
        line_factor: int = 1,
    ) -> Call:
        """Send a request and return once its status is known; the caller closes the `Call`.

        Waiting for a free connection counts as waiting for the first byte. A refused connection is tried again, twice
        and quickly: the server has seen nothing of the call, so that makes no second one. The answer's lines may be
        `line_factor` times as long as others'. Raises BackendUnreachable, BackendTimeout, BackendProtocolError.
        """
        headers: dict[str, str] = {}
        if body is not None:
            headers["Content-Type"] = content_type
        if request_id:
            headers[self._id_header] = request_id
        # The job's id above is for us; the client's own id, as in our log lines, is for whoever compares logs. To a
        # stranger it would tell which calls belong together, and it may be a name.
        if self._is_ours and (correlation_id := get_contextvars().get("request_id")):
            headers["x-correlation-id"] = correlation_id

        async def send() -> aiohttp.ClientResponse:
            return await self._open_session().request(
                method,
                self._base + path,
                data=body,
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=timeouts.connect_s),
            )

        started = asyncio.get_running_loop().time()
        limit: Limit = "first_byte" if timeouts.first_byte_s <= timeouts.total_s else "total"
        seconds = min(timeouts.first_byte_s, timeouts.total_s)
        try:
            async with asyncio.timeout_at(started + seconds if math.isfinite(seconds) else None):
                try:
                    response = await send()
                except aiohttp.ClientConnectorError as exc:
                    if not _was_refused(exc):
                        raise
                    response = await _RECONNECT(send)
        except aiohttp.ConnectionTimeoutError as exc:
            raise unreachable(f"no connection within {timeouts.connect_s:g} s") from exc
        except TimeoutError as exc:
            raise timed_out(limit, seconds) from exc
        except aiohttp.ClientConnectorDNSError as exc:
            raise unreachable("its name does not resolve") from exc
        except aiohttp.ClientSSLError as exc:
            raise unreachable("TLS could not be agreed on") from exc
        except aiohttp.ClientConnectorError as exc:
            if isinstance(exc.os_error, egress.OutsideAirgap):
                raise BackendMisconfigured(
                    "In airgap mode this model server is not connected to, since its address is not local. Add it to "
                    "AIRGAP_ALLOWED_NETWORKS if it is yours."
                ) from exc
            raise unreachable("the connection was refused") from exc
        except (aiohttp.ClientConnectionError, OSError) as exc:
            raise unreachable("the connection was closed before the answer") from exc
        except (aiohttp.ClientError, HttpProcessingError) as exc:
            raise BackendProtocolError("The model server does not speak HTTP that can be understood.") from exc
        return Call(response, timeouts, started, self._max_line_bytes * line_factor)

    async def aclose(self) -> None:
        """Close all connections, those in use too. May be called twice."""
        if self._session is not None:
            await self._session.close()
