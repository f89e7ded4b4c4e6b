"""Building blocks of the OpenAI request models: bounded numbers, names, lists that may come as one string.

The models are strict about types (`"1"` is no number) because a silent conversion hides a client's bug, and lenient
about fields nobody here knows, because clients send many.
"""

from __future__ import annotations

import binascii
import re
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from shared.services.config import NAME as SERVICE_NAME

MAX_CONTEXT_TOKENS = 1_000_000
MAX_STOPS = 16
MAX_TEXT_CHARS = 16 * 1024 * 1024
"""Far above any allowed body; states in the schema that texts are bounded."""
YEAR_S = 366 * 86_400

MODEL_NAME_PATTERN: Final = r"^(?!.*:[0-9]+/)[A-Za-z0-9][A-Za-z0-9_-]*([.:/@~][A-Za-z0-9_-]+)*$"
_MODEL_NAME = re.compile(MODEL_NAME_PATTERN.removeprefix("^").removesuffix("$"))
# Go's durations, the form Ollama reads.
KEEP_ALIVE_PATTERN: Final = r"^-?([0-9]{1,9}(\.[0-9]{1,9})?(ms|s|m|h))+$"
_KEEP_ALIVE = re.compile(KEEP_ALIVE_PATTERN.removeprefix("^").removesuffix("$"))


class Wire(BaseModel):
    """Base of everything a client sends."""

    model_config = ConfigDict(extra="ignore", strict=True, protected_namespaces=(), hide_input_in_errors=True)


def reject(message: str) -> PydanticCustomError:
    """A validation error whose message reaches the caller as it is."""
    # A brace in a template would be read as a placeholder, hence the text travels as a value.
    return PydanticCustomError("rejected", "{message}", {"message": message})


def _whole(value: Any) -> Any:
    # JSON has one kind of number: 256.0 is 256, and some clients write it so.
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


WHOLE = BeforeValidator(_whole)


def is_model_name(name: str) -> bool:
    return _MODEL_NAME.fullmatch(name) is not None


def _model_name(name: str) -> str:
    if not is_model_name(name):
        raise reject(
            "is not a model name: use letters, digits and _ - with single . : / @ ~ between them, such as llama3.2:3b;"
            " addresses and paths are not accepted"
        )
    return name


ModelName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=256,
        description="Such as `llama3.2:3b`.",
        json_schema_extra={"pattern": MODEL_NAME_PATTERN},
    ),
    AfterValidator(_model_name),
]


def _texts(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Stops = Annotated[
    list[Annotated[str, Field(max_length=1024)]],
    Field(fail_fast=True, max_length=MAX_STOPS),
    BeforeValidator(_texts),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "maxLength": 1024},
                {"type": "array", "items": {"type": "string", "maxLength": 1024}, "maxItems": MAX_STOPS},
            ]
        }
    ),
]


def _keep_alive(value: Any) -> Any:
    if isinstance(value, str) and _KEEP_ALIVE.fullmatch(value) and len(value) <= 64:
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and -1 <= value <= YEAR_S:
        return value
    raise reject(f"must be seconds from -1 (for ever) to {YEAR_S}, or a duration with units such as `5m` or `1h30m`")


KeepAlive = Annotated[
    Any,
    BeforeValidator(_keep_alive),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": -1, "maximum": YEAR_S},
                {"type": "string", "pattern": KEEP_ALIVE_PATTERN, "maxLength": 64},
            ],
            "description": "Taken for compatibility, and not followed: how long models stay loaded is for the model "
            "manager to decide.",
        }
    ),
]

BASE64_PATTERN: Final = r"([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{4}|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{2}==)"


def checked_base64(encoded: str) -> str:
    """An image's text as it came. Raises what `reject` makes for bad base64, and for none at all."""
    try:
        empty = not binascii.a2b_base64(encoded, strict_mode=True)
    except binascii.Error as exc:
        raise reject(f"holds bad base64 ({exc})") from None
    if empty:
        raise reject("holds no image data")
    return encoded


def _provider(value: Any) -> Any:
    # OpenRouter's clients send an object of preferences under this name; here it has no effect.
    return None if isinstance(value, dict) else value


Provider = Annotated[
    Annotated[str, Field(pattern=SERVICE_NAME)] | None,
    BeforeValidator(_provider),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string", "pattern": SERVICE_NAME}, {"type": "object"}, {"type": "null"}],
            "description": "Service to ask, as in `provider~model`; `auto` or null: any. An object has no effect.",
        }
    ),
]
Private = Annotated[bool | None, Field(description="The request must not leave machines of ours.")]
Text = Annotated[str, Field(max_length=MAX_TEXT_CHARS)]
Name = Annotated[str, Field(max_length=256)]
Temperature = Annotated[float, Field(ge=0, le=2)]
Share = Annotated[float, Field(ge=0, le=1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Seed = Annotated[int, Field(ge=-(2**63), le=2**63 - 1), WHOLE]
Tokens = Annotated[int, Field(ge=1, le=MAX_CONTEXT_TOKENS), WHOLE]
TopLogprobs = Annotated[int, Field(ge=0, le=20), WHOLE]
One = Annotated[int, Field(ge=1, le=1, description="A job gives one answer; send n requests for n answers."), WHOLE]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "ultra", "max"]


class OllamaOptions(Wire):
    """Ollama's own generation options; unknown names are ignored, as Ollama does.

    Their types are checked here because Ollama answers 500 to a wrong one.
    """

    num_ctx: Tokens | None = None
    num_predict: Annotated[int, Field(ge=-2, le=MAX_CONTEXT_TOKENS), WHOLE] | None = None
    num_keep: Annotated[int, Field(ge=-1, le=MAX_CONTEXT_TOKENS), WHOLE] | None = None
    num_batch: Annotated[int, Field(ge=1, le=65_536), WHOLE] | None = None
    num_gpu: Annotated[int, Field(ge=-1, le=1024), WHOLE] | None = None
    main_gpu: Annotated[int, Field(ge=0, le=1024), WHOLE] | None = None
    num_thread: Annotated[int, Field(ge=0, le=1024), WHOLE] | None = None
    draft_num_predict: Annotated[int, Field(ge=0, le=1024), WHOLE] | None = None
    use_mmap: bool | None = None
    seed: Seed | None = None
    temperature: Temperature | None = None
    top_k: Annotated[int, Field(ge=0, le=MAX_CONTEXT_TOKENS), WHOLE] | None = None
    top_p: Share | None = None
    min_p: Share | None = None
    typical_p: Share | None = None
    repeat_last_n: Annotated[int, Field(ge=-1, le=MAX_CONTEXT_TOKENS), WHOLE] | None = None
    repeat_penalty: Annotated[float, Field(ge=0, le=10)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    stop: Stops | None = None
