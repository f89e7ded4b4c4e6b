"""What Anthropic's face answers, as models that only describe: see `gateway.openapi_answers`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from gateway.openapi_answers import Answer, Count


class AnthropicErrorDetail(Answer):
    type: Annotated[str, Field(description="Anthropic's word, such as `rate_limit_error`.")]
    message: str
    code: Annotated[str, Field(description="Arriero's word, such as `queue_full`.")]


class AnthropicError(Answer):
    """In a stream: the data of its `error` event."""

    type: Literal["error"]
    error: AnthropicErrorDetail
    request_id: str | None


class AnthropicUsage(Answer):
    input_tokens: Count
    output_tokens: Count


class AnthropicAnswer(Answer):
    """A message. A stream tells it in the API's own events, from `message_start` to `message_stop`."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[dict[str, Any]] = Field(
        description="Blocks of type `thinking`, `text` and `tool_use`, in this order."
    )
    stop_reason: Literal["end_turn", "max_tokens", "tool_use", "refusal"]
    stop_sequence: None
    usage: AnthropicUsage


ANTHROPIC_ANSWERS: tuple[type[Answer], ...] = (AnthropicError, AnthropicAnswer)
