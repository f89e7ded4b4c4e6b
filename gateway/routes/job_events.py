"""A job's events as they happen, resumable: each event's id is `<attempt>-<seq>`, and `Last-Event-ID` goes on after
it.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

from aiohttp import web

from gateway.answers import render_job
from gateway.request import GatewayRequest
from gateway.services import Services
from gateway.sse import EventStream
from shared.errors import ArrieroError, BadRequest, JobLost, JobNotFound
from shared.wire.canonical import Delta
from shared.wire.events import Chunk, Ended, Event, Started
from shared.wire.openai_render import error_body, to_json

COMMENT_PERIOD_S = 1.0
_EVENT_ID = re.compile(r"([0-9]{1,9})-([0-9]{1,12})")
START = (0, 0)


def after_id(header: str | None) -> tuple[int, int]:
    """(attempt, seq) of the last event the client has; (0, 0) for none. Raises BadRequest for what is no event id."""
    if not header:
        return START
    match = _EVENT_ID.fullmatch(header)
    if match is None:
        raise BadRequest("Last-Event-ID is the id of an event of this stream, such as 1-12.", param="Last-Event-ID")
    return int(match[1]), int(match[2])


def frame(name: str, event_id: str, data: dict[str, Any]) -> bytes:
    head = f"id: {event_id}\nevent: {name}\ndata: " if event_id else f"event: {name}\ndata: "
    return head.encode() + to_json(data) + b"\n\n"


def delta_body(delta: Delta) -> dict[str, Any]:
    """A delta without what it does not say."""
    body: dict[str, Any] = {}
    if delta.content:
        body["content"] = delta.content
    if delta.thinking:
        body["thinking"] = delta.thinking
    if delta.tool_calls:
        body["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in delta.tool_calls
        ]
    if delta.logprobs:
        body["logprobs"] = delta.logprobs
    return body


class EventCursor:
    """Which events are news to this client. Pure."""

    def __init__(self, after: tuple[int, int]) -> None:
        self._at = after

    def frame(self, event: Started | Chunk) -> bytes | None:
        """The event as a frame; None for one the client has."""
        if isinstance(event, Started):
            if event.attempt <= self._at[0]:
                return None
            name = "started" if self._at == START else "restart"
            self._at = (event.attempt, 0)
            return frame(name, f"{event.attempt}-0", {"attempt": event.attempt})
        place = (event.attempt, event.seq)
        if place <= self._at:
            return None
        # A run whose start was missed is announced by its first chunk.
        restarted = self._at != START and event.attempt > self._at[0]
        self._at = place
        chunk = frame("chunk", event.id, {"deltas": [delta_body(delta) for delta in event.deltas]})
        if restarted:
            return frame("restart", f"{event.attempt}-0", {"attempt": event.attempt}) + chunk
        return chunk


async def job_events(request: GatewayRequest, services: Services, job_id: str) -> web.StreamResponse:
    """Serve the stream until the job's end. The client going away does not touch the job."""
    after = after_id(request.headers.get("Last-Event-ID"))
    subscription = await services.replies.attach(job_id, "" if after == START else f"{after[0]}-{after[1]}")
    if subscription is None:
        raise JobNotFound()
    request.job_headers = {"x-arriero-job-id": job_id}
    out = EventStream(request)
    cursor = EventCursor(after)
    loop = asyncio.get_running_loop()
    try:
        with subscription, services.positions.watching(job_id):
            await out.open()
            spoke_at = loop.time()
            answered = False
            while True:
                event: Event | None = await subscription.next(COMMENT_PERIOD_S)
                if isinstance(event, Ended):
                    record = await services.queue.get(job_id)
                    if record is not None:
                        body = await render_job(services, record)
                    else:
                        body = {"id": job_id, "status": event.state, **error_body(event.error or JobLost().record())}
                    await out.write(frame("ended", "", body))
                    return await out.close()
                if event is None:
                    outlook = None if answered else services.load.outlook(services.positions.standing(job_id))
                    if outlook is None and loop.time() - spoke_at < services.settings.stream_keepalive:
                        continue
                    await out.comment("waiting" if outlook is None else outlook.text)
                elif (data := cursor.frame(event)) is not None:
                    await out.write(data)
                    answered = isinstance(event, Chunk)
                else:
                    continue
                spoke_at = loop.time()
    except asyncio.CancelledError:
        # At the end of a drain a comment is goodbye enough: the client comes back with Last-Event-ID.
        if not services.cutting_off:
            raise
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()
        await out.comment("this gateway is shutting down")
        return await out.close()
    except ArrieroError as error:
        # An answer of its own cannot follow an open stream. Without `ended` the client comes back, as above.
        if not out.opened:
            raise
        await out.comment(f"broken off: {error.code}")
        return await out.close()
    finally:
        out.release()
