"""Server-sent events on the wire."""

from __future__ import annotations

from gateway.late_stream import LateStream


class EventStream(LateStream):
    """A stream of events."""

    content_type = "text/event-stream; charset=utf-8"

    async def comment(self, text: str) -> None:
        """A line that every event-stream client ignores; it keeps connections and people patient."""
        await self.write(f": {text}\n\n".encode())
