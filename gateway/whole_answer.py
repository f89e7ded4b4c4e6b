"""An answer whose every byte is known: head and body leave in one write."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from email.utils import formatdate

from aiohttp import ClientConnectionResetError, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import HttpVersion11
from aiohttp.http_writer import _serialize_headers
from multidict import CIMultiDict


class WholeAnswer(web.Response):
    """A `web.Response` with a body of bytes and neither cookies nor compression, sent in a quarter of aiohttp's steps.

    The others are for those, for streams and for older clients; HTTP/1.0 and HEAD still take them.
    """

    def __init__(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        # What `web.Response` does of it; the rest is for text, payloads and types of content.
        web.StreamResponse.__init__(self, status=status, _real_headers=CIMultiDict(headers))
        self._body = body

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        if self.prepared or request.version != HttpVersion11 or request.method == "HEAD":
            return await super().prepare(request)
        body, headers, transport = self._body, self._headers, request.transport
        assert isinstance(body, bytes)
        if transport is None or transport.is_closing():
            raise ClientConnectionResetError("The client has left.")
        headers["Content-Length"] = str(len(body))
        headers["Date"] = _date(int(time.time()))
        if self._keep_alive is None:
            self._keep_alive = request.keep_alive
        if not self._keep_alive:
            headers["Connection"] = "close"
        # Raises ValueError for control characters in a header.
        transport.write(_serialize_headers(f"HTTP/1.1 {self._status} {self._reason}", headers) + body)
        # From here on it counts as sent, also for `write_eof`.
        self._eof_sent = True
        writer = request.writer
        await writer.drain()
        return writer


@functools.lru_cache(maxsize=1)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)
