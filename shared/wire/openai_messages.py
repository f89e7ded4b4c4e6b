"""Messages, content parts and tools of a chat request, and their canonical forms."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag

from shared.wire.canonical import Message, ToolCall
from shared.wire.openai_fields import BASE64_PATTERN, Name, Text, Wire, checked_base64, reject

MAX_MESSAGES = 10_000
MAX_PARTS = 1_000
MAX_TOOLS = 512
IMAGE_PATTERN = rf"^data:image/(jpeg|jpg|png|webp);base64,{BASE64_PATTERN}$"
_IMAGE_HEADS = tuple(f"data:image/{kind};base64," for kind in ("jpeg", "jpg", "png", "webp"))

# Union members carry tags that begin with "~", so that `validate` can tell them from the caller's own field names.


def _image(url: str) -> str:
    if url[:5].lower() in ("http:", "https"):
        raise reject("addresses are not fetched: send the image itself as `data:image/png;base64,...`")
    if not url.startswith(_IMAGE_HEADS):
        raise reject("must be a `data:image/jpeg;base64,...` URI; jpeg, png and webp are accepted")
    return checked_base64(url[url.index(",") + 1 :])


def _as_image_object(value: Any) -> Any:
    return {"url": value} if isinstance(value, str) else value


class ImageUrl(Wire):
    """An image as a data URI; after validation `url` is the bare base64."""

    url: Annotated[str, Field(json_schema_extra={"pattern": IMAGE_PATTERN}), AfterValidator(_image)]
    detail: str | None = None


class TextPart(Wire):
    type: Literal["text"]
    text: Text


class RefusalPart(Wire):
    type: Literal["refusal"]
    refusal: Text


class ImagePart(Wire):
    type: Literal["image_url"]
    image_url: Annotated[ImageUrl, BeforeValidator(_as_image_object)]


_PART_TAGS = {"text": "~text", "image_url": "~image", "refusal": "~refusal"}


def _part_tag(value: Any) -> str | None:
    kind = value.get("type") if isinstance(value, dict) else None
    return _PART_TAGS.get(kind) if isinstance(kind, str) else None


Part = Annotated[
    Annotated[TextPart, Tag("~text")] | Annotated[ImagePart, Tag("~image")] | Annotated[RefusalPart, Tag("~refusal")],
    Discriminator(
        _part_tag,
        custom_error_type="rejected",
        custom_error_message="must be a part of type `text` or `image_url`; audio, video and files are not supported",
    ),
]


def _content_tag(value: Any) -> str | None:
    return "~string" if isinstance(value, str) else "~parts" if isinstance(value, list) else None


Content = Annotated[
    Annotated[Text, Tag("~string")] | Annotated[list[Part], Field(fail_fast=True, max_length=MAX_PARTS), Tag("~parts")],
    Discriminator(
        _content_tag, custom_error_type="rejected", custom_error_message="must be a string or a list of content parts"
    ),
]


def _arguments(text: str) -> str:
    if not text.strip():
        return "{}"
    try:
        known = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        known = None
    if not isinstance(known, dict):
        raise reject("must be the JSON text of an object, such as `{}`")
    return text


class CalledFunction(Wire):
    name: Annotated[str, Field(min_length=1, max_length=256)]
    arguments: Annotated[Text, AfterValidator(_arguments), Field(description="JSON text of an object.")] = "{}"


class CallBody(Wire):
    """A tool call of an earlier turn."""

    id: Name = ""
    type: Literal["function"] = "function"
    function: CalledFunction


class AssistantMessage(Wire):
    role: Literal["assistant"]
    content: Content | None = None
    reasoning: Text | None = None
    reasoning_content: Text | None = Field(None, description="Another name for `reasoning`.")
    refusal: Text | None = None
    name: Name | None = None
    tool_calls: Annotated[list[CallBody], Field(fail_fast=True, max_length=MAX_TOOLS)] | None = None
    function_call: CalledFunction | None = Field(None, description="Older form of `tool_calls`.")


class SpokenMessage(Wire):
    role: Literal["system", "developer", "user", "tool", "function"]
    content: Content
    name: Name | None = None
    tool_call_id: Name | None = None


def _message_tag(value: Any) -> str | None:
    if not isinstance(value, dict):
        return None
    return "~assistant" if value.get("role") == "assistant" else "~spoken"


MessageBody = Annotated[
    Annotated[AssistantMessage, Tag("~assistant")] | Annotated[SpokenMessage, Tag("~spoken")],
    Discriminator(
        _message_tag, custom_error_type="rejected", custom_error_message="must be an object with role and content"
    ),
]


class FunctionBody(Wire):
    name: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_.:/-]+$")]
    description: Text | None = None
    parameters: dict[str, Any] | None = Field(None, description="JSON schema of the arguments.")
    strict: bool | None = None


class ToolBody(Wire):
    type: Literal["function"]
    function: FunctionBody

    def canonical(self) -> dict[str, Any]:
        """OpenAI's own shape. A function without parameters takes none, which some servers must be told."""
        function: dict[str, Any] = {
            "name": self.function.name,
            "parameters": self.function.parameters or {"type": "object", "properties": {}},
        }
        if self.function.description:
            function["description"] = self.function.description
        return {"type": "function", "function": function}


def to_messages(bodies: list[AssistantMessage | SpokenMessage]) -> list[Message]:
    """Canonical turns. A tool's answer gets the name of the call it answers, as some templates print it."""
    called: dict[str, str] = {}
    messages: list[Message] = []
    for body in bodies:
        text, images = _flatten(body.content)
        if isinstance(body, AssistantMessage):
            calls = [_call(call.id, call.function) for call in body.tool_calls or ()]
            if body.function_call is not None:
                calls.append(_call("", body.function_call))
            called.update((call.id, call.name) for call in calls if call.id)
            messages.append(
                Message(
                    role="assistant",
                    content=text or body.refusal or "",
                    thinking=body.reasoning or body.reasoning_content or "",
                    images=images,
                    tool_calls=calls,
                )
            )
        elif body.role == "tool" or body.role == "function":
            call_id = body.tool_call_id or ""
            messages.append(
                Message(
                    role="tool",
                    content=text,
                    images=images,
                    tool_call_id=call_id,
                    tool_name=body.name or called.get(call_id, ""),
                )
            )
        else:
            role: Literal["system", "user"] = "user" if body.role == "user" else "system"
            messages.append(Message(role=role, content=text, images=images))
    return messages


def _call(call_id: str, function: CalledFunction) -> ToolCall:
    return ToolCall(id=call_id, name=function.name, arguments=function.arguments)


def _flatten(content: str | list[TextPart | ImagePart | RefusalPart] | None) -> tuple[str, list[str]]:
    if content is None or isinstance(content, str):
        return content or "", []
    texts: list[str] = []
    images: list[str] = []
    for part in content:
        if isinstance(part, ImagePart):
            images.append(part.image_url.url)
        else:
            texts.append(part.text if isinstance(part, TextPart) else part.refusal)
    # A line break keeps the last word of one part and the first of the next apart.
    return "\n".join(texts), images
