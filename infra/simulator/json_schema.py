"""A value that a JSON schema accepts, drawn at random but by a given generator."""

from __future__ import annotations

import math
import random
from typing import Any

Json = dict[str, Any]
OPTIONAL_DEPTH = 4
"""Below this depth only required properties are filled in, so that recursive schemas end."""
DEEPEST = 24
_FORMATS = {
    "date-time": "2026-01-02T03:04:05Z",
    "date": "2026-01-02",
    "time": "03:04:05Z",
    "uuid": "5f3d2c1b-0a9e-4d8c-b7a6-152637485960",
    "email": "simulated@example.com",
    "uri": "https://example.com/simulated",
    "ipv4": "192.0.2.1",
}
_TYPES = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})


class SchemaError(ValueError):
    """The schema cannot be followed; the text names the place."""


class Sampler:
    """Draws values for one schema. `words` are used where a string is free."""

    def __init__(self, schema: Json, draw: random.Random, words: list[str]) -> None:
        self._root = schema
        self._draw = draw
        self._words = words or ["simulated"]

    def value(self) -> Any:
        """Raises SchemaError for an unknown type, a reference to nothing, or a recursion without end."""
        return self._value(self._root, "#", 0)

    def _value(self, schema: Any, where: str, depth: int) -> Any:
        if depth > DEEPEST:
            raise SchemaError(f"JSON schema error at {where}: recursion without end")
        if schema is True or schema == {}:
            return self._word()
        if not isinstance(schema, dict):
            raise SchemaError(f"JSON schema error at {where}: not a schema")
        if "$ref" in schema:
            return self._value(self._resolve(schema["$ref"], where), where, depth + 1)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return self._draw.choice(schema["enum"])
        for key in ("anyOf", "oneOf"):
            if options := schema.get(key):
                # The first choice keeps most schemas shallow; deep down prefer one that does not recurse.
                chosen = (
                    options[0] if depth < OPTIONAL_DEPTH else min(options, key=lambda option: "$ref" in str(option))
                )
                return self._value(_merged([{k: v for k, v in schema.items() if k != key}, chosen]), where, depth + 1)
        if parts := schema.get("allOf"):
            own = {k: v for k, v in schema.items() if k != "allOf"}
            resolved = [self._resolve(p["$ref"], where) if "$ref" in p else p for p in parts]
            return self._value(_merged([own, *resolved]), where, depth + 1)
        return self._typed(schema, where, depth)

    def _typed(self, schema: Json, where: str, depth: int) -> Any:
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = next((name for name in kind if name != "null"), "null")
        if kind is None:
            kind = _implied_type(schema)
        if kind not in _TYPES:
            raise SchemaError(f"JSON schema error at {where}: unrecognized type {kind}")
        match kind:
            case "object":
                return self._object(schema, where, depth)
            case "array":
                return self._array(schema, where, depth)
            case "string":
                return self._string(schema)
            case "integer":
                return int(self._number(schema, whole=True))
            case "number":
                return self._number(schema, whole=False)
            case "boolean":
                return self._draw.random() < 0.5
        return None

    def _object(self, schema: Json, where: str, depth: int) -> Json:
        properties = schema.get("properties") or {}
        required = schema.get("required") or []
        wanted = [name for name in properties if name in required or depth < OPTIONAL_DEPTH]
        made = {name: self._value(properties[name], f"{where}/properties/{name}", depth + 1) for name in wanted}
        made.update({name: self._word() for name in required if name not in made})
        extra = schema.get("additionalProperties")
        for at in range(schema.get("minProperties", 0) - len(made)):
            made[f"key{at}"] = self._value(extra, where, depth + 1) if isinstance(extra, dict) else self._word()
        return made

    def _array(self, schema: Json, where: str, depth: int) -> list[Any]:
        prefix = schema.get("prefixItems") or []
        made = [self._value(item, f"{where}/prefixItems", depth + 1) for item in prefix]
        items = schema.get("items")
        least = schema.get("minItems", 0)
        most = schema.get("maxItems", max(least, 2))
        length = max(least, min(most, 2 if depth < OPTIONAL_DEPTH else 0))
        while len(made) < length and items is not False:
            made.append(self._value(items if items is not None else True, f"{where}/items", depth + 1))
        return made

    def _string(self, schema: Json) -> str:
        if known := _FORMATS.get(schema.get("format", "")):
            return known
        least, most = schema.get("minLength", 0), schema.get("maxLength", math.inf)
        text = self._word()
        while len(text) < least:
            text += " " + self._word()
        return text if len(text) <= most else text[: int(most)]

    def _number(self, schema: Json, *, whole: bool) -> float:
        step = schema.get("multipleOf") or (1 if whole else 0.5)
        low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
        if isinstance(above := schema.get("exclusiveMinimum"), int | float) and not isinstance(above, bool):
            low = max(low, above + (step if whole else math.ulp(above) * 4 + 1e-9))
        if isinstance(below := schema.get("exclusiveMaximum"), int | float) and not isinstance(below, bool):
            high = min(high, below - (step if whole else math.ulp(below) * 4 + 1e-9))
        if math.isinf(low):
            low = min(0, high - 100 * step)
        first = math.ceil(low / step)
        last = math.floor(min(high, low + 100 * step) / step)
        # Bounds closer than a step leave no multiple; the lower bound is then as good as it gets.
        return self._draw.randint(first, last) * step if first <= last else low

    def _word(self) -> str:
        return self._draw.choice(self._words)

    def _resolve(self, reference: Any, where: str) -> Any:
        target: Any = self._root
        for part in str(reference).removeprefix("#").strip("/").split("/"):
            key = part.replace("~1", "/").replace("~0", "~")
            if key and not (isinstance(target, dict) and key in target):
                raise SchemaError(f"JSON schema error at {where}: {reference} leads nowhere")
            target = target[key] if key else target
        return target


def _implied_type(schema: Json) -> str:
    if "properties" in schema or "required" in schema:
        return "object"
    if "items" in schema or "prefixItems" in schema:
        return "array"
    if "minimum" in schema or "maximum" in schema or "multipleOf" in schema:
        return "number"
    return "string"


def _merged(parts: list[Any]) -> Json:
    """One schema for several that must all hold: properties and required lists are joined, other words overwritten."""
    joined: Json = {}
    for part in parts:
        if not isinstance(part, dict):
            continue
        for key, value in part.items():
            if key == "properties":
                joined[key] = {**joined.get(key, {}), **value}
            elif key == "required":
                joined[key] = [*joined.get(key, []), *value]
            else:
                joined[key] = value
    return joined
