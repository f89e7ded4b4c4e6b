"""An answer whose every byte is known: head and body leave in one write."""

from __future__ import annotations

import functools
import time
from email.utils import formatdate

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import HttpVersion11


class WholeAnswer(web.Response):
    """A `web.Response` with a body of bytes and neither cookies nor compression, sent in a third of aiohttp's steps.

    The others are for those, for streams and for older clients; HTTP/1.0 and HEAD still take them.
    """

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        if self.prepared or request.version != HttpVersion11 or request.method == "HEAD":
            return await super().prepare(request)
        body, headers, writer = self._body, self._headers, request.writer
        assert isinstance(body, bytes)
        headers["Content-Length"] = str(len(body))
        headers["Date"] = _date(int(time.time()))
        if self._keep_alive is None:
            self._keep_alive = request.keep_alive
        if not self._keep_alive:
            headers["Connection"] = "close"
        # The writer also refuses control characters in a header.
        await writer.write_headers(f"HTTP/1.1 {self._status} {self._reason}", headers)
        await writer.write_eof(body)
        # From here on it counts as sent, also for `write_eof`.
        self._eof_sent = True
        return writer


@functools.lru_cache(maxsize=1)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)
