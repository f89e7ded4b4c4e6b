"""A response that is sent in pieces and opened late, to a reader that may be slow or gone."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from aiohttp import web

from gateway.middleware import stamp
from gateway.request import GatewayRequest

WRITE_LIMIT_S = 60.0
"""A reader that takes no byte for so long has stopped reading."""


class LateStream:
    """Until the first byte, an error can still have its own status. A kind of stream names its `content_type`."""

    content_type: ClassVar[str]

    def __init__(self, request: GatewayRequest) -> None:
        self._request = request
        self._response: web.StreamResponse | None = None
        self._streams = request.services.metrics.streams

    @property
    def opened(self) -> bool:
        return self._response is not None

    async def open(self) -> web.StreamResponse:
        if self._response is None:
            # nginx and its kin would otherwise gather the whole stream first.
            headers = {"Content-Type": self.content_type, "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
            response = web.StreamResponse(headers=headers)
            stamp(self._request, response.headers)
            if self._request.services.draining:
                response.force_close()
            await response.prepare(self._request)
            self._response = response
            self._streams.inc()
        return self._response

    async def write(self, data: bytes) -> None:
        """Send, opening the stream if need be. Raises ConnectionError when the reader is gone or has stopped
        reading.
        """
        response = self._response or await self.open()
        transport = self._request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client is gone")
        if transport.get_write_buffer_size() == 0:
            await response.write(data)
            return
        try:
            async with asyncio.timeout(WRITE_LIMIT_S):
                await response.write(data)
        except TimeoutError:
            transport.abort()
            raise ConnectionAbortedError("the client stopped reading") from None

    async def close(self) -> web.StreamResponse:
        response = await self.open()
        await response.write_eof()
        return response

    def release(self) -> None:
        """Count the stream as over."""
        if self._response is not None:
            self._streams.dec()
