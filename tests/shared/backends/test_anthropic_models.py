"""What differs from model to model: thinking, sampling, and how an answer in JSON is asked for."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from shared.backends.anthropic_models import PLAIN, Traits, WithoutThinking, traits
from shared.backends.anthropic_requests import ANSWER_TOOL, chat_body
from shared.backends.anthropic_schema import narrowed
from shared.wire.canonical import ChatRequest, Message, Sampling, Think, ToolCall

OLD, BUDGETED, ADAPTIVE, NEW = "claude-3-haiku-20240307", "claude-sonnet-4-5", "claude-opus-4-6", "claude-opus-5-5"
ASK = ChatRequest(model=ADAPTIVE, messages=[Message(role="user", content="hi")])
WEATHER: dict[str, Any] = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
CITY: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 9}}}


def body(request: ChatRequest) -> Any:
    return msgspec.json.decode(chat_body(request).body)


@pytest.mark.parametrize(
    ("model", "think", "sent"),
    [
        (ADAPTIVE, None, {}),
        (BUDGETED, False, {}),
        (BUDGETED, True, {"thinking": {"type": "enabled", "budget_tokens": 8192}, "max_tokens": 4096 + 8192}),
        (BUDGETED, "low", {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 4096 + 1024}),
        (ADAPTIVE, True, {"thinking": {"type": "adaptive"}}),
        (ADAPTIVE, "max", {"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}),
        (NEW, True, {"thinking": {"type": "adaptive", "display": "summarized"}}),
        (NEW, False, {"output_config": {"effort": "low"}}),
        ("claude-opus-5", False, {"thinking": {"type": "disabled"}}),
        ("claude-sonnet-5-5", False, {"thinking": {"type": "between_tools"}}),
    ],
)
def test_each_model_is_told_to_think_in_its_own_words(model: str, think: Think, sent: dict[str, Any]) -> None:
    told = body(replace(ASK, model=model, think=think))
    got = {name: told[name] for name in ("thinking", "output_config", "max_tokens") if name in told}
    assert got == {"max_tokens": 4096, **sent}


def test_a_budget_fits_into_the_callers_limit() -> None:
    sent = body(replace(ASK, model=BUDGETED, think="max", sampling=Sampling(max_tokens=2000)))
    assert (sent["thinking"]["budget_tokens"], sent["max_tokens"]) == (1999, 2000)


def test_thinking_by_budget_does_not_begin_in_the_middle_of_tool_calls() -> None:
    """Such a model would ask for the thoughts before the call, which were signed for someone else."""
    call = Message(role="assistant", tool_calls=[ToolCall(id="x", name="a", arguments="{}")])
    messages = [*ASK.messages, call, Message(role="tool", content="y", tool_call_id="x")]
    assert "thinking" not in body(replace(ASK, model=BUDGETED, think=True, messages=messages))
    assert "thinking" in body(replace(ASK, model=ADAPTIVE, think=True, messages=messages))


@pytest.mark.parametrize(
    ("model", "sampling", "think", "sent"),
    [
        (ADAPTIVE, Sampling(temperature=1.7), None, {"temperature": 1.0}),
        (ADAPTIVE, Sampling(top_p=0.3), None, {"top_p": 0.3}),
        (ADAPTIVE, Sampling(temperature=0.0, top_p=0.3), None, {"temperature": 0.0}),
        (ADAPTIVE, Sampling(temperature=0.2), True, {}),
        (NEW, Sampling(temperature=0.2, top_p=0.3, options={"top_k": 4}), None, {}),
        (ADAPTIVE, Sampling(options={"top_k": 0}), None, {}),
    ],
)
def test_sampling_goes_where_the_model_takes_it(
    model: str, sampling: Sampling, think: Think, sent: dict[str, Any]
) -> None:
    told = body(replace(ASK, model=model, sampling=sampling, think=think))
    assert {name: told[name] for name in ("temperature", "top_p", "top_k") if name in told} == sent


def test_a_schema_is_sent_as_such_or_as_a_tool() -> None:
    new = chat_body(replace(ASK, format=CITY))
    assert not new.answers_by_tool
    assert msgspec.json.decode(new.body)["output_config"] == {
        "format": {
            "type": "json_schema",
            "schema": {
                "type": "object",
                "properties": {"city": {"type": "string", "description": "maxLength: 9"}},
                "additionalProperties": False,
            },
        }
    }
    old = chat_body(replace(ASK, model=OLD, format=CITY, think=True))
    sent = msgspec.json.decode(old.body)
    assert old.answers_by_tool
    assert sent["tools"][0] == {"name": ANSWER_TOOL, "description": "Gives the final answer.", "input_schema": CITY}
    assert sent["tool_choice"] == {"type": "tool", "name": ANSWER_TOOL, "disable_parallel_tool_use": True}
    assert "thinking" not in sent, "a forced tool and thinking exclude each other"
    assert chat_body(replace(ASK, format="json")).answers_by_tool, "a schema of any object is not to be had"
    both = body(replace(ASK, model=OLD, format="json", tools=[WEATHER]))
    assert [tool["name"] for tool in both["tools"]] == ["get_weather", ANSWER_TOOL]
    assert both["tool_choice"]["type"] == "any"


def test_a_schema_loses_only_words_and_keeps_what_was_given() -> None:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "description": "A list",
        "type": "object",
        "properties": {
            "tags": {"type": "array", "items": {"type": "string", "format": "date"}, "minItems": 2},
            "either": {"oneOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]},
            "ref": {"$ref": "#/$defs/Leaf"},
        },
        "required": ["tags"],
        "additionalProperties": True,
        "$defs": {"Leaf": {"type": "object", "properties": {}, "patternProperties": {}}},
    }
    given = msgspec.json.encode(schema)
    assert narrowed(schema) == {
        "description": "A list",
        "type": "object",
        "properties": {
            "tags": {"type": "array", "items": {"type": "string", "format": "date"}, "description": "minItems: 2"},
            "either": {"anyOf": [{"type": "integer", "description": "minimum: 1"}, {"type": "null"}]},
            "ref": {"$ref": "#/$defs/Leaf"},
        },
        "required": ["tags"],
        "additionalProperties": False,
        "$defs": {
            "Leaf": {
                "type": "object",
                "properties": {},
                "additionalProperties": False,
                "description": "patternProperties: {}",
            }
        },
    }
    assert msgspec.json.encode(schema) == given


def _traits(samples: bool, adapts: bool, takes_schema: bool, without: WithoutThinking, shows: bool = False) -> Traits:
    return Traits(
        samples=samples,
        adapts=adapts,
        shows_thinking=shows or samples,
        takes_schema=takes_schema,
        without_thinking=without,
    )


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("claude-2.1", PLAIN),
        ("claude-instant-1.2", PLAIN),
        ("claude-3-opus-20240229", PLAIN),
        ("claude-3-7-sonnet-latest", PLAIN),
        ("claude-sonnet-4-20250514", PLAIN),
        ("claude-opus-4-1-20250805", PLAIN),
        ("claude-haiku-4-5-20251001", _traits(True, False, True, "omit")),
        ("claude-opus-4-6", _traits(True, True, True, "omit")),
        ("anthropic/claude-sonnet-4.6", _traits(True, True, True, "omit")),
        ("us.anthropic.claude-opus-4-6-v1", _traits(True, True, True, "omit")),
        ("claude-opus-4-7", _traits(False, True, True, "omit")),
        ("claude-sonnet-5", _traits(False, True, True, "disabled")),
        ("claude-haiku-5-5", _traits(False, True, True, "disabled")),
        ("claude-sonnet-5-5", _traits(False, True, True, "between_tools")),
        ("claude-opus-5-5", _traits(False, True, True, "low_effort")),
        ("claude-opus-6", _traits(False, True, True, "low_effort")),
        ("claude-fable-5", _traits(False, True, True, "low_effort")),
        ("claude-mythos-preview", _traits(False, True, True, "low_effort")),
        ("glm-4.6", PLAIN),
        ("deepseek-chat", PLAIN),
        ("claude-", PLAIN),
    ],
)
def test_a_name_tells_what_its_model_takes(model: str, expected: Traits) -> None:
    assert traits(model) == expected
