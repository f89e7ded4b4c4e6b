"""A canonical conversation as the Messages API wants it: turns that alternate, tool results in the user's. Pure.

Thinking of earlier turns is left out: the API takes it back only with its signature, which belongs to one model of one
account, and a conversation here may have been held with any. The exception is what led to the tool calls from whose
answers the model now goes on: where that is signed it goes along, since without it the model may not think on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import msgspec

from shared.errors import BackendRejected
from shared.wire.canonical import Message, ToolCall

Block = dict[str, Any]

_IMAGE_TYPES = (("iVBORw0KGgo", "image/png"), ("/9j/", "image/jpeg"), ("R0lGOD", "image/gif"), ("UklGR", "image/webp"))
"""How the first bytes of each kind of image look in base64."""
_NOT_IN_ID = re.compile(r"[^A-Za-z0-9_-]")
_OBJECT = msgspec.json.Decoder(dict[str, Any])


def system_text(messages: list[Message]) -> str:
    """All system messages, wherever they stand: the API has one place for them."""
    return "\n\n".join(message.content for message in messages if message.role == "system" and message.content.strip())


def calling_turn(messages: list[Message]) -> Message | None:
    """The latest turn of the model, if it called tools, whose answers the model now goes on from."""
    latest = next((message for message in reversed(messages) if message.role == "assistant"), None)
    return latest if latest is not None and latest.tool_calls else None


def turns(messages: list[Message], *, thinks: bool = False) -> list[Block]:
    """The turns, neighbours of one role made one. `thinks`: the model is asked to. Raises BackendRejected for what the
    API has no place for."""
    book = _Book()
    thought_of = calling_turn(messages) if thinks else None
    for index, message in enumerate(messages):
        if message.images and message.role in ("system", "assistant"):
            raise BackendRejected(
                f"messages[{index}]: only a user's message or a tool's answer may hold images here.",
                param=f"messages[{index}].images",
            )
        match message.role:
            case "user":
                book.add("user", [*_images(message, index), *_text(message.content)])
            case "assistant":
                calls = [book.call(call, index, at) for at, call in enumerate(message.tool_calls)]
                thinking = _thinking(message) if message is thought_of else []
                book.add("assistant", [*thinking, *_text(message.content), *calls])
            case "tool":
                book.answer(message, index)
    if not book.turns:
        raise BackendRejected("The conversation holds no text. Send at least one message.", param="messages")
    return book.turns


@dataclass(slots=True, frozen=True)
class _Call:
    """A tool call and the id it was sent under."""

    sent: str
    given: ToolCall

    def is_answered_by(self, message: Message) -> bool:
        """Told by the id, else by the name; an answer with neither is for whichever call comes first."""
        if message.tool_call_id:
            return self.given.id == message.tool_call_id
        return not message.tool_name or self.given.name == message.tool_name


class _Book:
    """The turns so far, and which tool calls still wait for their answer."""

    def __init__(self) -> None:
        self.turns: list[Block] = []
        self._open: list[_Call] = []
        """The calls that have no answer yet."""

    def add(self, role: str, blocks: list[Block]) -> None:
        if not blocks:
            return
        if self.turns and self.turns[-1]["role"] == role:
            self.turns[-1]["content"] += blocks
        else:
            self.turns.append({"role": role, "content": blocks})

    def call(self, call: ToolCall, index: int, at: int) -> Block:
        """Calls need an id that is unique in the conversation; Ollama's clients send none."""
        sent = _NOT_IN_ID.sub("_", call.id) or f"call_{index}_{at}"
        self._open.append(_Call(sent, call))
        return {"type": "tool_use", "id": sent, "name": call.name, "input": _input(call, index, at)}

    def answer(self, message: Message, index: int) -> None:
        """A tool's answer goes to the user's turn, before anything else in it."""
        content = [*_images(message, index), *_text(message.content)]
        result: Block = {"type": "tool_result", "tool_use_id": self._settle(message, index)}
        if content:
            result["content"] = content
        last = self.turns[-1] if self.turns else {}
        if last.get("role") != "user":
            self.turns.append({"role": "user", "content": [result]})
            return
        blocks: list[Block] = last["content"]
        results = sum(block["type"] == "tool_result" for block in blocks)
        blocks.insert(results, result)

    def _settle(self, message: Message, index: int) -> str:
        """The id of the first open call that this answers."""
        found = next((call for call in self._open if call.is_answered_by(message)), None)
        if found is None:
            raise BackendRejected(
                f"messages[{index}] answers a tool call that no message before it makes. Send the assistant's message "
                "with the call as well.",
                param=f"messages[{index}].tool_call_id",
            )
        self._open.remove(found)
        return found.sent


def _text(text: str) -> list[Block]:
    # The API refuses text of nothing but white space.
    return [{"type": "text", "text": text}] if text.strip() else []


def _thinking(message: Message) -> list[Block]:
    signed = {"type": "thinking", "thinking": message.thinking, "signature": message.signature}
    return [signed] if message.signature else []


def _images(message: Message, index: int) -> list[Block]:
    return [_image(data, f"messages[{index}].images[{at}]") for at, data in enumerate(message.images)]


def _image(data: str, field: str) -> Block:
    for head, media_type in _IMAGE_TYPES:
        if data.startswith(head):
            return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}
    raise BackendRejected(f"{field} must be a PNG, JPEG, GIF or WebP image.", param=field)


def _input(call: ToolCall, index: int, at: int) -> dict[str, Any]:
    try:
        return _OBJECT.decode(call.arguments or "{}")
    except (ValueError, RecursionError):
        field = f"messages[{index}].tool_calls[{at}].function.arguments"
        raise BackendRejected(f"{field} must be the JSON text of an object.", param=field) from None
