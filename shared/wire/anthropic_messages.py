"""Messages, blocks and tools of a Messages API body, and their canonical forms."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag

from shared.wire.canonical import Message, ToolCall
from shared.wire.openai_fields import BASE64_PATTERN, Text, Wire, checked_base64, reject
from shared.wire.openai_messages import MAX_TOOLS
from shared.wire.openai_shapes import to_json

ROLES = ("user", "assistant", "system")
# Union members carry tags that begin with "~", so that `validate` can tell them from the caller's own field names.

FAILED = "The tool failed: "
"""Before the answer of a tool that reports an error: other dialects have no sign for that."""


class TextBlock(Wire):
    type: Literal["text"]
    text: Text


def _inline(value: Any) -> Any:
    if isinstance(value, dict) and value.get("type") in ("url", "file"):
        raise reject("addresses and files are not fetched: send the image itself, with `type` base64")
    return value


class ImageSource(Wire):
    type: Literal["base64"]
    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"]
    data: Annotated[
        str, Field(json_schema_extra={"pattern": f"^{BASE64_PATTERN}$"}, min_length=4), AfterValidator(checked_base64)
    ]


class ImageBlock(Wire):
    type: Literal["image"]
    source: Annotated[ImageSource, BeforeValidator(_inline)]


class ThinkingBlock(Wire):
    """Thinking of an earlier turn. Its signature goes back to the service that gave it; others need none."""

    type: Literal["thinking"]
    thinking: Text
    signature: Text = ""


class RedactedThinkingBlock(Wire):
    """Thinking that only its own service could read; it is left out."""

    type: Literal["redacted_thinking"]
    data: Text = ""


class ToolUseBlock(Wire):
    """A tool call of an earlier turn."""

    type: Literal["tool_use"]
    id: Annotated[str, Field(min_length=1, max_length=256)]
    name: Annotated[str, Field(min_length=1, max_length=256)]
    input: dict[str, Any]


_FLAT_TAGS = {"text": "~text", "image": "~image"}
_BLOCK_TAGS = {
    **_FLAT_TAGS,
    "thinking": "~thinking",
    "redacted_thinking": "~redacted",
    "tool_use": "~use",
    "tool_result": "~result",
}


def _kind(value: Any) -> str | None:
    kind = value.get("type") if isinstance(value, dict) else None
    return kind if isinstance(kind, str) else None


def _flat_tag(value: Any) -> str | None:
    return _FLAT_TAGS.get(_kind(value) or "")


def _block_tag(value: Any) -> str | None:
    return _BLOCK_TAGS.get(_kind(value) or "")


def _content_tag(value: Any) -> str | None:
    return "~string" if isinstance(value, str) else "~blocks" if isinstance(value, list) else None


_NO_CONTENT = "must be a string or a list of content blocks"

FlatBlock = Annotated[
    Annotated[TextBlock, Tag("~text")] | Annotated[ImageBlock, Tag("~image")],
    Discriminator(
        _flat_tag, custom_error_type="rejected", custom_error_message="must be a block of type `text` or `image`"
    ),
]
FlatContent = Annotated[
    Annotated[Text, Tag("~string")] | Annotated[list[FlatBlock], Field(fail_fast=True), Tag("~blocks")],
    Discriminator(_content_tag, custom_error_type="rejected", custom_error_message=_NO_CONTENT),
]


class ToolResultBlock(Wire):
    type: Literal["tool_result"]
    tool_use_id: Annotated[str, Field(min_length=1, max_length=256)]
    content: FlatContent | None = None
    is_error: bool | None = None


Block = Annotated[
    Annotated[TextBlock, Tag("~text")]
    | Annotated[ImageBlock, Tag("~image")]
    | Annotated[ThinkingBlock, Tag("~thinking")]
    | Annotated[RedactedThinkingBlock, Tag("~redacted")]
    | Annotated[ToolUseBlock, Tag("~use")]
    | Annotated[ToolResultBlock, Tag("~result")],
    Discriminator(
        _block_tag,
        custom_error_type="rejected",
        custom_error_message="must be a block of type `text`, `image`, `thinking`, `tool_use` or `tool_result`; "
        "documents, citations and the tools that a server runs are not supported",
    ),
]
Content = Annotated[
    Annotated[Text, Tag("~string")] | Annotated[list[Block], Field(fail_fast=True), Tag("~blocks")],
    Discriminator(_content_tag, custom_error_type="rejected", custom_error_message=_NO_CONTENT),
]
SystemText = Annotated[
    Annotated[Text, Tag("~string")] | Annotated[list[TextBlock], Field(fail_fast=True), Tag("~blocks")],
    Discriminator(
        _content_tag, custom_error_type="rejected", custom_error_message="must be a string or a list of text blocks"
    ),
]


def _role(value: Any) -> Any:
    if value not in ROLES:
        raise reject(f"must be one of {', '.join(ROLES)}")
    return value


class AnthropicMessage(Wire):
    role: Annotated[Literal["user", "assistant", "system"], BeforeValidator(_role)]
    content: Content


def _own_tool(value: Any) -> Any:
    if value is not None and value != "custom":
        raise reject("must be `custom` or left out: tools that the service itself runs do not exist here")
    return value


class AnthropicTool(Wire):
    type: Annotated[Literal["custom"], BeforeValidator(_own_tool)] | None = None
    name: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_-]+$")]
    description: Text | None = None
    input_schema: dict[str, Any] = Field(description="JSON schema of the input.")

    def canonical(self) -> dict[str, Any]:
        """OpenAI's shape."""
        function: dict[str, Any] = {"name": self.name, "parameters": self.input_schema}
        if self.description:
            function["description"] = self.description
        return {"type": "function", "function": function}


