"""An OpenAI stream: a job's events, rendered as they come.

Until the first chunk, or for `STREAM_GRACE`, nothing is sent, so that an early failure gets its own HTTP status. From
then on the stream always ends in words: finish and `[DONE]`, or one error frame; never a silent end.
"""

from __future__ import annotations

import asyncio

from aiohttp import web

from gateway.inference import AFTER_DEADLINE_S, Ticket, note_end
from gateway.middleware import stopping
from gateway.services import SERVICES, STARTED_AT
from gateway.splice import Splice
from gateway.sse import EventStream
from shared.errors import ArrieroError, ErrorRecord, JobExpired
from shared.jobs import State
from shared.telemetry.logging import logger
from shared.wire.canonical import TextAnswer
from shared.wire.events import Chunk, Ended, Event, Started
from shared.wire.openai_render import StreamRenderer

log = logger("stream")

COMMENT_PERIOD_S = 1.0


class OpenAIStream:
    """One streamed answer, from its ticket to its last frame."""

    def __init__(self, request: web.Request, ticket: Ticket, renderer: StreamRenderer, *, include_usage: bool) -> None:
        self._request = request
        self._services = request.app[SERVICES]
        self._ticket = ticket
        self._renderer = renderer
        self._include_usage = include_usage
        self._out = EventStream(request)
        self._splice = Splice(ticket.job.id)
        self._loop = asyncio.get_running_loop()
        self._running = False
        self._chunks_seen = False
        self._silent_since = self._loop.time()

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
        opened_by = self._loop.time() + self._services.settings.stream_grace
        give_up_at = self._loop.time() + self._ticket.job.timeout_s + AFTER_DEADLINE_S
        ended = False
        while not ended:
            now = self._loop.time()
            if now > give_up_at:
                raise JobExpired()
            pause_s = COMMENT_PERIOD_S if self._out.opened else max(0.001, opened_by - now)
            event = await self._ticket.events.next(pause_s)
            if event is not None:
                ended = await self._take([event, *self._ticket.events.drain()])
            elif not self._out.opened or self._due_for_comment():
                await self._comment()

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
        """Finish, usage, end mark. Raises JobFailed, or StreamRestarted when the answer is not what was sent."""
        if event.state is not State.SUCCEEDED:
            note_end(self._request, self._ticket.job, event)
        answer = self._ticket.answer(event)
        assert isinstance(answer, TextAnswer)
        note_end(self._request, self._ticket.job, event, answer)
        rest = self._splice.finish(answer)
        frames = self._renderer.deltas(rest) if rest else b""
        return frames + self._renderer.finish(answer, self._include_usage)

    def _note_first_chunk(self) -> None:
        self._running = True
        if not self._chunks_seen:
            self._chunks_seen = True
            self._services.metrics.first_chunk.observe(self._loop.time() - self._request[STARTED_AT])

    def _due_for_comment(self) -> bool:
        silent_s = self._loop.time() - self._silent_since
        waits = not self._running and self._services.positions.position(self._ticket.job.id) is not None
        return waits or silent_s >= self._services.settings.stream_keepalive

    async def _comment(self) -> None:
        position = self._services.positions.position(self._ticket.job.id)
        self._silent_since = self._loop.time()
        if self._running:
            await self._out.comment("running")
        else:
            await self._out.comment("queued" if position is None else f"queued position={position}")

    async def _break_off(self, error: ErrorRecord) -> web.StreamResponse:
        await self._out.write(self._renderer.error(error))
        return await self._out.close()
