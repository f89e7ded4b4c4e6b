"""An Ollama stream: one JSON object a line. As there, the first line opens it, and one with `done` ends it."""

from __future__ import annotations

from gateway.inference import Ticket
from gateway.late_stream import LateStream
from gateway.request import GatewayRequest
from gateway.streaming import AnswerStream
from shared.wire.canonical import TextAnswer
from shared.wire.ollama_stream import LineRenderer


class LineStream(LateStream):
    """Lines of JSON."""

    content_type = "application/x-ndjson"


class OllamaStream(AnswerStream):
    """Ollama itself is silent until its first line, and its clients wait for that; proxies between them may not. So
    after `STREAM_KEEPALIVE` without a byte it gets a blank, which JSON allows before the object of a line.
    """

    def __init__(self, request: GatewayRequest, ticket: Ticket, renderer: LineRenderer) -> None:
        self._lines = renderer
        grace_s = request.services.settings.stream_keepalive
        super().__init__(request, ticket, renderer, LineStream(request), grace_s=grace_s)

    def _finish(self, answer: TextAnswer) -> bytes:
        return self._lines.finish(answer)

    async def _show_life(self) -> None:
        await self._out.write(b" ")
