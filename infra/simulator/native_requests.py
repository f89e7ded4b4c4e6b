"""Bodies of /api/generate, /api/chat and their kin, checked as Ollama checks them."""

from __future__ import annotations

import base64
import binascii
from typing import Any, Literal, TypeVar

import msgspec

from infra.simulator.catalogue import Catalogue, Model
from infra.simulator.durations import parse_keep_alive_s
from infra.simulator.failures import ApiError, not_found, runner_error
from infra.simulator.options import checked, load_options
from infra.simulator.requests import TextRequest, Think, Turn

Json = dict[str, Any]
T = TypeVar("T")
_GO_NAMES = {str: "string", bool: "bool", list: "array", dict: "object", int: "number", float: "number"}
_LEVELS = ("low", "medium", "high", "max")


def field(body: Json, name: str, kind: type[T], default: T) -> T:
    """A field of the right type, `default` when absent or null. Raises ApiError 400."""
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        got, wanted = _GO_NAMES.get(type(value), "value"), _GO_NAMES.get(kind, kind.__name__)
        raise ApiError(400, f"json: cannot unmarshal {got} into Go struct field .{name} of type {wanted}")
    return value


def model_named(body: Json) -> str:
    return field(body, "model", str, "") or field(body, "name", str, "")


def find_model(catalogue: Catalogue, name: str) -> Model:
    """Raises ApiError 404, in the spelling of generate and chat."""
    if model := catalogue.find(name):
        return model
    raise not_found(name)


def load_or_unload(body: Json) -> Literal["load", "unload"]:
    """Whether a request without any text asks to load a model, or by keep_alive 0 to drop it."""
    return "unload" if parse_keep_alive_s(body.get("keep_alive")) == 0 else "load"


def parse_generate(body: Json, model: Model, *, default_ctx: int) -> TextRequest:
    """Raises ApiError for what Ollama would refuse."""
    if field(body, "raw", bool, False) and (body.get("template") or body.get("system") or body.get("context")):
        raise ApiError(400, "raw mode does not support template, system, or context")
    if body.get("suffix") and not model.can("insert"):
        raise ApiError(400, f"{model.name} does not support insert")
    images = _images(body)
    system = field(body, "system", str, "")
    prompt = field(body, "prompt", str, "")
    turns = [Turn("system", system)] if system else []
    return _request(body, model, [*turns, Turn("user", prompt, images)], default_ctx=default_ctx, is_chat=False)


def parse_chat(body: Json, model: Model, *, default_ctx: int) -> TextRequest:
    """Raises ApiError for what Ollama would refuse."""
    turns = []
    for message in field(body, "messages", list, []):
        if not isinstance(message, dict):
            raise ApiError(400, "json: cannot unmarshal value into Go struct field .messages of type api.Message")
        role = field(message, "role", str, "").lower()
        calls = field(message, "tool_calls", list, [])
        turns.append(Turn(role, field(message, "content", str, ""), _images(message), calls))
    tools = field(body, "tools", list, [])
    if tools and not model.can("tools"):
        raise ApiError(400, f"{model.name} does not support tools")
    request = _request(body, model, turns, default_ctx=default_ctx, is_chat=True)
    request.tools = [tool for tool in tools if isinstance(tool, dict)]
    return request


def parse_load(body: Json, model: Model, *, default_ctx: int) -> TextRequest:
    """Only what the loading of a model needs."""
    return _request(body, model, [], default_ctx=default_ctx, is_chat=True)


def _request(body: Json, model: Model, turns: list[Turn], *, default_ctx: int, is_chat: bool) -> TextRequest:
    options = checked(body.get("options"))
    if any(turn.images for turn in turns) and not model.can("vision"):
        hint = "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj"
        raise runner_error(500, hint, "server_error")
    top = field(body, "top_logprobs", int, 0)
    if not 0 <= top <= 20:
        raise ApiError(400, "top_logprobs must be between 0 and 20")
    return TextRequest(
        asked_model=model_named(body),
        model=model,
        turns=turns,
        stream=field(body, "stream", bool, True),
        load=load_options(
            options,
            default_ctx=default_ctx,
            trained_ctx=model.context_length,
            vision=model.can("vision"),
            shift=field(body, "shift", bool, True),
        ),
        options=options,
        keep_alive_s=parse_keep_alive_s(body.get("keep_alive")),
        format=_format(body.get("format")),
        think=_think(body, model),
        top_logprobs=top if field(body, "logprobs", bool, False) else None,
        truncate=field(body, "truncate", bool, True),
        is_chat=is_chat,
    )


def _images(holder: Json) -> int:
    images = field(holder, "images", list, [])
    for image in images:
        try:
            base64.b64decode(image, validate=True)
        except (TypeError, ValueError, binascii.Error):
            raise ApiError(400, "illegal base64 data at input byte 0") from None
    return len(images)


def _format(value: object) -> Literal["json"] | dict[str, Any] | None:
    if value is None or value == "":
        return None
    if value == "json":
        return "json"
    if isinstance(value, dict):
        return value
    text = msgspec.json.encode(msgspec.json.encode(value).decode()).decode()
    raise ApiError(500, f'invalid format: {text}; expected "json" or a valid JSON Schema object')


def _think(body: Json, model: Model) -> Think:
    value = body.get("think")
    if isinstance(value, str) and value not in _LEVELS:
        raise ApiError(400, f'invalid think value: "{value}" (must be "high", "medium", "low", "max", true, or false)')
    if value is not None and not isinstance(value, bool | str):
        raise ApiError(400, 'think must be a boolean or string ("high", "medium", "low", "max", true, or false)')
    if value and not model.can("thinking"):
        raise ApiError(400, f'"{model_named(body)}" does not support thinking')
    think: Think = value  # type: ignore[assignment]  # mypy does not narrow a str by `in`
    return think
