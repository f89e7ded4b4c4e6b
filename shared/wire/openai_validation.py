"""Checking decoded JSON against a model, with one clear complaint for the caller."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from shared.errors import BadRequest

_REMEDIES = {
    "n": "a job gives one answer: leave `n` out or send several requests",
    "best_of": "a job gives one answer: leave `best_of` out",
    "echo": "the prompt cannot be echoed: leave `echo` out",
    "functions": "is superseded: use `tools`",
    "role": "should be system, developer, user, assistant, tool or function",
    "response_format.type": "should be text, json_object or json_schema",
}
"""By path or last field name: what to do, where pydantic only says what is wrong."""

ModelT = TypeVar("ModelT", bound=BaseModel)


def validate(model_cls: type[ModelT], data: object) -> ModelT:
    """`data` as `model_cls`. Raises BadRequest for the first thing that does not fit; `param` is its path."""
    if not isinstance(data, dict):
        raise BadRequest("The request body must be a JSON object.")
    try:
        return model_cls.model_validate(data)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_context=False)[0]
        param = _path(first)
        complaint = _complaint(first, param)
        if first["type"] == "extra_forbidden":
            complaint = "is not known here" + (_near(param, model_cls.model_fields) if len(first["loc"]) == 1 else "")
        stop = "" if complaint.endswith("?") else "."
        raise BadRequest(f"`{param or 'body'}`: {complaint}{stop}", param=param or None) from None


def _near(name: str, fields: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, fields, n=1)
    return f"; did you mean `{near[0]}`?" if near else ""


def _path(error: ErrorDetails) -> str:
    path = ""
    for step in error["loc"]:
        if isinstance(step, int):
            path += f"[{step}]"
        elif not step.startswith("~"):
            # Names within free-form objects are the caller's own: shown without control characters, and not at length.
            name = ascii(step[:64])[1:-1]
            path += f".{name}" if path else name
    return path


def _complaint(error: ErrorDetails, param: str) -> str:
    if error["type"] == "missing":
        return "is required"
    if error["type"] == "rejected":
        return error["msg"].removesuffix(".")
    if remedy := _REMEDIES.get(param) or _REMEDIES.get(param.rpartition(".")[2]):
        return remedy
    message = error["msg"].removeprefix("Value error, ").removesuffix(".")
    # "Input should ...", "List should have at most 16 items after validation, not 17"
    subject, should, rest = message.partition(" should ")
    if should and " " not in subject:
        message = "should " + rest.replace(" after validation", "")
    sent = error["input"]
    # Only numbers are quoted back: texts may be someone's prompt.
    if isinstance(sent, int | float) and not isinstance(sent, bool):
        message += f", not {sent!r}"[:60]
    return message
