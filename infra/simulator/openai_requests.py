"""Bodies of /v1 routes, translated into what the native routes take."""

from __future__ import annotations

from typing import Any

from infra.simulator.failures import ApiError
from infra.simulator.native_requests import field

Json = dict[str, Any]
_EFFORT = {"none": False, "minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "max",
           "ultra": "max", "max": "max"}  # fmt: skip
_DATA_PREFIXES = tuple(f"data:image/{kind};base64," for kind in ("jpeg", "jpg", "png", "webp"))


def native_chat(body: Json) -> Json:
    """The body of /api/chat for one of /v1/chat/completions. Raises ApiError 400."""
    messages = field(body, "messages", list, [])
    if not messages:
        raise ApiError(400, "[] is too short - 'messages'")
    native: Json = {
        "model": field(body, "model", str, ""),
        "messages": [_message(message) for message in messages],
        "stream": field(body, "stream", bool, False),
        "tools": field(body, "tools", list, []),
        "options": _options(body),
        "logprobs": field(body, "logprobs", bool, False),
        "top_logprobs": field(body, "top_logprobs", int, 0),
    }
    wanted = field(body, "response_format", dict, {})
    if wanted.get("type") == "json_object":
        native["format"] = "json"
    elif wanted.get("type") == "json_schema":
        native["format"] = field(field(wanted, "json_schema", dict, {}), "schema", dict, {})
    effort = body.get("reasoning_effort") or field(body, "reasoning", dict, {}).get("effort")
    if effort is not None:
        if effort not in _EFFORT:
            raise ApiError(400, f'invalid reasoning value: "{effort}" (must be one of {", ".join(_EFFORT)})')
        native["think"] = _EFFORT[effort]
    return native


def native_completion(body: Json) -> Json:
    """The body of /api/generate for one of /v1/completions. Raises ApiError 400."""
    return {
        "model": field(body, "model", str, ""),
        "prompt": field(body, "prompt", str, ""),
        "suffix": field(body, "suffix", str, ""),
        "stream": field(body, "stream", bool, False),
        "options": _options(body),
        "logprobs": field(body, "logprobs", int, 0) > 0,
        "top_logprobs": field(body, "logprobs", int, 0),
        "think": None,
    }


def wants_usage(body: Json) -> bool:
    return field(field(body, "stream_options", dict, {}), "include_usage", bool, False)


def _options(body: Json) -> Json:
    stop = body.get("stop")
    options: Json = {
        "stop": [stop] if isinstance(stop, str) else stop,
        "num_predict": body.get("max_tokens"),
        "seed": body.get("seed"),
        "frequency_penalty": body.get("frequency_penalty"),
        "presence_penalty": body.get("presence_penalty"),
        # OpenAI's defaults, not Ollama's.
        "temperature": 1.0 if body.get("temperature") is None else body["temperature"],
        "top_p": 1.0 if body.get("top_p") is None else body["top_p"],
    }
    return {name: value for name, value in options.items() if value is not None}


def _message(message: Any) -> Json:
    if not isinstance(message, dict):
        raise ApiError(400, "invalid message: an object is expected")
    native: Json = {"role": message.get("role"), "tool_calls": message.get("tool_calls")}
    content = message.get("content")
    if content is None or isinstance(content, str):
        return {**native, "content": content or ""}
    if not isinstance(content, list):
        raise ApiError(400, f"invalid message content type: {type(content).__name__}")
    texts, images = [], []
    for part in content:
        match part:
            case {"type": "text", "text": str(text)}:
                texts.append(text)
            case {"type": "image_url", "image_url": {"url": str(url)}} | {"type": "image_url", "image_url": str(url)}:
                images.append(_image(url))
            case _:
                raise ApiError(400, "invalid message format")
    return {**native, "content": "\n".join(texts), "images": images}


def _image(url: str) -> str:
    for prefix in _DATA_PREFIXES:
        if url.startswith(prefix):
            return url.removeprefix(prefix)
    raise ApiError(400, "invalid image input: send a data: URI of a jpeg, png or webp image")
