"""A JSON schema in the part of the language that the Messages API takes for an answer. Pure.

The API refuses a schema with words it cannot enforce. Those are moved into the description, where the model reads them;
what the schema allows grows by that, never shrinks, except that objects get no fields beyond those named.
"""

from __future__ import annotations

from typing import Any

import msgspec

Schema = dict[str, Any]

_KEPT = frozenset({"type", "enum", "const", "default", "title", "required", "$ref", "pattern"})
_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"})
_LISTS = {"anyOf": "anyOf", "oneOf": "anyOf", "allOf": "allOf"}
_MAPS = frozenset({"properties", "$defs", "definitions"})
_DROPPED = frozenset({"$schema", "$id", "$comment", "additionalProperties", "description"})


def narrowed(schema: Schema) -> Schema:
    """The schema as the API takes it; the one given stays as it is."""
    kept: Schema = {}
    told: Schema = {}
    for word, value in schema.items():
        if word in _MAPS and isinstance(value, dict):
            kept[word] = {name: _part(part) for name, part in value.items()}
        elif word in _LISTS and isinstance(value, list):
            kept[_LISTS[word]] = [_part(part) for part in value]
        elif word == "items" and isinstance(value, dict):
            kept[word] = narrowed(value)
        elif word in _KEPT or _is_enforced(word, value):
            kept[word] = value
        elif word not in _DROPPED:
            told[word] = value
    if kept.get("type") == "object" or "properties" in kept:
        kept["additionalProperties"] = False
    lines = [str(schema["description"])] if schema.get("description") else []
    lines += [f"{word}: {msgspec.json.encode(value).decode()}" for word, value in told.items()]
    if lines:
        kept["description"] = "\n".join(lines)
    return kept


def _part(schema: Any) -> Any:
    return narrowed(schema) if isinstance(schema, dict) else schema


def _is_enforced(word: str, value: Any) -> bool:
    return (word == "format" and value in _FORMATS) or (word == "minItems" and value in (0, 1))
