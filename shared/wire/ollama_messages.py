"""Messages and tools of Ollama's chat body, and their canonical forms."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from shared.wire.canonical import Message, ToolCall
from shared.wire.ollama_fields import Images
from shared.wire.openai_fields import Name, Text, Wire, reject
from shared.wire.openai_messages import MAX_TOOLS, ToolBody
from shared.wire.openai_shapes import to_json

ROLES = ("system", "user", "assistant", "tool")


def _role(value: Any) -> Any:
    role = value.lower() if isinstance(value, str) else value
    if role not in ROLES:
        raise reject(f"must be one of {', '.join(ROLES)}")
    return role


class OllamaFunction(Wire):
    name: Annotated[str, Field(min_length=1, max_length=256)]
    arguments: dict[str, Any] | None = None


class OllamaCall(Wire):
    """A tool call of an earlier turn. Its id may be missing: ollama-python does not send it back."""

    id: Name | None = None
    function: OllamaFunction


class OllamaMessage(Wire):
    role: Annotated[
        Literal["system", "user", "assistant", "tool"], BeforeValidator(_role), WithJsonSchema({"enum": list(ROLES)})
    ]
    content: Text | None = None
    thinking: Text | None = None
    images: Images | None = None
    tool_calls: Annotated[list[OllamaCall], Field(fail_fast=True, max_length=MAX_TOOLS)] | None = None
    tool_call_id: Name | None = None
    tool_name: Name | None = None


class OllamaTool(ToolBody):
    type: Literal["function"] = "function"


def to_messages(bodies: list[OllamaMessage]) -> list[Message]:
    """Canonical turns, in order."""
    return [
        Message(
            role=body.role,
            content=body.content or "",
            thinking=body.thinking or "",
            images=body.images or [],
            tool_calls=[_call(call) for call in body.tool_calls or ()],
            tool_call_id=body.tool_call_id or "",
            tool_name=body.tool_name or "",
        )
        for body in bodies
    ]


def _call(call: OllamaCall) -> ToolCall:
    arguments = to_json(call.function.arguments or {}).decode()
    return ToolCall(id=call.id or "", name=call.function.name, arguments=arguments)
