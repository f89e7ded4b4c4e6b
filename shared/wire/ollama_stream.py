"""Lines of an Ollama stream: newline-delimited JSON, one object a delta.

As in `openai_stream`, what surrounds a piece of text is encoded once per stream.
"""

from __future__ import annotations

from collections.abc import Sequence

from shared.errors import ErrorRecord
from shared.jobs import Kind
from shared.wire.canonical import Delta, TextAnswer
from shared.wire.ollama_render import Rendering, ending, error_body, head, said
from shared.wire.openai_shapes import Body, to_json, token_logprobs


class LineRenderer:
    """One stream's lines."""

    __slots__ = ("_calls", "_head", "_rendering", "_tail", "_text", "_thinking")

    def __init__(self, rendering: Rendering) -> None:
        self._rendering = rendering
        self._calls = 0
        self._head = b'{"model":' + to_json(rendering.model) + b',"created_at":"'
        if rendering.kind is Kind.COMPLETION:
            self._text = b'","response":'
            self._tail = b',"done":false}\n'
        else:
            self._text = b'","message":{"role":"assistant","content":'
            self._tail = b'},"done":false}\n'
        self._thinking = self._text + b'"","thinking":'

    def deltas(self, deltas: Sequence[Delta]) -> bytes:
        """One line for each delta; all bear the time of this call."""
        stamp = self._rendering.stamp()
        opening = self._head + stamp.encode()
        text, tail = opening + self._text, self._tail
        lines: list[bytes] = []
        for delta in deltas:
            if delta.logprobs or delta.tool_calls or (delta.content and delta.thinking):
                lines.append(self._full_line(delta, stamp))
            elif delta.content:
                lines += (text, to_json(delta.content), tail)
            elif delta.thinking:
                lines += (opening, self._thinking, to_json(delta.thinking), tail)
        return b"".join(lines)

    def finish(self, answer: TextAnswer) -> bytes:
        """The last line, which alone says that the answer is whole."""
        return _line(
            {**head(self._rendering, answer), **said(self._rendering.kind, ""), **ending(self._rendering, answer)}
        )

    def error(self, error: ErrorRecord) -> bytes:
        """A line in place of the last one."""
        return _line(error_body(error))

    def _full_line(self, delta: Delta, stamp: str) -> bytes:
        text = said(self._rendering.kind, delta.content, delta.thinking, delta.tool_calls, self._calls)
        self._calls += len(delta.tool_calls)
        line: Body = {"model": self._rendering.model, "created_at": stamp, **text, "done": False}
        if delta.logprobs:
            line["logprobs"] = token_logprobs(delta.logprobs)
        return _line(line)


def _line(body: Body) -> bytes:
    return to_json(body) + b"\n"
