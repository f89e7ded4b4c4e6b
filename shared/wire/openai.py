"""OpenAI request bodies: validation, and translation into the canonical request.

What a body may hold and Arriero cannot honour is refused (`n` above 1, token ids, image addresses); what merely has no
effect here (`user`, `store`, `logit_bias`, `service_tier`, ...) is ignored. `keep_alive` and `options` are extensions,
taken from Ollama; `provider` and `private` are our own.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, WithJsonSchema

from shared.errors import BadRequest
from shared.wire.canonical import ChatRequest, CompletionRequest, EmbeddingRequest, Sampling, Think
from shared.wire.openai_fields import (
    MAX_TEXT_CHARS,
    WHOLE,
    Effort,
    KeepAlive,
    ModelName,
    Name,
    OllamaOptions,
    One,
    Penalty,
    Private,
    Provider,
    Seed,
    Share,
    Stops,
    Temperature,
    Text,
    Tokens,
    TopLogprobs,
    Wire,
    reject,
)
from shared.wire.openai_messages import MAX_MESSAGES, MAX_TOOLS, MessageBody, ToolBody, to_messages
from shared.wire.openai_validation import validate as validate

MAX_INPUTS = 2_048
MAX_DIMENSIONS = 65_536

_THINK: dict[str, Think] = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "max",
    "ultra": "max",
    "max": "max",
}


class StreamOptions(Wire):
    include_usage: bool | None = None


class Reasoning(Wire):
    effort: Effort | None = None


class JsonSchemaFormat(Wire):
    name: Name | None = None
    schema_: Annotated[dict[str, Any], Field(alias="schema", description="JSON schema the answer must follow.")]
    strict: bool | None = None


class ResponseFormat(Wire):
    type: Literal["text", "json_object"]


class SchemaResponseFormat(Wire):
    type: Literal["json_schema"]
    json_schema: JsonSchemaFormat


class NamedFunction(Wire):
    name: Annotated[str, Field(min_length=1, max_length=128)]


class NamedToolChoice(Wire):
    type: Literal["function"]
    function: NamedFunction


def _format_tag(value: Any) -> str | None:
    if not isinstance(value, dict):
        return None
    return "~schema" if value.get("type") == "json_schema" else "~plain"


def _choice_tag(value: Any) -> str:
    return "~named" if isinstance(value, dict) else "~mode"


class SamplingBody(Wire):
    """What the chat and the completion body share."""

    model: ModelName
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    max_tokens: Tokens | None = None
    stop: Stops | None = None
    seed: Seed | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    n: One | None = None
    provider: Provider = None
    private: Private = None
    keep_alive: KeepAlive | None = None
    options: OllamaOptions | None = None

    @property
    def streams(self) -> bool:
        return bool(self.stream)

    @property
    def includes_usage(self) -> bool:
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def sampling(self, max_tokens: int | None) -> Sampling:
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=max_tokens,
            # An empty stop string means no stop to the clients that send it; upstream it might end the answer at once.
            stop=[stop for stop in self.stop or () if stop],
            seed=self.seed,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            options=self.options.model_dump(exclude_none=True) if self.options is not None else {},
        )


class ChatCompletionBody(SamplingBody):
    """POST /v1/chat/completions."""

    messages: Annotated[list[MessageBody], Field(fail_fast=True, min_length=1, max_length=MAX_MESSAGES)]
    max_completion_tokens: Tokens | None = Field(None, description="Goes before `max_tokens`.")
    tools: Annotated[list[ToolBody], Field(fail_fast=True, max_length=MAX_TOOLS)] | None = None
    tool_choice: (
        Annotated[
            Annotated[Literal["none", "auto", "required"], Tag("~mode")] | Annotated[NamedToolChoice, Tag("~named")],
            Discriminator(_choice_tag),
        ]
        | None
    ) = Field(
        None,
        description="`none` withholds the tools, a named function offers only that one. `required` counts as `auto`: "
        "Ollama has no way to force a call.",
    )
    response_format: (
        Annotated[
            Annotated[ResponseFormat, Tag("~plain")] | Annotated[SchemaResponseFormat, Tag("~schema")],
            Discriminator(
                _format_tag, custom_error_type="rejected", custom_error_message="must be an object with a `type`"
            ),
        ]
        | None
    ) = None
    logprobs: bool | None = None
    top_logprobs: TopLogprobs | None = None
    reasoning_effort: Effort | None = None
    reasoning: Reasoning | None = None
    functions: None = Field(None, description="Superseded by `tools`.")


def _one_prompt(value: Any) -> Any:
    if isinstance(value, list):
        if value and isinstance(value[0], int | list):
            raise reject("holds token ids, which this gateway cannot turn back into text: send the text itself")
        if len(value) != 1:
            raise reject("must be one text: send a request for each prompt")
        return value[0]
    return value


_TEXT_SCHEMA: dict[str, Any] = {"type": "string", "maxLength": MAX_TEXT_CHARS}


class CompletionBody(SamplingBody):
    """POST /v1/completions."""

    prompt: Annotated[
        Text,
        BeforeValidator(_one_prompt),
        WithJsonSchema(
            {"anyOf": [_TEXT_SCHEMA, {"type": "array", "items": _TEXT_SCHEMA, "minItems": 1, "maxItems": 1}]}
        ),
    ]
    suffix: Text | None = None
    logprobs: TopLogprobs | None = None
    best_of: One | None = None
    echo: Literal[False] | None = None


def _inputs(value: Any) -> Any:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value and isinstance(value[0], int | list):
        raise reject(
            "holds token ids, which this gateway cannot turn back into text: send strings"
            " (langchain-openai: `OpenAIEmbeddings(check_embedding_ctx_length=False)`)"
        )
    return value


_INPUT_SCHEMA: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": MAX_TEXT_CHARS}


class EmbeddingBody(Wire):
    """POST /v1/embeddings."""

    model: ModelName
    input: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=MAX_TEXT_CHARS)]],
        Field(fail_fast=True, min_length=1, max_length=MAX_INPUTS),
        BeforeValidator(_inputs),
        WithJsonSchema(
            {"anyOf": [_INPUT_SCHEMA, {"type": "array", "items": _INPUT_SCHEMA, "minItems": 1, "maxItems": MAX_INPUTS}]}
        ),
    ]
    encoding_format: Literal["float", "base64"] | None = "float"
    dimensions: Annotated[int, Field(ge=1, le=MAX_DIMENSIONS), WHOLE] | None = None
    truncate: bool | None = Field(
        None, description="Cut inputs longer than the model's context (default) or refuse them."
    )
    provider: Provider = None
    private: Private = None
    keep_alive: KeepAlive | None = None

    @property
    def streams(self) -> bool:
        return False


def to_chat(body: ChatCompletionBody) -> ChatRequest:
    """Raises BadRequest when `tool_choice` names a function that is not among the tools."""
    effort = body.reasoning_effort or (body.reasoning.effort if body.reasoning is not None else None)
    top_logprobs = body.top_logprobs or 0
    return ChatRequest(
        model=body.model,
        messages=to_messages(body.messages),
        sampling=body.sampling(body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens),
        tools=_offered_tools(body),
        format=_answer_format(body),
        think=None if effort is None else _THINK[effort],
        logprobs=bool(body.logprobs) or top_logprobs > 0,
        top_logprobs=top_logprobs,
        keep_alive=body.keep_alive,
    )


def _offered_tools(body: ChatCompletionBody) -> list[dict[str, Any]]:
    tools = body.tools or []
    if body.tool_choice == "none":
        return []
    if isinstance(body.tool_choice, NamedToolChoice):
        wanted = body.tool_choice.function.name
        tools = [tool for tool in tools if tool.function.name == wanted]
        if not tools:
            message = f"`tool_choice` names {wanted!a}, which is not among `tools`. Add it there."
            raise BadRequest(message, param="tool_choice")
    return [tool.canonical() for tool in tools]


def _answer_format(body: ChatCompletionBody) -> Literal["json"] | dict[str, Any] | None:
    wanted = body.response_format
    if wanted is None or wanted.type == "text":
        return None
    return wanted.json_schema.schema_ if isinstance(wanted, SchemaResponseFormat) else "json"


def to_completion(body: CompletionBody) -> CompletionRequest:
    return CompletionRequest(
        model=body.model,
        prompt=body.prompt,
        suffix=body.suffix or "",
        sampling=body.sampling(body.max_tokens),
        # 0 asks for the chosen tokens' own probabilities, hence the test for None.
        logprobs=body.logprobs is not None,
        top_logprobs=body.logprobs or 0,
        keep_alive=body.keep_alive,
    )


def to_embedding(body: EmbeddingBody) -> EmbeddingRequest:
    return EmbeddingRequest(
        model=body.model,
        inputs=body.input,
        dimensions=body.dimensions,
        truncate=body.truncate is not False,
        keep_alive=body.keep_alive,
    )
