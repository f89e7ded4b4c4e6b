"""One pooled HTTP connection to a model server, with limits that cost little per token.

    call = await upstream.open("POST", "/api/chat", body, request_id=..., timeouts=...)
    try:
        while lines := await call.lines():
            ...
    finally:
        call.close()

Every failure of the network leaves here, and `Call`, as a `BackendError`.
"""

from __future__ import annotations

import asyncio
import functools
import math
from collections.abc import AsyncIterable, Mapping

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random
from yarl import URL

from shared import egress
from shared.backends.base import CallTimeouts
from shared.backends.call import MAX_LINE_BYTES, Call
from shared.backends.watch import Limit, timed_out
from shared.errors import BackendMisconfigured, BackendProtocolError, BackendUnreachable
from shared.telemetry.logging import REQUEST_ID

KEEP_ALIVE_S = 30.0


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


@functools.lru_cache(maxsize=64)
def _connecting_within(connect_s: float) -> aiohttp.ClientTimeout:
    """The one limit that is left to aiohttp."""
    return aiohttp.ClientTimeout(total=None, sock_connect=connect_s)


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
        if self._is_ours and (correlation_id := REQUEST_ID.get("")):
            headers["x-correlation-id"] = correlation_id

        async def send() -> aiohttp.ClientResponse:
            return await self._open_session().request(
                method,
                self._base + path,
                data=body,
                headers=headers,
                allow_redirects=False,
                timeout=_connecting_within(timeouts.connect_s),
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
