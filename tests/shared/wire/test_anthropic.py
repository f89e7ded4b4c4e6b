"""Bodies of Anthropic's face: what is taken, how it is understood, what is refused and in what words."""

from __future__ import annotations

from typing import Any

import pytest

from shared.errors import BadRequest
from shared.wire.anthropic import AnthropicMessagesBody, to_chat
from shared.wire.canonical import ChatRequest, Message, Sampling, ToolCall
from shared.wire.openai_validation import validate

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
LEAST: dict[str, Any] = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
TOOL = {"name": "get_weather", "description": "Weather", "input_schema": {"type": "object", "properties": {}}}
CANONICAL_TOOL = {
    "type": "function",
    "function": {"name": "get_weather", "description": "Weather", "parameters": {"type": "object", "properties": {}}},
}


def asked(**more: Any) -> ChatRequest:
    return to_chat(validate(AnthropicMessagesBody, {**LEAST, **more}))


def test_the_least_body() -> None:
    assert asked() == ChatRequest(
        model="m", messages=[Message(role="user", content="hi")], sampling=Sampling(max_tokens=5)
    )
    assert not validate(AnthropicMessagesBody, LEAST).streams


@pytest.mark.req("S3-12", "S3-24", "C18")
def test_a_full_body() -> None:
    request = asked(
        system=[
            {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}},
            {"type": "text", "text": "Now."},
        ],
        messages=[
            {"role": "user", "content": [IMAGE, {"type": "text", "text": "What"}, {"type": "text", "text": "is it?"}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "abc"},
                    {"type": "redacted_thinking", "data": "xyz"},
                    {"type": "text", "text": "Look."},
                    {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Lima"}},
                    {"type": "tool_use", "id": "toolu_2", "name": "get_time", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "toolu_1", "content": "sunny"},
                    {"type": "tool_result", "tool_use_id": "toolu_2", "is_error": True,
                     "content": [{"type": "text", "text": "no clock"}, IMAGE]},
                    {"type": "text", "text": "And?"},
                ],
            },
        ],
        tools=[TOOL],
        tool_choice={"type": "auto"},
        temperature=0.5, top_p=0.9, top_k=3, stop_sequences=["END", ""],
        thinking={"type": "enabled", "budget_tokens": 2048},
        output_config={"effort": "xhigh", "format": {"type": "json_schema", "schema": {"type": "object"}}},
        metadata={"user_id": "u"}, service_tier="auto",
    )  # fmt: skip
    assert request == ChatRequest(
        model="m",
        messages=[
            Message(role="system", content="Be brief.\nNow."),
            Message(role="user", content="What\nis it?", images=[PIXEL]),
            Message(
                role="assistant",
                content="Look.",
                thinking="hm",
                tool_calls=[
                    ToolCall(id="toolu_1", name="get_weather", arguments='{"city":"Lima"}'),
                    ToolCall(id="toolu_2", name="get_time", arguments="{}"),
                ],
            ),
            Message(role="tool", content="sunny", tool_call_id="toolu_1", tool_name="get_weather"),
            Message(
                role="tool",
                content="The tool failed: no clock",
                images=[PIXEL],
                tool_call_id="toolu_2",
                tool_name="get_time",
            ),
            Message(role="user", content="And?"),
        ],
        sampling=Sampling(temperature=0.5, top_p=0.9, max_tokens=5, stop=["END"], options={"top_k": 3}),
        tools=[CANONICAL_TOOL],
        format={"type": "object"},
        think="max",
    )


SIGNED = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}


@pytest.mark.parametrize(
    ("blocks", "signature"),
    [
        ([SIGNED], "c2ln"),
        ([SIGNED, SIGNED], ""),
        ([SIGNED, {"type": "redacted_thinking", "data": "xyz"}], ""),
        ([{"type": "thinking", "thinking": "hm"}], ""),
    ],
)
def test_thinking_in_one_piece_keeps_its_signature(blocks: list[Any], signature: str) -> None:
    answer = {"role": "assistant", "content": [*blocks, {"type": "text", "text": "a"}]}
    said = asked(messages=[{"role": "user", "content": "?"}, answer]).messages[1]
    assert (said.signature, said.thinking[:2], said.content) == (signature, "hm", "a")


@pytest.mark.parametrize(
    ("choice", "offered"),
    [
        (None, 1),
        ({"type": "auto", "disable_parallel_tool_use": True}, 1),
        ({"type": "any"}, 1),
        ({"type": "none"}, 0),
        ({"type": "tool", "name": "get_weather"}, 1),
    ],
)
def test_which_tools_are_offered(choice: Any, offered: int) -> None:
    assert len(asked(tools=[TOOL], tool_choice=choice).tools) == offered


@pytest.mark.parametrize(
    ("thinking", "expected"),
    [
        (None, None),
        ({"type": "adaptive"}, None),
        ({"type": "disabled"}, False),
        ({"type": "between_tools"}, False),
        ({"type": "enabled", "budget_tokens": 1024}, True),
        ({"type": "enabled"}, True),
    ],
)
def test_thinking(thinking: Any, expected: bool | None) -> None:
    assert asked(thinking=thinking).think is expected


def test_a_system_message_in_the_middle_stays_there() -> None:
    messages = [*LEAST["messages"], {"role": "system", "content": "Now in verse."}, {"role": "user", "content": "go"}]
    assert [turn.role for turn in asked(messages=messages).messages] == ["user", "system", "user"]


def turn(*blocks: Any, role: str = "user") -> dict[str, Any]:
    return {"messages": [{"role": role, "content": list(blocks)}]}


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"max_tokens": None}, "max_tokens", "integer"),
        ({"max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
        ({"temperature": 1.5}, "temperature", "less than or equal to 1"),
        ({"messages": []}, "messages", "at least 1"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role", "one of user, assistant, system"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "a string or a list of content blocks"),
        (turn({"type": "document", "source": {}}), "messages[0].content[0]", "documents"),
        (turn({"type": "image", "source": {"type": "url", "url": "http://x"}}),
         "messages[0].content[0].source", "not fetched"),
        (turn({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "%%%%"}}),
         "messages[0].content[0].source.data", "base64"),
        (turn({"type": "tool_result", "tool_use_id": "t", "content": [{"type": "document"}]}),
         "messages[0].content[0].content[0]", "`text` or `image`"),
        (turn({"type": "tool_use", "id": "t", "name": "f", "input": []}, role="assistant"),
         "messages[0].content[0].input", "dictionary"),
        ({"tools": [{"type": "web_search_20260209", "name": "web_search"}]}, "tools[0].type", "the service itself"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "other"}}, "tool_choice", "not among"),
        ({"model": "http://x"}, "model", "not a model name"),
    ],
)  # fmt: skip
def test_what_is_refused(body: dict[str, Any], param: str, words: str) -> None:
    with pytest.raises(BadRequest) as caught:
        asked(**body)
    assert caught.value.param == param
    assert words in caught.value.message
    assert "~" not in str(caught.value.param), "how unions are told apart is no part of a path"
