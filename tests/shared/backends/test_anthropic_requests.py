"""Canonical requests as bodies of the Messages API."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from shared.backends.anthropic_requests import DEFAULT_MAX_TOKENS, chat_body, completion_body
from shared.errors import BackendRejected
from shared.wire.canonical import ChatRequest, CompletionRequest, Message, Sampling, ToolCall

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
OLD, BUDGETED, ADAPTIVE, NEW = "claude-3-haiku-20240307", "claude-sonnet-4-5", "claude-opus-4-6", "claude-opus-5-5"
ASK = ChatRequest(model=ADAPTIVE, messages=[Message(role="user", content="hi")])
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather at a place",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def body(request: ChatRequest) -> Any:
    return msgspec.json.decode(chat_body(request).body)


@pytest.mark.req("S3-03", "S3-12", "S3-24", "S4-09", "C18")
def test_a_full_conversation_maps_every_field() -> None:
    request = ChatRequest(
        model=ADAPTIVE,
        messages=[
            Message(role="system", content="Be brief."),
            Message(role="user", content="What is this, and how is the weather there?", images=[PIXEL]),
            Message(
                role="assistant",
                content="A pixel.",
                thinking="unsigned, so it stays here",
                tool_calls=[ToolCall(id="call_1", name="get_weather", arguments='{"city":"Lima"}')],
            ),
            Message(role="tool", content="sunny", tool_call_id="call_1", tool_name="get_weather"),
            Message(role="user", content="And tomorrow?"),
        ],
        sampling=Sampling(
            temperature=0.5, top_p=0.9, max_tokens=100, stop=["END"], seed=3, options={"top_k": 5, "num_ctx": 9}
        ),
        tools=[WEATHER],
    )
    assert body(request) == {
        "model": ADAPTIVE,
        "max_tokens": 100,
        "stream": True,
        "system": "Be brief.",
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
                    {"type": "text", "text": "What is this, and how is the weather there?"},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "A pixel."},
                    {"type": "tool_use", "id": "call_1", "name": "get_weather", "input": {"city": "Lima"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "call_1", "content": [{"type": "text", "text": "sunny"}]},
                    {"type": "text", "text": "And tomorrow?"},
                ],
            },
        ],
        "stop_sequences": ["END"],
        "temperature": 0.5,
        "top_k": 5,
        "tools": [
            {
                "name": "get_weather",
                "description": "Weather at a place",
                "input_schema": WEATHER["function"]["parameters"],  # type: ignore[index]
            }
        ],
    }


def test_a_limit_on_tokens_is_sent_for_callers_without_one() -> None:
    assert body(ASK)["max_tokens"] == DEFAULT_MAX_TOKENS


def test_neighbours_of_one_role_become_one_turn_and_empty_text_none() -> None:
    said = [("user", "a"), ("user", "b"), ("assistant", " \n"), ("user", "c"), ("assistant", "d"), ("assistant", "e")]
    messages = [Message(role=role, content=content) for role, content in said]  # type: ignore[arg-type]
    turns = body(replace(ASK, messages=messages))["messages"]
    assert [(turn["role"], [block["text"] for block in turn["content"]]) for turn in turns] == [
        ("user", ["a", "b", "c"]),
        ("assistant", ["d", "e"]),
    ]


def test_system_messages_are_gathered_wherever_they_stand() -> None:
    messages = [Message(role="system", content="one"), *ASK.messages, Message(role="system", content="two")]
    sent = body(replace(ASK, messages=messages))
    assert sent["system"] == "one\n\ntwo"
    assert len(sent["messages"]) == 1


def test_tool_calls_without_ids_are_paired_with_their_answers() -> None:
    """Ollama's clients send no ids: the name tells, and where there is none, the order."""
    calls = [ToolCall(id="", name=name, arguments="{}") for name in ("a", "b", "c")]
    answers = [
        Message(role="tool", content="of b", tool_name="b"),
        Message(role="tool", content="of a"),
        Message(role="tool", content=""),
    ]
    messages = [*ASK.messages, Message(role="assistant", tool_calls=calls), *answers]
    _, called, answered = body(replace(ASK, messages=messages))["messages"]
    ids = [block["id"] for block in called["content"]]
    assert len(set(ids)) == 3
    assert [block["tool_use_id"] for block in answered["content"]] == [ids[1], ids[0], ids[2]]
    assert "content" not in answered["content"][2]


