"""Canonical requests as bodies that a server of OpenAI's dialect takes. Pure.

What a server does not know is left out where that only changes how the answer is found (`top_k`, `keep_alive`,
`num_ctx`, ...), and refused where the answer would be another thing (tools, a schema, a suffix).
"""

from __future__ import annotations

import re
from typing import Any

from shared.backends.openai_quirks import Quirks
from shared.errors import BackendRejected
from shared.wire.canonical import ChatRequest, CompletionRequest, EmbeddingRequest, Message, Sampling, Think
from shared.wire.openai_shapes import Body
from shared.wire.openai_upstream_messages import message_bodies

NAMED_OPTIONS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "num_predict": "max_tokens",
    "stop": "stop",
    "seed": "seed",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
}
"""Ollama's options that the dialect knows by itself -> its names for them."""
STRICT_KEYWORDS = frozenset(
    {
        "$defs",
        "$ref",
        "additionalProperties",
        "anyOf",
        "const",
        "description",
        "enum",
        "items",
        "properties",
        "required",
    }
    | {"title", "type"}
)
"""Of a JSON schema, those that OpenAI takes in a strict one, whatever the model."""
_EFFORT: dict[Think, str] = {True: "medium", False: "low", "max": "high"}
"""The wish to think as an effort; `low`, `medium` and `high` are themselves. Not to think at all is not on offer."""


def chat_body(request: ChatRequest, quirks: Quirks, *, stream: bool) -> Body:
    """The body of /chat/completions. Raises BackendRejected for what the server cannot do."""
    body: Body = {
        "model": request.model,
        "messages": message_bodies(request.messages, thinking_field=quirks.thinking_field),
        **_stream(stream, quirks),
        **_sampling(request.sampling, quirks, request.model, quirks.max_tokens_field),
        **_format(request.format, quirks),
        **_thinking(request.think, quirks, request.model),
    }
    if request.tools:
        if not quirks.tools:
            raise BackendRejected("This service cannot call tools. Choose another one.", param="tools")
        body["tools"] = request.tools
    if request.logprobs and not _is_fixed(quirks, request.model):
        body["logprobs"] = True
        body |= {"top_logprobs": request.top_logprobs} if request.top_logprobs else {}
    return body


def completion_body(request: CompletionRequest, quirks: Quirks, *, stream: bool) -> Body:
    """The body of /completions, for a request that `is_plain` lets go there."""
    body: Body = {
        "model": request.model,
        "prompt": request.prompt,
        **_stream(stream, quirks),
        **_sampling(request.sampling, quirks, request.model, "max_tokens"),
    }
    if request.suffix:
        body["suffix"] = request.suffix
    if request.logprobs:
        body["logprobs"] = request.top_logprobs
    return body


def is_plain(request: CompletionRequest, quirks: Quirks) -> bool:
    """Whether a prompt goes to /completions: the model has that, and nothing is asked that only a chat can hold."""
    needs_chat = request.system or request.images or request.format is not None or request.think is not None
    return not needs_chat and re.fullmatch(quirks.completion_models, request.model) is not None


def asks_nothing(request: CompletionRequest) -> bool:
    """An empty prompt: Ollama's clients mean by it that the model shall be loaded, or go."""
    return not (request.prompt or request.suffix or request.system or request.images)


def as_chat(request: CompletionRequest) -> ChatRequest:
    """The same prompt as a conversation. Raises BackendRejected for a suffix, which a chat cannot hold."""
    if request.suffix:
        raise BackendRejected(f"'{request.model}' cannot fill in text before a suffix at this service.", param="suffix")
    system = [Message(role="system", content=request.system)] if request.system else []
    return ChatRequest(
        model=request.model,
        messages=[*system, Message(role="user", content=request.prompt, images=request.images)],
        sampling=request.sampling,
        format=request.format,
        think=request.think,
        logprobs=request.logprobs,
        top_logprobs=request.top_logprobs,
    )