Tools = Annotated[list[AnthropicTool], Field(fail_fast=True, max_length=MAX_TOOLS)]


def to_messages(system: str | list[TextBlock] | None, bodies: list[AnthropicMessage]) -> list[Message]:
    """Canonical turns: the system text first, the tool results of a user's turn before what the user says in it."""
    messages: list[Message] = []
    if text := _joined(system):
        messages.append(Message(role="system", content=text))
    called: dict[str, str] = {}
    for body in bodies:
        blocks = [TextBlock(type="text", text=body.content)] if isinstance(body.content, str) else body.content
        results = [_result(block, called) for block in blocks if isinstance(block, ToolResultBlock)]
        calls = [_call(block) for block in blocks if isinstance(block, ToolUseBlock)]
        called.update((call.id, call.name) for call in calls)
        thoughts = [block for block in blocks if isinstance(block, ThinkingBlock | RedactedThinkingBlock)]
        said = Message(
            role=body.role,
            content="\n".join(block.text for block in blocks if isinstance(block, TextBlock)),
            thinking="\n".join(block.thinking for block in thoughts if isinstance(block, ThinkingBlock)),
            signature=_signature(thoughts),
            images=[block.source.data for block in blocks if isinstance(block, ImageBlock)],
            tool_calls=calls,
        )
        messages += results
        if not results or said.content or said.images or said.tool_calls:
            messages.append(said)
    return messages


def _signature(thoughts: list[ThinkingBlock | RedactedThinkingBlock]) -> str:
    """That of the only piece of thinking: of several none has that of the whole."""
    match thoughts:
        case [ThinkingBlock(signature=signature)]:
            return signature
    return ""


def _joined(content: str | list[TextBlock] | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(block.text for block in content)


def _result(block: ToolResultBlock, called: dict[str, str]) -> Message:
    content = block.content or ""
    flat = [TextBlock(type="text", text=content)] if isinstance(content, str) else content
    text = "\n".join(part.text for part in flat if isinstance(part, TextBlock))
    return Message(
        role="tool",
        content=FAILED + text if block.is_error else text,
        images=[part.source.data for part in flat if isinstance(part, ImageBlock)],
        tool_call_id=block.tool_use_id,
        tool_name=called.get(block.tool_use_id, ""),
    )


def _call(block: ToolUseBlock) -> ToolCall:
    return ToolCall(id=block.id, name=block.name, arguments=to_json(block.input).decode())
