"""Building blocks of Ollama's request models that differ from OpenAI's."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Final, get_args

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from shared.wire.canonical import ThinkLevel
from shared.wire.openai_fields import BASE64_PATTERN, checked_base64, reject

MAX_IMAGES = 1_000
LEVELS: Final = get_args(ThinkLevel)
# Go's durations, the form Ollama reads.
DURATION_PATTERN: Final = r"^[-+]?(0|([0-9]{1,9}(\.[0-9]{1,9})?(ns|us|ms|s|m|h))+)$"
_DURATION = re.compile(DURATION_PATTERN.removeprefix("^").removesuffix("$"))


def nothing_but(allowed: object, otherwise: str) -> Callable[[Any], Any]:
    """A check that lets one value through, and rejects every other with these words."""

    def check(value: Any) -> Any:
        if value != allowed or type(value) is not type(allowed):
            raise reject(otherwise)
        return value

    return check


def _keep_alive(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and len(value) <= 64 and _DURATION.fullmatch(value):
        return value
    raise reject('must be seconds as a number, or a duration with units such as "5m" or "1h30m"')


def is_zero(keep_alive: str | float | None) -> bool:
    """Whether it means: leave memory at once."""
    if isinstance(keep_alive, str):
        return not re.search("[1-9]", keep_alive)
    return keep_alive == 0 and keep_alive is not None


KeepAlive = Annotated[
    Any,
    BeforeValidator(_keep_alive),
    WithJsonSchema(
        {
            "anyOf": [{"type": "number"}, {"type": "string", "pattern": DURATION_PATTERN, "maxLength": 64}],
            "description": "Taken, and not followed: how long models stay loaded is for the model manager to decide.",
        }
    ),
]


def _format(value: Any) -> Any:
    if value == "" or value is None:
        return None
    if value == "json" or isinstance(value, dict):
        return value
    raise reject('must be "json" or a JSON schema as an object')


Format = Annotated[
    Any,
    BeforeValidator(_format),
    WithJsonSchema({"anyOf": [{"enum": ["", "json"]}, {"type": "object"}], "description": "`json` or a JSON schema."}),
]


def _think(value: Any) -> Any:
    if isinstance(value, bool) or (isinstance(value, str) and value in LEVELS):
        return value
    raise reject(f"must be true, false, or one of {', '.join(LEVELS)}")


ThinkField = Annotated[
    Any, BeforeValidator(_think), WithJsonSchema({"anyOf": [{"type": "boolean"}, {"enum": list(LEVELS)}]})
]


def _image(text: str) -> str:
    if text.startswith(("data:", "http:", "https:")):
        raise reject("must be the image itself in base64, without `data:...,` before it; addresses are not fetched")
    return checked_base64(text)


Images = Annotated[
    list[Annotated[str, Field(json_schema_extra={"pattern": f"^{BASE64_PATTERN}$"}), AfterValidator(_image)]],
    Field(fail_fast=True, max_length=MAX_IMAGES),
]


def as_texts(value: Any) -> Any:
    """`input` of an embedding: one text, several, or none, which is what an empty text means too."""
    if isinstance(value, str):
        return [value] if value else []
    if isinstance(value, list) and all(isinstance(text, str) for text in value):
        return value
    raise reject("must be a text or a list of texts")
