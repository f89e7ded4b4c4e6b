"""Canonical turns as messages that a server of OpenAI's dialect takes. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from shared.wire.canonical import Message
from shared.wire.openai_shapes import Body

MEDIA_TYPES = {"iVBOR": "image/png", "/9j/": "image/jpeg", "UklGR": "image/webp", "R0lGOD": "image/gif"}
"""How an image's base64 begins -> what it is."""


def data_uri(image: str) -> str:
    """An image's base64 with its kind before it; one of no known kind counts as png."""
    kind = next((kind for start, kind in MEDIA_TYPES.items() if image.startswith(start)), "image/png")
    return f"data:{kind};base64,{image}"


def message_bodies(messages: Sequence[Message], *, thinking_field: str = "") -> list[Body]:
    """The conversation. `thinking_field`: the name under which earlier thinking goes along; empty: it stays out.

    Every tool call has an id here and every result names its call, as this dialect demands and Ollama's does not: a
    result without one answers the oldest open call of its tool. Images that did not come from the user follow in a
    message of the user's, the only place where this dialect has them.
    """
    bodies: list[Body] = []
    open_calls: list[tuple[str, str]] = []
    images: list[str] = []
    for at, message in enumerate(messages):
        if images and message.role != "tool":
            bodies.append(_user("", images))
            images = []
        if message.role == "user":
            bodies.append(_user(message.content, message.images))
            continue
        images += message.images
        if message.role == "assistant":
            body, open_calls = _assistant(message, at, thinking_field)
            bodies.append(body)
        elif message.role == "tool":
            bodies.append({"role": "tool", "tool_call_id": _answered(message, open_calls), "content": message.content})
        else:
            bodies.append({"role": message.role, "content": message.content})
    return [*bodies, _user("", images)] if images else bodies


def _user(text: str, images: Sequence[str]) -> Body:
    if not images:
        return {"role": "user", "content": text}
    parts: list[Body] = [{"type": "text", "text": text}] if text else []
    parts += [{"type": "image_url", "image_url": {"url": data_uri(image)}} for image in images]
    return {"role": "user", "content": parts}


def _assistant(message: Message, at: int, thinking_field: str) -> tuple[Body, list[tuple[str, str]]]:
    """The message, and (id, tool) of the calls in it."""
    # Beside calls, some servers refuse an empty text, and others null in its place.
    content = {"content": message.content} if message.content or not message.tool_calls else {}
    body: Body = {"role": "assistant", **content}
    if message.thinking and thinking_field:
        body[thinking_field] = message.thinking
    calls = [(call.id or f"call_{at}_{place}", call) for place, call in enumerate(message.tool_calls)]
    if calls:
        body["tool_calls"] = [
            {"id": call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments or "{}"}}
            for call_id, call in calls
        ]
    return body, [(call_id, call.name) for call_id, call in calls]


def _answered(message: Message, open_calls: list[tuple[str, str]]) -> str:
    """The id of the call that a tool's result answers, which is then no longer open."""
    call_id = message.tool_call_id
    if not call_id:
        by_name = [known for known, tool in open_calls if tool == message.tool_name]
        call_id = next(iter(by_name or [known for known, _ in open_calls]), "call_unknown")
    open_calls[:] = [(known, tool) for known, tool in open_calls if known != call_id]
    return call_id
