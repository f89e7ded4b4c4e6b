"""An answer whose every byte is known: head and body leave in one write."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from email.utils import formatdate

from aiohttp import web
from aiohttp.http import HttpVersion11
from aiohttp.http_writer import _serialize_headers
from aiohttp.web_response import REASON_PHRASES
from multidict import CIMultiDict


class WholeAnswer(web.Response):
    """A `web.Response` with a body of bytes and neither cookies nor compression, which a connection may `send` in a
    quarter of aiohttp's steps.

    The others are for those, for streams and for older clients.
    """

    def __init__(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        # What `web.Response` does of it; the rest is for text, payloads and types of content.
        self._state = {}
        self._headers = CIMultiDict(headers)
        self._status = status
        self._reason = REASON_PHRASES.get(status, "")
        self._body: bytes = body

    def send(self, request: web.BaseRequest) -> bool:
        """Write it to the client. False, and nothing is written, where that takes aiohttp's steps: for HTTP/1.0 and
        HEAD, to a client that has left or does not read. Raises ValueError for control characters in a header.
        """
        head, transport = request._message, request.transport
        if head.version != HttpVersion11 or head.method == "HEAD" or transport is None or request.protocol._paused:
            return False
        if transport.is_closing():
            return False
        body, headers = self._body, self._headers
        headers["Content-Length"] = str(len(body))
        headers["Date"] = _date(int(time.time()))
        if self._keep_alive is None:
            self._keep_alive = not head.should_close
        if not self._keep_alive:
            headers["Connection"] = "close"
        transport.write(_serialize_headers(f"HTTP/1.1 {self._status} {self._reason}", headers) + body)
        self._eof_sent = True
        return True


@functools.lru_cache(maxsize=1)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)
