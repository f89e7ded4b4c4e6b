"""Ollama request bodies: validation, and translation into the canonical request.

What a body may hold and Arriero cannot honour is refused by its name (`context`, `template`, `shift`). `keep_alive` is
taken and not followed: how long models stay in memory is for the model manager to decide.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from shared.errors import BadRequest
from shared.wire.canonical import ChatRequest, CompletionRequest, EmbeddingRequest, Sampling
from shared.wire.ollama_fields import Format, Images, KeepAlive, ThinkField, as_texts, is_zero, nothing_but
from shared.wire.ollama_messages import OllamaMessage, OllamaTool, to_messages
from shared.wire.openai import MAX_DIMENSIONS, MAX_INPUTS
from shared.wire.openai_fields import MAX_TEXT_CHARS, WHOLE, ModelName, OllamaOptions, Text, TopLogprobs, Wire
from shared.wire.openai_messages import MAX_MESSAGES, MAX_TOOLS


class OllamaBody(Wire):
    """What every inference body has."""

    model: ModelName
    keep_alive: KeepAlive | None = None
    options: OllamaOptions | None = None

    @property
    def streams(self) -> bool:
        return False

    @property
    def unloads(self) -> bool:
        """Whether it says nothing but that the model should leave memory."""
        return False


class OllamaTextBody(OllamaBody):
    """What the chat and the generate body share."""

    stream: bool | None = Field(None, description="Default: what OLLAMA_STREAMING says, true unless set.")
    format: Format | None = None
    think: ThinkField | None = None
    truncate: bool | None = Field(None, description="Shorten a conversation that is too long (default) or refuse it.")
    shift: (
        Annotated[
            Literal[True],
            BeforeValidator(nothing_but(True, "must be true: `false` would make the server load the model anew")),
        ]
        | None
    ) = None
    logprobs: bool | None = None
    top_logprobs: TopLogprobs | None = None

    @property
    @abstractmethod
    def only_loads(self) -> bool:
        """Whether there is nothing to answer: to Ollama, an order to bring the model into memory."""

    @property
    def streams(self) -> bool:
        return bool(self.stream) and not self.only_loads

    @property
    def unloads(self) -> bool:
        return self.only_loads and is_zero(self.keep_alive)


class OllamaChatBody(OllamaTextBody):
    """POST /api/chat."""

    messages: Annotated[list[OllamaMessage], Field(fail_fast=True, max_length=MAX_MESSAGES)] | None = None
    tools: Annotated[list[OllamaTool], Field(fail_fast=True, max_length=MAX_TOOLS)] | None = None

    @property
    def only_loads(self) -> bool:
        return not self.messages


class OllamaGenerateBody(OllamaTextBody):
    """POST /api/generate."""

    prompt: Text | None = None
    suffix: Text | None = None
    system: Text | None = None
    images: Images | None = None
    raw: bool | None = None
    template: (
        Annotated[
            Literal[""], BeforeValidator(nothing_but("", "is the model's own: give it to the model, or send `raw`"))
        ]
        | None
    ) = None
    context: (
        Annotated[
            list[int],
            BeforeValidator(nothing_but([], "is not kept here: send the conversation so far to /api/chat")),
            WithJsonSchema({"type": "array", "maxItems": 0}),
        ]
        | None
    ) = None

    @property
    def only_loads(self) -> bool:
        return not self.prompt and not self.suffix


_INPUT_SCHEMA: dict[str, Any] = {"type": "string", "maxLength": MAX_TEXT_CHARS}


class OllamaEmbedBody(OllamaBody):
    """POST /api/embed."""

    input: (
        Annotated[
            list[Text],
            Field(fail_fast=True, max_length=MAX_INPUTS),
            BeforeValidator(as_texts),
            WithJsonSchema(
                {"anyOf": [_INPUT_SCHEMA, {"type": "array", "items": _INPUT_SCHEMA, "maxItems": MAX_INPUTS}]}
            ),
        ]
        | None
    ) = None
    truncate: bool | None = None
    dimensions: Annotated[int, Field(ge=0, le=MAX_DIMENSIONS), WHOLE] | None = None


class OllamaEmbeddingsBody(OllamaBody):
    """POST /api/embeddings, the older form: one text."""

    prompt: Text | None = None


class OllamaShowBody(Wire):
    """POST /api/show."""

    model: ModelName | None = None
    name: ModelName | None = Field(None, description="Older name of `model`.")
    verbose: bool | None = Field(None, description="Without effect: long lists of numbers are left out.")


def to_chat(body: OllamaChatBody) -> ChatRequest:
    return ChatRequest(
        model=body.model,
        messages=to_messages(body.messages or []),
        sampling=_sampling(body.options),
        tools=[tool.canonical() for tool in body.tools or ()],
        **_shared_fields(body),
    )


def to_completion(body: OllamaGenerateBody) -> CompletionRequest:
    """Raises BadRequest for `raw` together with `system`, as Ollama does."""
    if body.raw and body.system:
        raise BadRequest("`system`: a raw prompt has no place for it. Write it into the prompt.", param="system")
    return CompletionRequest(
        model=body.model,
        prompt=body.prompt or "",
        suffix=body.suffix or "",
        system=body.system or "",
        images=body.images or [],
        raw=bool(body.raw),
        sampling=_sampling(body.options),
        **_shared_fields(body),
    )


def to_embedding(body: OllamaEmbedBody) -> EmbeddingRequest:
    return EmbeddingRequest(
        model=body.model,
        inputs=body.input or [],
        dimensions=body.dimensions or None,
        truncate=body.truncate is not False,
        options=_given(body.options),
    )


def to_one_embedding(body: OllamaEmbeddingsBody) -> EmbeddingRequest:
    inputs = [body.prompt] if body.prompt else []
    return EmbeddingRequest(model=body.model, inputs=inputs, options=_given(body.options))


def _shared_fields(body: OllamaTextBody) -> dict[str, Any]:
    return {
        "format": body.format,
        "think": body.think,
        "logprobs": bool(body.logprobs),
        "top_logprobs": body.top_logprobs or 0,
        "truncate": body.truncate is not False,
    }


def _given(options: OllamaOptions | None) -> dict[str, Any]:
    return options.model_dump(exclude_none=True) if options is not None else {}


def _sampling(options: OllamaOptions | None) -> Sampling:
    """What every backend understands under its own name; the rest stays as it is, for Ollama."""
    rest = _given(options)
    limited = rest.get("num_predict", 0) > 0  # below: no limit, in ways that only Ollama tells apart
    return Sampling(
        temperature=rest.pop("temperature", None),
        top_p=rest.pop("top_p", None),
        max_tokens=rest.pop("num_predict") if limited else None,
        stop=[stop for stop in rest.pop("stop", ()) if stop],
        seed=rest.pop("seed", None),
        presence_penalty=rest.pop("presence_penalty", None),
        frequency_penalty=rest.pop("frequency_penalty", None),
        options=rest,
    )
