"""Server-sent events of a Messages API stream: a message of blocks, each begun, told in pieces and ended.

As in `openai_stream`, what surrounds a piece of text is encoded once a block.
"""

from __future__ import annotations

from collections.abc import Sequence

from shared.errors import ErrorRecord
from shared.wire.anthropic_render import (
    Rendering,
    error_body,
    input_of,
    message_head,
    stop_reason,
    thinking_block,
    usage_body,
    use_block,
)
from shared.wire.canonical import Delta, TextAnswer, ToolCall
from shared.wire.openai_shapes import Body, to_json

_STARTS: dict[str, Body] = {"text": {"type": "text", "text": ""}, "thinking": thinking_block("")}
_TAIL = b"}}\n\n"


class EventRenderer:
    """One stream's events. Whichever call comes first begins the message."""

    __slots__ = ("_begun", "_blocks", "_head", "_open", "_rendering")

    def __init__(self, rendering: Rendering) -> None:
        self._rendering = rendering
        self._begun = False
        self._blocks = 0
        self._open = ""
        """The kind of the block that goes on: text, thinking or none."""
        self._head = b""
        """What stands before a piece of it."""

    def first(self) -> bytes:
        """The message's beginning, once: how long the question is, nobody knows yet."""
        if self._begun:
            return b""
        self._begun = True
        return event("message_start", {"message": message_head(self._rendering, self._rendering.model)})

    def deltas(self, deltas: Sequence[Delta]) -> bytes:
        frames = [self.first()]
        for delta in deltas:
            if delta.thinking:
                frames += (self._opened("thinking"), self._head, to_json(delta.thinking), _TAIL)
            if delta.signature:
                frames.append(self._signed(delta.signature))
            if delta.content:
                frames += (self._opened("text"), self._head, to_json(delta.content), _TAIL)
            frames += [self._call(call) for call in delta.tool_calls]
        return b"".join(frames)

    def finish(self, answer: TextAnswer) -> bytes:
        """The end of the message, with its reason and the counts."""
        ending = {"stop_reason": stop_reason(answer), "stop_sequence": None}
        return b"".join(
            (
                self.first(),
                self._closed(),
                event("message_delta", {"delta": ending, "usage": usage_body(answer.usage)}),
                event("message_stop", {}),
            )
        )

    def error(self, error: ErrorRecord) -> bytes:
        """An event in place of the message's end."""
        return event("error", error_body(error, self._rendering.request_id))

    def _signed(self, signature: str) -> bytes:
        """The signature of the thinking that goes on, and its end. One that comes after the end, from a run that
        repeats the one before, is left out; one of thinking that is not shown begins the message."""
        if self._open != "thinking" and (self._open or self._blocks):
            return b""
        opening = self._opened("thinking")
        piece = {"type": "signature_delta", "signature": signature}
        return opening + event("content_block_delta", {"index": self._blocks, "delta": piece}) + self._closed()

    def _opened(self, kind: str) -> bytes:
        """What must be said before a piece of this kind of block."""
        if self._open == kind:
            return b""
        frames = self._closed() + self._start(_STARTS[kind])
        self._open = kind
        opening = event("content_block_delta", {"index": self._blocks, "delta": {"type": f"{kind}_delta", kind: ""}})
        self._head = opening.removesuffix(b'""' + _TAIL)
        return frames

    def _closed(self) -> bytes:
        if not self._open:
            return b""
        self._open = ""
        return self._stop()

    def _start(self, block: Body) -> bytes:
        return event("content_block_start", {"index": self._blocks, "content_block": block})

    def _stop(self) -> bytes:
        frame = event("content_block_stop", {"index": self._blocks})
        self._blocks += 1
        return frame

    def _call(self, call: ToolCall) -> bytes:
        # Calls come whole from every backend, so their input is one piece.
        piece = {"type": "input_json_delta", "partial_json": bytes(input_of(call)).decode()}
        return b"".join(
            (
                self._closed(),
                self._start(use_block(call)),
                event("content_block_delta", {"index": self._blocks, "delta": piece}),
                self._stop(),
            )
        )


def event(name: str, body: Body) -> bytes:
    """One event; its name is in the data as well, where most clients look for it."""
    return b"event: " + name.encode() + b"\ndata: " + to_json({"type": name, **body}) + b"\n\n"


PING = event("ping", {})
