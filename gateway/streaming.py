"""A streamed answer: a job's events, rendered as they come.

Until the first chunk, or for a while, nothing is sent, so that an early failure gets its own HTTP status. From then on
the stream always ends in words: the dialect's own end, or one error; never a silent end.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

from aiohttp import web

from gateway.inference import AFTER_DEADLINE_S, Ticket, note_end
from gateway.late_stream import LateStream
from gateway.middleware import stopping
from gateway.request import GatewayRequest
from gateway.splice import Splice
from gateway.sse import EventStream
from gateway.waits import Outlook
from shared.errors import ArrieroError, ErrorRecord, JobExpired
from shared.jobs import State
from shared.telemetry.logging import logger
from shared.wire.canonical import Delta, TextAnswer
from shared.wire.events import Chunk, Ended, Event, Started
from shared.wire.openai_render import StreamRenderer

log = logger("stream")

LOOK_PERIOD_S = 1.0
"""How often an open stream without events is looked at."""


class Renderer(Protocol):
    """The bytes that all streams of a dialect have."""

    def deltas(self, deltas: Sequence[Delta]) -> bytes: ...

    def error(self, error: ErrorRecord) -> bytes: ...


class AnswerStream(ABC):
    """One streamed answer, from its ticket to its last byte. Subclasses are the faces' own ways.

    `grace_s`: how long the status line is held back while nothing comes.
    """

    def __init__(
        self, request: GatewayRequest, ticket: Ticket, renderer: Renderer, out: LateStream, *, grace_s: float
    ) -> None:
        self._request = request
        self._services = request.services
        self._ticket = ticket
        self._renderer = renderer
        self._out = out
        self._grace_s = grace_s
        self._splice = Splice(ticket.job.id)
        self._loop = asyncio.get_running_loop()
        self._running = False
        self._chunks_seen = False
        self._silent_since = self._loop.time()

    @abstractmethod
    def _finish(self, answer: TextAnswer) -> bytes:
        """The words in which a whole answer ends."""

    @abstractmethod
    async def _show_life(self) -> None:
        """Send something that every client of the dialect passes over."""

    def _is_too_silent(self) -> bool:
        return self._loop.time() - self._silent_since >= self._services.settings.stream_keepalive

    async def run(self) -> web.StreamResponse:
        """Serve until the end. Raises the job's error while the status line is still unsent."""
        try:
            with self._services.positions.watching(self._ticket.job.id):
                await self._relay()
            return await self._out.close()
        except ArrieroError as error:
            if not self._out.opened:
                raise
            return await self._break_off(error.record())
        except asyncio.CancelledError:
            if not (self._services.cutting_off and self._out.opened):
                raise
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
            return await self._break_off(stopping(self._request).record())
        except ConnectionError:
            raise
        except Exception:
            # Once the stream is open nobody further out can answer any more: the client would wait for ever.
            if not self._out.opened:
                raise
            log.exception("stream.unexpected_error", job_id=self._ticket.job.id)
            return await self._break_off(ArrieroError().record())
        finally:
            self._out.release()

    async def _relay(self) -> None:
        opened_by = self._loop.time() + self._grace_s
        give_up_at = self._loop.time() + self._ticket.job.timeout_s + AFTER_DEADLINE_S
        ended = False
        while not ended:
            now = self._loop.time()
            if now > give_up_at:
                raise JobExpired()
            pause_s = LOOK_PERIOD_S if self._out.opened else max(0.001, opened_by - now)
            event = await self._ticket.events.next(pause_s)
            if event is not None:
                ended = await self._take([event, *self._ticket.events.drain()])
            elif not self._out.opened or self._is_too_silent():
                self._silent_since = self._loop.time()
                await self._show_life()

    async def _take(self, events: list[Event]) -> bool:
        """Relay what has come, in one write; True when the end was among it."""
        frames: list[bytes] = []
        try:
            for event in events:
                match event:
                    case Chunk():
                        if deltas := self._splice.chunk(event):
                            self._note_first_chunk()
                            frames.append(self._renderer.deltas(deltas))
                    case Started():
                        self._running = True
                        self._splice.started(event.attempt)
                    case Ended():
                        frames.append(self._last_frames(event))
                        return True
        finally:
            # Also before an error's frame: what was taken into the splice counts as sent.
            if frames:
                await self._out.write(b"".join(frames))
                self._silent_since = self._loop.time()
        return False

    def _last_frames(self, event: Ended) -> bytes:
        """The rest and the end. Raises JobFailed, or StreamRestarted when the answer is not what was sent."""
        if event.state is not State.SUCCEEDED:
            note_end(self._request, self._ticket, event)
        answer = self._ticket.answer(event)
        assert isinstance(answer, TextAnswer)
        note_end(self._request, self._ticket, event, answer)
        rest = self._splice.finish(answer)
        frames = self._renderer.deltas(rest) if rest else b""
        return frames + self._finish(answer)

    def _note_first_chunk(self) -> None:
        self._running = True
        if not self._chunks_seen:
            self._chunks_seen = True
            self._services.metrics.first_chunk.observe(time.monotonic() - self._request.started_at)

    async def _break_off(self, error: ErrorRecord) -> web.StreamResponse:
        await self._out.write(self._renderer.error(error))
        return await self._out.close()


class EventAnswerStream(AnswerStream):
    """Server-sent events, with comments that tell what the job waits for."""

    def __init__(self, request: GatewayRequest, ticket: Ticket, renderer: Renderer) -> None:
        self._events = EventStream(request)
        grace_s = request.services.settings.stream_grace
        super().__init__(request, ticket, renderer, self._events, grace_s=grace_s)

    def _outlook(self) -> Outlook | None:
        """What the job waits for, a loading model among it; None once an answer has begun."""
        if self._chunks_seen:
            return None
        outlook = self._services.load.outlook(self._services.positions.standing(self._ticket.job.id))
        # The place in line may be a second old.
        return None if outlook is not None and outlook.position and self._running else outlook

    def _is_too_silent(self) -> bool:
        return self._outlook() is not None or super()._is_too_silent()

    async def _show_life(self) -> None:
        outlook = self._outlook()
        if outlook is not None:
            await self._events.comment(outlook.text)
        else:
            await self._events.comment("running" if self._running else "queued")


class OpenAIStream(EventAnswerStream):
    """Ends in `[DONE]`."""

    def __init__(
        self, request: GatewayRequest, ticket: Ticket, renderer: StreamRenderer, *, include_usage: bool
    ) -> None:
        super().__init__(request, ticket, renderer)
        self._frames = renderer
        self._include_usage = include_usage

    def _finish(self, answer: TextAnswer) -> bytes:
        return self._frames.finish(answer, self._include_usage)
