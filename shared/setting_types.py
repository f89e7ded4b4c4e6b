"""The units and forms that settings may be written in: durations, shares, lists, chains of models."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic.fields import FieldInfo
from pydantic_settings import NoDecode

_DURATION = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?\s*$")
_SECONDS_PER = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
BARE_MILLISECONDS_FROM = 1000.0
"""A bare number this large is milliseconds: nobody means a timeout of 300000 s, and older configurations write ms."""


def parse_duration_s(value: Any) -> Any:
    """Seconds from `300s`, `300000ms`, `5m`, or the text of a bare number (seconds below 1000, then milliseconds)."""
    if not isinstance(value, str):
        # Numbers come from our own code, defaults among them, and there a second is a second.
        return value
    match = _DURATION.match(value)
    if match is None:
        raise ValueError("expected a duration such as 300s, 300000ms or 5m")
    number, unit = float(match[1]), match[2]
    if unit is None:
        return number / 1000.0 if number >= BARE_MILLISECONDS_FROM else number
    return number * _SECONDS_PER[unit]


def is_bare_milliseconds(value: Any) -> bool:
    """Whether `parse_duration_s` takes this text for milliseconds though it does not say so."""
    match = _DURATION.match(value) if isinstance(value, str) else None
    return match is not None and match[2] is None and float(match[1]) >= BARE_MILLISECONDS_FROM


def is_duration(field: FieldInfo) -> bool:
    """Whether a settings field holds `Seconds`."""
    return any(isinstance(mark, BeforeValidator) and mark.func is parse_duration_s for mark in field.metadata)


def parse_ratio(value: Any) -> Any:
    """A share of 0 to 1 from a fraction (`0.85`), a percentage (`85`, above 1), or either with a % sign (`85%`)."""
    if not isinstance(value, str):
        # As with durations: our own numbers are in the unit that we reckon in.
        return value
    number, percent, _ = value.strip().partition("%")
    try:
        amount = float(number)
    except ValueError:
        raise ValueError("expected a share such as 0.85, 85 or 85%") from None
    share = amount / 100 if percent or amount > 1 else amount
    if not 0 <= share <= 1:
        raise ValueError("expected a share from 0 to 1, or from 0 to 100%, such as 0.85, 85 or 85%")
    return share


def split_list(value: Any) -> Any:
    """A list from comma-separated text; a list stays as it is."""
    if isinstance(value, str):
        return [item.strip() for item in value.split(",") if item.strip()]
    return value


def split_chains(value: Any) -> Any:
    """{"a": ["b", "c"], "d": ["e"]} from `a=b,c;d=e`; a mapping stays as it is."""
    if not isinstance(value, str):
        return value
    chains: dict[str, Any] = {}
    for entry in filter(None, map(str.strip, value.split(";"))):
        model, equals, stand_ins = (part.strip() for part in entry.partition("="))
        if not (model and equals):
            raise ValueError("expected model=stand-in,stand-in;model=... such as llama3.2=mistral,phi3;llava=bakllava")
        chains[model] = split_list(stand_ins)
    return chains


Seconds = Annotated[float, BeforeValidator(parse_duration_s)]
Ratio = Annotated[float, Field(ge=0, le=1), BeforeValidator(parse_ratio)]
NameList = Annotated[list[str], NoDecode, BeforeValidator(split_list)]
ModelChains = Annotated[dict[str, list[str]], NoDecode, BeforeValidator(split_chains)]
