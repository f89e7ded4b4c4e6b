"""Canonical requests as Ollama's JSON: golden bodies."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from shared.backends import ollama_requests
from shared.errors import BackendRejected
from shared.wire.canonical import ChatRequest, CompletionRequest, EmbeddingRequest, Message, Sampling, ToolCall

WEATHER = {
    "type": "function",
    "function": {"name": "weather", "description": "Weather", "parameters": {"type": "object", "properties": {}}},
}


def chat(**fields: Any) -> Any:
    fields.setdefault("messages", [Message(role="user", content="hi")])
    return msgspec.json.decode(ollama_requests.chat_body(ChatRequest(model="llama3.2", **fields)))


def test_a_plain_chat_says_only_what_was_asked() -> None:
    assert chat() == {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}], "stream": True}


@pytest.mark.req("S2-44", "S3-02")
def test_a_full_chat_maps_every_field() -> None:
    body = chat(
        messages=[
            Message(role="system", content="be brief"),
            Message(role="user", content="look", images=["aGk="]),
            Message(
                role="assistant",
                thinking="hm",
                tool_calls=[
                    ToolCall(id="call_1", name="weather", arguments='{"city": "Cusco"}'),
                    ToolCall(id="call_2", name="time", arguments=""),
                ],
            ),
            Message(role="tool", content="12 C", tool_call_id="call_1"),
            Message(role="tool", content="noon", tool_call_id="call_2", tool_name="clock"),
        ],
        sampling=Sampling(
            temperature=0.5,
            top_p=0.9,
            max_tokens=7,
            stop=["END"],
            seed=3,
            presence_penalty=0.1,
            frequency_penalty=0.2,
            options={"num_ctx": 4096, "temperature": 1.5, "top_k": 10},
        ),
        tools=[WEATHER],
        format={"type": "object"},
        think="low",
        logprobs=True,
        top_logprobs=2,
        keep_alive="5m",
    )
    assert body == {
        "model": "llama3.2",
        "stream": True,
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "look", "images": ["aGk="]},
            {
                "role": "assistant",
                "content": "",
                "thinking": "hm",
                "tool_calls": [
                    {"id": "call_1", "function": {"index": 0, "name": "weather", "arguments": {"city": "Cusco"}}},
                    {"id": "call_2", "function": {"index": 1, "name": "time", "arguments": {}}},
                ],
            },
            {"role": "tool", "content": "12 C", "tool_call_id": "call_1", "tool_name": "weather"},
            {"role": "tool", "content": "noon", "tool_call_id": "call_2", "tool_name": "clock"},
        ],
        "options": {
            "num_ctx": 4096,
            "top_k": 10,
            "temperature": 0.5,
            "top_p": 0.9,
            "num_predict": 7,
            "stop": ["END"],
            "seed": 3,
            "presence_penalty": 0.1,
            "frequency_penalty": 0.2,
        },
        "tools": [WEATHER],
        "format": {"type": "object"},
        "think": "low",
        "logprobs": True,
        "top_logprobs": 2,
        "keep_alive": "5m",
    }


def test_a_completion_maps_its_own_fields() -> None:
    request = CompletionRequest(
        model="codellama", prompt="def f(", suffix="return 1", sampling=Sampling(max_tokens=0), format="json"
    )
    assert msgspec.json.decode(ollama_requests.generate_body(request, default_keep_alive="10m")) == {
        "model": "codellama",
        "prompt": "def f(",
        "suffix": "return 1",
        "stream": True,
        "format": "json",
        "options": {"num_predict": 0},
        "keep_alive": "10m",
    }


def test_an_embedding_maps_its_own_fields() -> None:
    request = EmbeddingRequest(model="nomic", inputs=["a", "b"], dimensions=64, truncate=False, keep_alive=-1)
    assert msgspec.json.decode(ollama_requests.embed_body(request)) == {
        "model": "nomic",
        "input": ["a", "b"],
        "truncate": False,
        "dimensions": 64,
        "keep_alive": -1,
    }


@pytest.mark.parametrize(
    ("given", "sent"),
    [("300", 300.0), ("-1", -1.0), (" 0.5 ", 0.5), ("5m", "5m"), ("1h30m", "1h30m"), (0, 0), (2.5, 2.5), (None, None)],
)
def test_bare_seconds_become_numbers_and_durations_stay(given: str | float | None, sent: str | float | None) -> None:
    assert ollama_requests.keep_alive_value(given) == sent


def test_a_request_beats_the_default_keep_alive_even_with_zero() -> None:
    request = CompletionRequest(model="m", prompt="p", keep_alive=0)
    assert msgspec.json.decode(ollama_requests.generate_body(request, default_keep_alive="10m"))["keep_alive"] == 0


@pytest.mark.parametrize("think", [True, False, "high"])
def test_think_is_sent_only_when_asked_for(think: Any) -> None:
    assert chat(think=think)["think"] == think
    assert "think" not in chat()


def test_a_bare_stop_among_the_extras_becomes_a_list() -> None:
    assert chat(sampling=Sampling(options={"stop": "END"}))["options"] == {"stop": ["END"]}


def test_wrong_types_among_the_extras_are_passed_on_for_the_server_to_refuse() -> None:
    assert chat(sampling=Sampling(options={"num_ctx": "many"}))["options"] == {"num_ctx": "many"}


@pytest.mark.parametrize("arguments", ["not json", "[1]", '"text"', "{", '{"a": 1} x', "[" * 100_000])
def test_tool_arguments_that_are_no_object_are_the_callers_fault_and_name_the_field(arguments: str) -> None:
    call = ToolCall(id="c", name="f", arguments=arguments)
    with pytest.raises(BackendRejected) as caught:
        chat(messages=[Message(role="user"), Message(role="assistant", tool_calls=[call])])
    assert caught.value.param == "messages[1].tool_calls[0].function.arguments"


@pytest.mark.parametrize("value", ["\ud800", {1, object()}])
def test_what_json_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(BackendRejected):
        chat(sampling=Sampling(options={"x": value}))
