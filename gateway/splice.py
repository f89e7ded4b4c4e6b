"""Keeping a stream one text when its job starts over.

An OpenAI stream has no word for "forget what I said". So when a job runs again after chunks were sent, the new run is
compared with what the client already has: silent while it repeats it, going on after it, and broken at the first
difference. What the client has is therefore always a prefix of one single run's answer.

Pure: events in, deltas to send out.
"""

from __future__ import annotations

from collections.abc import Iterator

from shared.errors import StreamRestarted
from shared.wire.canonical import Delta, TextAnswer, ToolCall
from shared.wire.events import Chunk

Part = tuple[str, str]
"""(channel, text): channel is thinking or content, or tool with the call's name and arguments as one text."""

THINKING, CONTENT, TOOL = "thinking", "content", "tool"


def _tool_text(call: ToolCall) -> str:
    # Without the id: servers draw a new one each run, and the client keeps the first.
    return f"{call.name}\0{call.arguments}"


def parts(delta: Delta) -> Iterator[Part]:
    """What a delta adds, channel by channel, in the order in which the renderer writes it."""
    if delta.thinking:
        yield THINKING, delta.thinking
    if delta.content:
        yield CONTENT, delta.content
    for call in delta.tool_calls:
        yield TOOL, _tool_text(call)


class Splice:
    """One stream's memory of what was sent, and of how far a new run has repeated it.

    The channels are compared one by one: how thinking and content interleave is up to chunk boundaries, and no client
    can tell.
    """

    def __init__(self, job_id: str) -> None:
        self._job_id = job_id
        self._attempt = 0
        self._seq = 0
        self._whole = True
        """Whether every chunk of the current run arrived; if not, its end brings the rest."""
        self._sent: dict[str, list[str]] = {THINKING: [], CONTENT: [], TOOL: []}
        self._repeat: dict[str, str] | None = None
        """While a new run repeats: per text channel, what it still has to repeat."""
        self._tools_to_repeat: list[str] = []

    @property
    def sent_anything(self) -> bool:
        return any(self._sent.values())

    def started(self, attempt: int) -> None:
        """A run begins. Only a newer one than the current changes anything."""
        if attempt <= self._attempt:
            return
        self._attempt, self._seq, self._whole = attempt, 0, True
        if self.sent_anything:
            self._repeat = {channel: "".join(self._sent[channel]) for channel in (THINKING, CONTENT)}
            self._tools_to_repeat = list(self._sent[TOOL])

    def chunk(self, chunk: Chunk) -> list[Delta]:
        """The deltas of this chunk to send; none for a stale, doubled or repeating one. Raises StreamRestarted at a
        difference.
        """
        if chunk.attempt != self._attempt:
            if chunk.attempt < self._attempt:
                return []
            self.started(chunk.attempt)
        if chunk.seq <= self._seq:
            return []
        if chunk.seq != self._seq + 1:
            # A chunk was lost on the way. What follows cannot be placed; the job's end carries the whole answer.
            self._whole = False
        self._seq = chunk.seq
        if not self._whole:
            return []
        # Asked anew for each delta: the repetition may end within a chunk.
        deltas = [
            new
            for delta in chunk.deltas
            if (new := delta if self._repeat is None else self._after_repeat(delta)) is not None
        ]
        for delta in deltas:
            self._note(delta)
        return deltas

    def finish(self, answer: TextAnswer) -> list[Delta]:
        """What the answer has beyond what was sent. Raises StreamRestarted when what was sent is not its beginning."""
        rest = {}
        for channel, whole in ((THINKING, answer.thinking), (CONTENT, answer.content)):
            sent = "".join(self._sent[channel])
            if not whole.startswith(sent):
                raise self._differs()
            rest[channel] = whole[len(sent) :]
        tools = [_tool_text(call) for call in answer.tool_calls]
        sent_tools = self._sent[TOOL]
        if tools[: len(sent_tools)] != sent_tools:
            raise self._differs()
        delta = Delta(thinking=rest[THINKING], content=rest[CONTENT], tool_calls=answer.tool_calls[len(sent_tools) :])
        if delta.thinking:
            delta.signature = answer.signature
        if not any(parts(delta)):
            return []
        self._note(delta)
        return [delta]

    def _note(self, delta: Delta) -> None:
        for channel, text in parts(delta):
            self._sent[channel].append(text)

    def _after_repeat(self, delta: Delta) -> Delta | None:
        """The part of a delta that lies beyond the repetition; None when it lies inside."""
        assert self._repeat is not None
        thinking = self._beyond(THINKING, delta.thinking)
        content = self._beyond(CONTENT, delta.content)
        calls: list[ToolCall] = []
        for call in delta.tool_calls:
            if not self._tools_to_repeat:
                calls.append(call)
            elif self._tools_to_repeat.pop(0) != _tool_text(call):
                raise self._differs()
        if thinking == delta.thinking and content == delta.content and len(calls) == len(delta.tool_calls):
            new: Delta | None = delta
        elif thinking or content or calls:
            # A token cut in two has no log probability of its own.
            new = Delta(content=content, thinking=thinking, tool_calls=calls)
        else:
            new = None
        if not any(self._repeat.values()) and not self._tools_to_repeat:
            self._repeat = None
        return new

    def _beyond(self, channel: str, text: str) -> str:
        assert self._repeat is not None
        expected = self._repeat[channel]
        if not expected or not text:
            return text
        if len(text) <= len(expected):
            if not expected.startswith(text):
                raise self._differs()
            self._repeat[channel] = expected[len(text) :]
            return ""
        if not text.startswith(expected):
            raise self._differs()
        self._repeat[channel] = ""
        return text[len(expected) :]

    def _differs(self) -> StreamRestarted:
        return StreamRestarted(
            "The job started over and its text changed, so this stream cannot go on. "
            f"The whole answer will be at GET /v1/jobs/{self._job_id}."
        )
