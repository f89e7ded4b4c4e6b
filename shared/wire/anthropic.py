"""The body of Anthropic's Messages API: validation, and translation into the canonical request.

What a body may hold and Arriero cannot honour is refused by its name (documents, image addresses, the service's own
tools); what merely has no effect here (`metadata`, `cache_control`, `service_tier`, ...) is ignored.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from shared.errors import BadRequest
from shared.wire.anthropic_messages import AnthropicMessage, SystemText, Tools, to_messages
from shared.wire.canonical import ChatRequest, Sampling, Think
from shared.wire.openai_fields import (
    MAX_CONTEXT_TOKENS,
    WHOLE,
    ModelName,
    Share,
    Stops,
    Tokens,
    Wire,
)
from shared.wire.openai_messages import MAX_MESSAGES

_LEVELS: dict[str, Think] = {"low": "low", "medium": "medium", "high": "high", "xhigh": "max", "max": "max"}


class AnthropicThinking(Wire):
    type: Literal["enabled", "disabled", "adaptive", "between_tools"] = Field(
        description="`adaptive` leaves it to the model, as does no `thinking` at all."
    )
    budget_tokens: Annotated[int, Field(ge=0, le=MAX_CONTEXT_TOKENS), WHOLE] | None = Field(
        None, description="Taken for compatibility: only some models can be given a number."
    )


class AnthropicToolMode(Wire):
    type: Literal["auto", "any", "none"]


class AnthropicNamedTool(Wire):
    type: Literal["tool"]
    name: Annotated[str, Field(min_length=1, max_length=128)]


class AnthropicFormat(Wire):
    type: Literal["json_schema"]
    schema_: Annotated[dict[str, Any], Field(alias="schema", description="JSON schema the answer must follow.")]


class AnthropicOutput(Wire):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = Field(
        None, description="How much to think, where `thinking` is enabled."
    )
    format: AnthropicFormat | None = None


def _choice_tag(value: Any) -> str:
    return "~named" if isinstance(value, dict) and value.get("type") == "tool" else "~mode"


class AnthropicMessagesBody(Wire):
    """POST /v1/messages."""

    model: ModelName
    max_tokens: Tokens
    messages: Annotated[list[AnthropicMessage], Field(fail_fast=True, min_length=1, max_length=MAX_MESSAGES)]
    system: SystemText | None = None
    stream: bool | None = False
    temperature: Share | None = None
    top_p: Share | None = None
    top_k: Annotated[int, Field(ge=0, le=MAX_CONTEXT_TOKENS), WHOLE] | None = None
    stop_sequences: Stops | None = None
    tools: Tools | None = None
    tool_choice: (
        Annotated[
            Annotated[AnthropicToolMode, Tag("~mode")] | Annotated[AnthropicNamedTool, Tag("~named")],
            Discriminator(_choice_tag),
        ]
        | None
    ) = Field(
        None,
        description="`none` withholds the tools, `tool` offers only the one it names. `any` counts as `auto`, since "
        "not every model can be made to call a tool.",
    )
    thinking: AnthropicThinking | None = None
    output_config: AnthropicOutput | None = None

    @property
    def streams(self) -> bool:
        return bool(self.stream)


def to_chat(body: AnthropicMessagesBody) -> ChatRequest:
    """Raises BadRequest when `tool_choice` names a tool that is not among the tools."""
    output = body.output_config
    return ChatRequest(
        model=body.model,
        messages=to_messages(body.system, body.messages),
        sampling=Sampling(
            temperature=body.temperature,
            top_p=body.top_p,
            max_tokens=body.max_tokens,
            stop=[stop for stop in body.stop_sequences or () if stop],
            options={"top_k": body.top_k} if body.top_k else {},
        ),
        tools=_offered_tools(body),
        format=output.format.schema_ if output is not None and output.format is not None else None,
        think=_think(body),
    )


def _offered_tools(body: AnthropicMessagesBody) -> list[dict[str, Any]]:
    tools = body.tools or []
    choice = body.tool_choice
    if isinstance(choice, AnthropicNamedTool):
        tools = [tool for tool in tools if tool.name == choice.name]
        if not tools:
            message = f"`tool_choice` names {choice.name!a}, which is not among `tools`. Add it there."
            raise BadRequest(message, param="tool_choice")
    elif choice is not None and choice.type == "none":
        return []
    return [tool.canonical() for tool in tools]


def _think(body: AnthropicMessagesBody) -> Think:
    wanted = body.thinking.type if body.thinking is not None else "adaptive"
    if wanted == "adaptive":
        # Many clients always send it; a model that cannot think must not fail for that.
        return None
    if wanted != "enabled":
        return False
    effort = body.output_config.effort if body.output_config is not None else None
    return True if effort is None else _LEVELS[effort]
