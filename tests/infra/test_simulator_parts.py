"""The pure parts: values for schemas, tokens, durations, names."""

from __future__ import annotations

import random
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.simulator.durations import parse_go_duration_s
from infra.simulator.failures import ApiError
from infra.simulator.json_schema import Sampler, SchemaError
from infra.simulator.names import full_name, shown_name
from infra.simulator.text import asked_length, compose, tokenise

NODE = {
    "type": "object",
    "properties": {"value": {"type": "integer"}, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
    "required": ["value", "next"],
}
SCHEMAS: list[dict[str, Any]] = [
    {
        "type": "object",
        "properties": {"a": {"type": "string", "minLength": 30, "maxLength": 32}},
        "required": ["a", "b"],
    },
    {"type": "array", "items": {"type": "integer", "minimum": 5, "maximum": 6}, "minItems": 3},
    {"type": "array", "prefixItems": [{"const": 1}, {"type": "boolean"}], "items": False},
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    {"type": "integer", "multipleOf": 7, "minimum": 50},
    {"type": "integer", "maximum": -10},
    {"type": ["null", "string"], "format": "uuid"},
    {"enum": [1, "two", None]},
    {"oneOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]},
    {
        "allOf": [{"$ref": "#/$defs/a"}, {"properties": {"y": {"type": "boolean"}}, "required": ["y"]}],
        "type": "object",
        "$defs": {"a": {"properties": {"x": {"type": "integer"}}, "required": ["x"]}},
    },
    {"$ref": "#/$defs/node", "$defs": {"node": NODE}},
    {"properties": {"free": {}, "any": True}, "required": ["free", "any"]},
    {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 2},
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
@given(seed=st.integers(0, 2**32))
def test_values_fit_their_schema(schema: dict[str, Any], seed: int) -> None:
    value = Sampler(schema, random.Random(seed), ["word", "other"]).value()
    jsonschema_rs.validator_for(schema, validate_formats=True).validate(value)


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "wish"}, "unrecognized type wish"),
        ({"$ref": "#/$defs/none"}, "leads nowhere"),
        ({"$ref": "#"}, "recursion without end"),
    ],
)
def test_schemas_that_cannot_be_followed(schema: dict[str, Any], text: str) -> None:
    with pytest.raises(SchemaError, match=text):
        Sampler(schema, random.Random(0), []).value()


@given(st.text())
def test_tokens_join_to_the_text(text: str) -> None:
    assert "".join(tokenise(text)) == text


@given(st.text(max_size=80), st.integers(1, 300), st.integers())
def test_a_composed_text_has_the_asked_length_also_when_read_again(opening: str, length: int, seed: int) -> None:
    tokens = compose(opening.strip(), length, random.Random(seed))
    assert len(tokens) == length == len(tokenise("".join(tokens)))


def test_directives() -> None:
    assert [asked_length(text) for text in ("x", "[tokens=3] y", "[tokens=0]", "[tokens=999999]")] == [
        None,
        3,
        1,
        100_000,
    ]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5m", 300), ("1h30m", 5400), ("-1m", -60), ("0", 0), ("1.5s", 1.5), ("250ms", 0.25), ("+2s", 2)],
)
def test_go_durations(text: str, seconds: float) -> None:
    assert parse_go_duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "words"),
    [("300", "missing unit"), ("-1", "missing unit"), ("5x", 'unknown unit "x"'), ("", "invalid"), ("s", "invalid")],
)
def test_what_is_not_a_go_duration(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_go_duration_s(text)


def test_full_and_shown_names() -> None:
    assert full_name("Llama3.2") == "registry.ollama.ai/library/llama3.2:latest"
    assert full_name("hf.co/Acme/Thing:Q4") == "hf.co/acme/thing:q4"
    assert shown_name(full_name("acme/thing")) == "acme/thing:latest"


@pytest.mark.parametrize("name", ["", "a b", "a/b/c/d", "x:", "-x", "x:y:z", "big:cloud", "big:8b-cloud"])
def test_what_is_not_a_local_name(name: str) -> None:
    with pytest.raises(ApiError):
        full_name(name)
