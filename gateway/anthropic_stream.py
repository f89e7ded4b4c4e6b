"""A Messages API stream: events that begin a message, tell its blocks and end it."""

from __future__ import annotations

from gateway.inference import Ticket
from gateway.request import GatewayRequest
from gateway.streaming import EventAnswerStream
from shared.wire.anthropic_stream import PING, EventRenderer
from shared.wire.canonical import TextAnswer


class AnthropicStream(EventAnswerStream):
    """Ends in `message_stop`, or in an `error` event. While nothing is said, a `ping` follows the comment that tells
    the place in line, as clients of this API expect one.
    """

    def __init__(self, request: GatewayRequest, ticket: Ticket, renderer: EventRenderer) -> None:
        super().__init__(request, ticket, renderer)
        self._frames = renderer

    def _finish(self, answer: TextAnswer) -> bytes:
        return self._frames.finish(answer)

    async def _show_life(self) -> None:
        await super()._show_life()
        await self._out.write(PING)
