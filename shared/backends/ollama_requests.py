"""Canonical requests as the JSON bodies of Ollama's native API. Pure."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from shared.errors import BackendRejected
from shared.wire.canonical import ChatRequest, CompletionRequest, EmbeddingRequest, Message, Sampling, ToolCall

KeepAlive = str | float | None
"""A duration such as "5m", or seconds; below 0 keeps for ever, 0 unloads, None leaves it to the server."""

_BARE_SECONDS = re.compile(r"\s*-?\d+(\.\d+)?\s*")
_OBJECT = msgspec.json.Decoder(dict[str, Any])


def encode(body: dict[str, Any]) -> bytes:
    """JSON. Raises BackendRejected for what JSON cannot hold, e.g. half a surrogate pair."""
    try:
        return msgspec.json.encode(body)
    except (ValueError, TypeError, OverflowError, RecursionError) as exc:
        raise BackendRejected("The request holds a value that cannot be sent as JSON.") from exc


def chat_body(request: ChatRequest, default_keep_alive: KeepAlive = None) -> bytes:
    """The body of /api/chat. Raises BackendRejected where a message cannot be expressed."""
    body: dict[str, Any] = {
        "model": request.model,
        "messages": _messages(request.messages),
        "stream": True,
        **_shared_fields(request, default_keep_alive),
    }
    if request.tools:
        body["tools"] = request.tools
    return encode(body)


def generate_body(request: CompletionRequest, default_keep_alive: KeepAlive = None) -> bytes:
    """The body of /api/generate. An empty prompt is, to Ollama, an order to load the model: the answer is then
    empty."""
    body: dict[str, Any] = {
        "model": request.model,
        "prompt": request.prompt,
        "stream": True,
        **_shared_fields(request, default_keep_alive),
    }
    given = {"suffix": request.suffix, "system": request.system, "images": request.images, "raw": request.raw}
    body.update((name, value) for name, value in given.items() if value)
    return encode(body)


def embed_body(request: EmbeddingRequest, default_keep_alive: KeepAlive = None) -> bytes:
    body: dict[str, Any] = {"model": request.model, "input": request.inputs, "truncate": request.truncate}
    if request.dimensions is not None:
        body["dimensions"] = request.dimensions
    if request.options:
        body["options"] = request.options
    keep_alive = keep_alive_value(default_keep_alive if request.keep_alive is None else request.keep_alive)
    if keep_alive is not None:
        body["keep_alive"] = keep_alive
    return encode(body)


def keep_alive_value(keep_alive: KeepAlive) -> KeepAlive:
    """`"300"` and `"-1"` as numbers, since Ollama takes bare seconds only so; durations such as `"5m"` stay."""
    if isinstance(keep_alive, str) and _BARE_SECONDS.fullmatch(keep_alive):
        return float(keep_alive)
    return keep_alive


def _shared_fields(request: ChatRequest | CompletionRequest, default_keep_alive: KeepAlive) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if request.format is not None:
        fields["format"] = request.format
    if options := options_of(request.sampling):
        fields["options"] = options
    if request.think is not None:
        fields["think"] = request.think
    if not request.truncate:
        fields["truncate"] = False
    if request.logprobs:
        fields["logprobs"] = True
        if request.top_logprobs:
            fields["top_logprobs"] = request.top_logprobs
    keep_alive = keep_alive_value(default_keep_alive if request.keep_alive is None else request.keep_alive)
    if keep_alive is not None:
        fields["keep_alive"] = keep_alive
    return fields


def options_of(sampling: Sampling) -> dict[str, Any]:
    """Ollama's `options`. A named field beats the extra of the same meaning; wrong types in the extras are for the
    server to refuse."""
    options = dict(sampling.options)
    if isinstance(options.get("stop"), str):
        options["stop"] = [options["stop"]]
    named = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "num_predict": sampling.max_tokens,
        "stop": sampling.stop or None,
        "seed": sampling.seed,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
    }
    options.update((name, value) for name, value in named.items() if value is not None)
    return options


def _messages(messages: list[Message]) -> list[dict[str, Any]]:
    # Older templates know a tool's result by the tool's name alone, OpenAI's clients send only the call's id.
    names = {call.id: call.name for message in messages for call in message.tool_calls}
    return [_message(message, index, names) for index, message in enumerate(messages)]


def _message(message: Message, index: int, names: dict[str, str]) -> dict[str, Any]:
    sent: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.thinking:
        sent["thinking"] = message.thinking
    if message.images:
        sent["images"] = message.images
    if message.tool_calls:
        sent["tool_calls"] = [
            {"id": call.id, "function": {"index": at, "name": call.name, "arguments": _arguments(call, index, at)}}
            for at, call in enumerate(message.tool_calls)
        ]
    if message.tool_call_id:
        sent["tool_call_id"] = message.tool_call_id
    if tool_name := message.tool_name or names.get(message.tool_call_id, ""):
        sent["tool_name"] = tool_name
    return sent


def _arguments(call: ToolCall, message_index: int, call_index: int) -> dict[str, Any]:
    try:
        return _OBJECT.decode(call.arguments or "{}")
    except (ValueError, RecursionError):
        field = f"messages[{message_index}].tool_calls[{call_index}].function.arguments"
        raise BackendRejected(f"{field} must be the JSON text of an object.", param=field) from None
