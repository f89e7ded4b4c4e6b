"""Server-sent events of a chat or completion stream, one `data:` frame a delta.

Nearly every frame differs from the one before in a single string, so what surrounds it is encoded once per stream.
"""

from __future__ import annotations

from collections.abc import Sequence

from shared.errors import ErrorRecord
from shared.jobs import Kind
from shared.wire.canonical import Delta, TextAnswer
from shared.wire.openai_shapes import (
    SYSTEM_FINGERPRINT,
    Body,
    Rendering,
    chat_logprobs,
    completion_logprobs,
    error_body,
    finish_reason,
    plain_finish_reason,
    shown_model,
    to_json,
    tool_call_body,
    usage_body,
)

DONE = b"data: [DONE]\n\n"


class StreamRenderer:
    """One stream's frames. Chat frames hold deltas; the first one names the role, whichever call makes it."""

    __slots__ = (
        "_is_chat",
        "_rendering",
        "_role_sent",
        "_tail",
        "_text_head",
        "_text_offset",
        "_thinking_head",
        "_tool_calls",
    )

    def __init__(self, kind: Kind, rendering: Rendering) -> None:
        self._rendering = rendering
        self._is_chat = kind is Kind.CHAT
        self._role_sent = not self._is_chat
        self._tool_calls = 0
        self._text_offset = 0
        opening = b"data: " + to_json(self._envelope())[:-1] + b',"choices":[{"index":0,'
        if self._is_chat:
            self._text_head = opening + b'"delta":{"content":'
            self._thinking_head = opening + b'"delta":{"reasoning":'
            self._tail = b'},"logprobs":null,"finish_reason":null}]}\n\n'
        else:
            self._text_head = opening + b'"text":'
            self._thinking_head = b""
            self._tail = b',"logprobs":null,"finish_reason":null}]}\n\n'

    def first(self) -> bytes:
        """The frame with the role, for a client that should see life before the first token; empty for completions."""
        if self._role_sent:
            return b""
        self._role_sent = True
        return self._frame(self._choice({"role": "assistant", "content": ""}))

    def deltas(self, deltas: Sequence[Delta]) -> bytes:
        """One frame for each delta that says something in this kind of stream."""
        frames: list[bytes] = []
        text_head, tail = self._text_head, self._tail
        for delta in deltas:
            if delta.logprobs or delta.tool_calls or not self._role_sent or (delta.content and delta.thinking):
                frames.append(self._full_frame(delta))
            elif delta.content:
                self._text_offset += len(delta.content)
                frames += (text_head, to_json(delta.content), tail)
            elif delta.thinking and self._is_chat:
                frames += (self._thinking_head, to_json(delta.thinking), tail)
        return b"".join(frames)

    def finish(self, answer: TextAnswer, include_usage: bool = False) -> bytes:
        """The frame with the finish reason, the usage if asked for, and the end mark."""
        reason = finish_reason(answer) if self._is_chat else plain_finish_reason(answer)
        # The first frames were sent before anyone knew who would answer to the end; the last ones say it.
        envelope = {**self._envelope(), "model": shown_model(self._rendering, answer)}
        frames = [self.first(), _data({**envelope, "choices": [self._choice({}, reason=reason)]})]
        if include_usage:
            frames.append(_data({**envelope, "choices": [], "usage": usage_body(answer.usage)}))
        frames.append(DONE)
        return b"".join(frames)

    def error(self, error: ErrorRecord, request_id: str = "") -> bytes:
        """An error frame. No end mark follows: clients take that one for success."""
        return _data(error_body(error, request_id))

    def _full_frame(self, delta: Delta) -> bytes:
        if not self._is_chat:
            if not delta.content and not delta.logprobs:
                return b""
            logprobs = completion_logprobs(delta.logprobs, offset=self._text_offset)
            self._text_offset += len(delta.content)
            return self._frame(self._choice({"text": delta.content}, logprobs=logprobs))
        fields: Body = {}
        if not self._role_sent:
            self._role_sent = True
            fields["role"] = "assistant"
        if delta.thinking:
            fields["reasoning"] = delta.thinking
        if delta.content or not delta.tool_calls:
            fields["content"] = delta.content
        if delta.tool_calls:
            fields["tool_calls"] = [
                {"index": index, **tool_call_body(call)}
                for index, call in enumerate(delta.tool_calls, self._tool_calls)
            ]
            self._tool_calls += len(delta.tool_calls)
        return self._frame(self._choice(fields, logprobs=chat_logprobs(delta.logprobs)))

    def _choice(self, fields: Body, *, logprobs: Body | None = None, reason: str | None = None) -> Body:
        said = {"delta": fields} if self._is_chat else {"text": "", **fields}
        return {"index": 0, **said, "logprobs": logprobs, "finish_reason": reason}

    def _frame(self, choice: Body) -> bytes:
        return _data({**self._envelope(), "choices": [choice]})

    def _envelope(self) -> Body:
        return {
            "id": self._rendering.id,
            "object": "chat.completion.chunk" if self._is_chat else "text_completion",
            "created": self._rendering.created,
            "model": self._rendering.model,
            "system_fingerprint": SYSTEM_FINGERPRINT,
        }


def _data(body: Body) -> bytes:
    return b"data: " + to_json(body) + b"\n\n"
