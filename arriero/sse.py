"""Server-sent events, and how a broken event stream is resumed. No I/O in here.

`SseParser` turns bytes into frames as the HTML standard says. `EventFeed` turns frames into a job's events, drops what
was seen before, and says how long to wait before the next connection.
"""

from __future__ import annotations

import codecs
import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from arriero.models import Chunk, Ended, Event, Job, Queued, Restart, Started

_POSITION = re.compile(r"position\D*(\d+)")
_LINE_END = re.compile(r"\r\n|\n|\r")
RECONNECT_BASE_S = 0.1
RECONNECT_CAP_S = 5.0


@dataclass(slots=True)
class Frame:
    """One dispatched event, or one comment (`comment` set, the rest empty)."""

    event: str = "message"
    data: str = ""
    id: str | None = None
    comment: str | None = None


@dataclass(slots=True)
class SseParser:
    """Bytes in, frames out; a line or a character may be cut anywhere."""

    _text: str = ""
    _decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace")
    )
    _event: str = ""
    _data: list[str] = field(default_factory=list)
    _id: str | None = None

    def feed(self, received: bytes) -> list[Frame]:
        frames: list[Frame] = []
        self._text += self._decoder.decode(received)
        start = 0
        for end in _LINE_END.finditer(self._text):
            # A CR at the very end may be half of a CRLF; wait for what follows.
            if end.group() == "\r" and end.end() == len(self._text):
                break
            frame = self._line(self._text[start : end.start()])
            start = end.end()
            if frame is not None:
                frames.append(frame)
        self._text = self._text[start:]
        return frames

    def _line(self, line: str) -> Frame | None:
        if not line:
            return self._dispatch()
        if line.startswith(":"):
            return Frame(comment=line[1:].strip())
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._event = value
        elif name == "data":
            self._data.append(value)
        elif name == "id" and "\0" not in value:
            self._id = value
        return None

    def _dispatch(self) -> Frame | None:
        event, data, self._event, self._data = self._event or "message", self._data, "", []
        return Frame(event=event, data="\n".join(data), id=self._id) if data else None


@dataclass(slots=True)
class EventFeed:
    """One job's events over any number of connections. `last_event_id` is what the next connection must send."""

    last_event_id: str = ""
    ended: bool = False
    retries: int = 0
    _parser: SseParser = field(default_factory=SseParser)

    def connected(self) -> dict[str, str]:
        """Headers for a new connection; forgets the half frame of the old one."""
        self._parser = SseParser()
        headers = {"accept": "text/event-stream"}
        if self.last_event_id:
            headers["last-event-id"] = self.last_event_id
        return headers

    def feed(self, received: bytes) -> Iterator[Event]:
        for frame in [] if self.ended else self._parser.feed(received):
            # Life on the line is progress, so the next break starts with a short wait again.
            self.retries = 0
            event = self._event(frame)
            if event is not None:
                yield event
            if self.ended:
                return

    def lost(self, retry_after_s: float | None = None) -> float:
        """Seconds to wait before connecting again: full jitter, `retry_after_s` is a floor."""
        self.retries += 1
        backoff = random.random() * min(RECONNECT_CAP_S, RECONNECT_BASE_S * 2.0 ** min(self.retries, 16))
        return max(backoff, retry_after_s or 0.0)

    def _event(self, frame: Frame) -> Event | None:
        if frame.comment is not None:
            found = _POSITION.search(frame.comment)
            return Queued(int(found[1])) if found else None
        body = json.loads(frame.data)
        identity = frame.id or ""
        if frame.event == "chunk":
            # A server that replays one event too many must not make the text say it twice.
            if identity and _order(identity) <= _order(self.last_event_id):
                return None
            self.last_event_id = identity or self.last_event_id
            return Chunk(tuple(body.get("deltas") or ()), identity)
        if frame.event == "ended":
            self.ended = True
            return Ended(Job.parse(body), identity)
        if identity and _order(identity) > _order(self.last_event_id):
            self.last_event_id = identity
        attempt = int(body.get("attempt") or _order(identity)[0] or 1)
        if frame.event == "started":
            return Started(attempt, identity)
        if frame.event == "restart":
            return Restart(attempt, identity)
        return None


def _order(event_id: str) -> tuple[int, int]:
    """`attempt-seq` as numbers; what is not of that form comes first."""
    attempt, _, seq = event_id.partition("-")
    return (int(attempt), int(seq)) if attempt.isdigit() and seq.isdigit() else (0, 0)
