"""The plain form of a chat: the body that most clients send, read from its bytes in one step.

A `PlainChat` holds only fields that need no more than a type and a range. A body that fits means here what it means to
`ChatCompletionBody`, which knows every form of every field; of one that does not fit nothing is said: it is read again
in full, and only that reading explains what is wrong.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from shared.wire.canonical import ChatRequest, Message, Sampling
from shared.wire.openai_fields import MAX_CONTEXT_TOKENS, MAX_TEXT_CHARS, MODEL_NAME_PATTERN
from shared.wire.openai_messages import MAX_MESSAGES

Text = Annotated[str, Meta(max_length=MAX_TEXT_CHARS)]
Tokens = Annotated[int, Meta(ge=1, le=MAX_CONTEXT_TOKENS)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]

# `$` would let a line break follow.
_WHOLE_MODEL_NAME = MODEL_NAME_PATTERN.removesuffix("$") + r"\Z"
_NUL = b"\\u0000"

P = TypeVar("P", bound=msgspec.Struct)


class PlainMessage(msgspec.Struct, forbid_unknown_fields=True):
    role: Literal["system", "user", "assistant"]
    content: Text


class PlainStreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    include_usage: bool | None = None


class PlainChat(msgspec.Struct, forbid_unknown_fields=True):
    """A checked body, as `ChatCompletionBody` is one."""

    model: Annotated[str, Meta(min_length=1, max_length=256, pattern=_WHOLE_MODEL_NAME)]
    messages: Annotated[list[PlainMessage], Meta(min_length=1, max_length=MAX_MESSAGES)]
    stream: bool | None = False
    stream_options: PlainStreamOptions | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None

    @property
    def streams(self) -> bool:
        return bool(self.stream)

    @property
    def includes_usage(self) -> bool:
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def to_canonical(self) -> ChatRequest:
        sampling = Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens,
            seed=self.seed,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
        )
        messages = [Message(role=each.role, content=each.content) for each in self.messages]
        return ChatRequest(model=self.model, messages=messages, sampling=sampling)


def read_plain(decoder: msgspec.json.Decoder[P], body: bytes) -> P | None:
    """The body in its plain form; None when it has another, or a fault."""
    # `parse_json` refuses this character; the other things it looks for do not fit the structs.
    if _NUL in body:
        return None
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
