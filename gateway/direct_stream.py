"""A chat's answer as the direct face streams it: `delta` events, then `done` with the whole answer, or `error`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from gateway.direct_errors import DirectErrors
from gateway.inference import Ticket
from gateway.request import GatewayRequest
from gateway.routes.job_events import delta_body, frame
from gateway.streaming import EventAnswerStream
from shared.errors import ErrorRecord
from shared.wire.canonical import Delta, TextAnswer

Conclude = Callable[[TextAnswer], Awaitable[dict[str, Any]]]


class DirectRenderer:
    """The events' bytes."""

    def __init__(self, errors: DirectErrors, request_id: str) -> None:
        self._errors = errors
        self._request_id = request_id

    def deltas(self, deltas: Sequence[Delta]) -> bytes:
        return b"".join(frame("delta", "", delta_body(delta)) for delta in deltas)

    def done(self, body: dict[str, Any]) -> bytes:
        return frame("done", "", body)

    def error(self, error: ErrorRecord) -> bytes:
        return frame("error", "", self._errors.body(error, self._request_id))


class DirectStream(EventAnswerStream):
    """`conclude` makes the last event's body. It is awaited, so that who reads `done` finds what was said
    remembered.
    """

    def __init__(self, request: GatewayRequest, ticket: Ticket, conclude: Conclude) -> None:
        self._direct = DirectRenderer(DirectErrors.of(request.services.settings), request.request_id)
        self._conclude = conclude
        self._answer: TextAnswer | None = None
        super().__init__(request, ticket, self._direct)

    def _finish(self, answer: TextAnswer) -> bytes:
        self._answer = answer
        return b""

    async def _relay(self) -> None:
        await super()._relay()
        assert self._answer is not None  # the relay ends with an answer, or raises
        await self._events.write(self._direct.done(await self._conclude(self._answer)))
