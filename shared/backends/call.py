"""A model server's answer while it is read, within the limits of its call.

`close` drops the connection unless the body was read to its end, which is how a model server learns that nobody wants
the rest; only a connection that was read to the end goes back to the pool.
"""

from __future__ import annotations

import asyncio
import contextlib

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from shared.backends.base import CallTimeouts
from shared.backends.watch import Watch
from shared.errors import BackendError, BackendProtocolError

MAX_LINE_BYTES = 1024 * 1024
MAX_BODY_BYTES = 256 * 1024 * 1024
MAX_ERROR_BYTES = 64 * 1024
DRAIN_S = 0.5

_NETWORK_ERRORS = (aiohttp.ClientError, HttpProcessingError, OSError)


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