def test_ids_get_letters_that_the_api_takes() -> None:
    call = ToolCall(id="call:1/é", name="a", arguments="{}")
    answer = Message(role="tool", content="x", tool_call_id="call:1/é")
    turns = body(replace(ASK, messages=[*ASK.messages, Message(role="assistant", tool_calls=[call]), answer]))
    assert turns["messages"][1]["content"][0]["id"] == "call_1__"
    assert turns["messages"][2]["content"][0]["tool_use_id"] == "call_1__"


def test_results_come_first_in_the_users_turn_whatever_was_said_between() -> None:
    call = Message(role="assistant", tool_calls=[ToolCall(id="x", name="a", arguments="{}")])
    messages = [*ASK.messages, call, Message(role="user", content="wait"), Message(role="tool", content="y")]
    assert [block["type"] for block in body(replace(ASK, messages=messages))["messages"][2]["content"]] == [
        "tool_result",
        "text",
    ]


@pytest.mark.parametrize(
    ("message", "param"),
    [
        (Message(role="user", images=["AAAA"]), "messages[1].images[0]"),
        (Message(role="system", images=[PIXEL]), "messages[1].images"),
        (Message(role="assistant", images=[PIXEL]), "messages[1].images"),
        (Message(role="tool", content="x", tool_call_id="nobody"), "messages[1].tool_call_id"),
        (
            Message(role="assistant", tool_calls=[ToolCall(id="x", name="a", arguments="[]")]),
            "messages[1].tool_calls[0].function.arguments",
        ),
    ],
)
def test_what_has_no_place_is_refused_by_its_name(message: Message, param: str) -> None:
    with pytest.raises(BackendRejected) as caught:
        chat_body(replace(ASK, messages=[*ASK.messages, message]))
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (replace(ASK, logprobs=True), "logprobs"),
        (replace(ASK, messages=[Message(role="system", content="only this")]), "messages"),
        (replace(ASK, messages=[]), "messages"),
        (replace(ASK, model=NEW, format="json"), "response_format"),
        (replace(ASK, model=OLD, format={"type": "array"}), "response_format"),
        (replace(ASK, model=BUDGETED, think=True, sampling=Sampling(max_tokens=1024)), "max_tokens"),
    ],
)
def test_requests_that_cannot_be_honoured_are_refused(request_: ChatRequest, param: str) -> None:
    with pytest.raises(BackendRejected) as caught:
        chat_body(request_)
    assert caught.value.param == param


def test_a_prompt_is_a_conversation_of_one_turn() -> None:
    prompt = CompletionRequest(model=ADAPTIVE, prompt="Once", system="A tale", images=[PIXEL])
    sent = msgspec.json.decode(completion_body(prompt).body)
    assert sent["system"] == "A tale"
    assert [block["type"] for block in sent["messages"][0]["content"]] == ["image", "text"]
    for refused, param in (({"suffix": "end"}, "suffix"), ({"raw": True}, "raw")):
        with pytest.raises(BackendRejected) as caught:
            completion_body(replace(prompt, **refused))
        assert caught.value.param == param


def calling(signature: str, model: str = BUDGETED, **more: Any) -> ChatRequest:
    """A conversation in which the model has called a tool, and has its answer."""
    call = ToolCall(id="call_1", name="get_weather", arguments="{}")
    turns = [
        Message(role="assistant", content="Well.", thinking="of old", signature="b2xk"),
        Message(role="user", content="And the weather?"),
        Message(role="assistant", thinking="hm", signature=signature, tool_calls=[call]),
        Message(role="tool", content="sunny", tool_call_id="call_1"),
    ]
    return ChatRequest(model=model, messages=[*ASK.messages, *turns], tools=[WEATHER], **more)


@pytest.mark.parametrize(("model", "mode"), [(BUDGETED, "enabled"), (ADAPTIVE, "adaptive")])
def test_what_led_to_a_call_goes_back_signed_and_the_model_thinks_on(model: str, mode: str) -> None:
    sent = body(calling("c2ln", model, think=True))
    earlier, latest = (turn["content"] for turn in sent["messages"] if turn["role"] == "assistant")
    assert latest[0] == {"type": "thinking", "thinking": "hm", "signature": "c2ln"}
    assert [block["type"] for block in (*earlier, *latest)] == ["text", "thinking", "tool_use"]
    assert sent["thinking"]["type"] == mode


@pytest.mark.parametrize("think", [None, False])
def test_a_model_that_is_not_asked_to_think_gets_none_of_it(think: bool | None) -> None:
    assert b"c2ln" not in chat_body(calling("c2ln", think=think)).body


def test_without_a_signature_a_model_with_a_budget_does_not_think_on() -> None:
    sent = body(calling("", think=True))
    assert "thinking" not in sent
    assert [block["type"] for block in sent["messages"][3]["content"]] == ["tool_use"]