def embedding_body(request: EmbeddingRequest, quirks: Quirks) -> Body:
    """The body of /embeddings."""
    body: Body = {
        "model": request.model,
        "input": request.inputs,
        "encoding_format": "base64" if quirks.base64_embeddings else "float",
    }
    return body if request.dimensions is None else body | {"dimensions": request.dimensions}


def _stream(stream: bool, quirks: Quirks) -> Body:
    usage = {"stream_options": {"include_usage": True}} if stream and quirks.stream_usage else {}
    return {"stream": stream, **usage}


def _sampling(sampling: Sampling, quirks: Quirks, model: str, max_tokens_field: str) -> Body:
    """A named field beats the extra of the same meaning. A limit below 1 is Ollama's word for none."""
    known = {NAMED_OPTIONS[name]: value for name, value in sampling.options.items() if name in NAMED_OPTIONS}
    named = {name: getattr(sampling, name) for name in NAMED_OPTIONS.values()}
    wanted = known | {name: value for name, value in named.items() if value is not None and value != []}
    limit = wanted.pop("max_tokens", None)
    if not isinstance(limit, int) or limit < 1:
        limit = quirks.default_max_tokens
    limited = {} if limit is None else {max_tokens_field: limit}
    if _is_fixed(quirks, model):
        return limited | {name: value for name, value in wanted.items() if name == "seed"}
    extras = {quirks.options[name]: value for name, value in sampling.options.items() if name in quirks.options}
    return wanted | extras | limited


def _is_fixed(quirks: Quirks, model: str) -> bool:
    return re.fullmatch(quirks.fixed_sampling, model) is not None


def _format(wanted: Any, quirks: Quirks) -> Body:
    """`response_format` for None, "json" or a JSON schema."""
    if wanted is None:
        return {}
    if isinstance(wanted, dict):
        if quirks.json_schema == "none":
            raise BackendRejected("This service cannot hold an answer to a schema.", param="response_format")
        if quirks.json_schema == "json_object":
            return {"response_format": {"type": "json_object", "schema": wanted}}
        return _schema(wanted)
    if quirks.json_mode == "none":
        raise BackendRejected("This service cannot be held to JSON.", param="response_format")
    return (
        _schema({"type": "object"})
        if quirks.json_mode == "open_schema"
        else {"response_format": {"type": "json_object"}}
    )


def _schema(schema: dict[str, Any]) -> Body:
    wanted: Body = {"name": "answer", "schema": schema}
    if schema.get("type") == "object" and is_strict(schema):
        wanted["strict"] = True
    return {"response_format": {"type": "json_schema", "json_schema": wanted}}


def is_strict(schema: Any) -> bool:
    """Whether a schema keeps to what OpenAI promises to follow to the letter: every object names all of its properties
    as required and allows no others, and no keyword is one that it would refuse. Others it only tries to follow."""
    if not isinstance(schema, dict) or not schema.keys() <= STRICT_KEYWORDS:
        return False
    properties, required = schema.get("properties", {}), schema.get("required", [])
    definitions, choices = schema.get("$defs", {}), schema.get("anyOf", [])
    if not isinstance(properties, dict) or not isinstance(definitions, dict) or not isinstance(choices, list):
        return False
    if schema.get("type") == "object" or properties:
        names_all = isinstance(required, list) and all(name in required for name in properties)
        if not names_all or schema.get("additionalProperties") is not False:
            return False
    items = [schema["items"]] if "items" in schema else []
    return all(map(is_strict, [*properties.values(), *definitions.values(), *choices, *items]))


def _thinking(think: Think, quirks: Quirks, model: str) -> Body:
    if think is None or quirks.think == "none" or not re.fullmatch(quirks.thinking_models, model):
        return {}
    effort = _EFFORT.get(think, think)
    if quirks.think == "reasoning_effort":
        return {"reasoning_effort": effort}
    if quirks.think == "reasoning":
        return {"reasoning": {"enabled": think} if isinstance(think, bool) else {"effort": effort}}
    switch: Body = {"enable_thinking": think is not False}
    return {"chat_template_kwargs": switch if isinstance(think, bool) else switch | {"reasoning_effort": effort}}
