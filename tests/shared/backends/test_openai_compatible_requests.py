"""Canonical requests as OpenAI bodies: the whole body of each, and what each preset changes in it."""

from __future__ import annotations

from typing import Any

import pytest

from shared.backends.openai_quirks import QUIRKS, Quirks
from shared.errors import BackendRejected
from shared.wire.canonical import ChatRequest, CompletionRequest, EmbeddingRequest, Message, Sampling, ToolCall
from shared.wire.openai_upstream import as_chat, chat_body, completion_body, embedding_body, is_plain, is_strict

PLAIN = Quirks()
HI = [Message(role="user", content="hi")]
PNG, JPEG = "iVBORw0KGgoAAAA=", "/9j/4AAQ"
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
STRICT = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}


def chat(quirks: Quirks = PLAIN, *, stream: bool = True, model: str = "m", **fields: Any) -> dict[str, Any]:
    return chat_body(ChatRequest(model=model, **{"messages": HI, **fields}), quirks, stream=stream)


def test_a_chat_asks_for_a_stream_and_its_token_counts() -> None:
    assert chat() == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert chat(stream=False)["stream"] is False
    assert "stream_options" not in chat(stream=False)


def test_sampling_has_the_dialects_names() -> None:
    sampling = Sampling(
        temperature=0.0, top_p=0.9, max_tokens=7, stop=["END"], seed=1, presence_penalty=-1.0, frequency_penalty=0.5
    )
    body = chat(sampling=sampling, logprobs=True, top_logprobs=2, tools=[WEATHER])
    assert body == {
        **chat(),
        "temperature": 0.0,
        "top_p": 0.9,
        "max_tokens": 7,
        "stop": ["END"],
        "seed": 1,
        "presence_penalty": -1.0,
        "frequency_penalty": 0.5,
        "logprobs": True,
        "top_logprobs": 2,
        "tools": [WEATHER],
    }


def test_ollamas_options_go_where_they_are_known_and_nowhere_else() -> None:
    options = {"num_ctx": 4096, "top_k": 5, "repeat_penalty": 1.1, "num_predict": 9, "temperature": 0.3, "stop": "x"}
    request: dict[str, Any] = {"sampling": Sampling(options=options, temperature=0.7), "keep_alive": "5m"}
    known = {"temperature": 0.7, "stop": "x"}
    # The named temperature beats the option of the same name; keep_alive and num_ctx are Ollama's own.
    assert chat(**request) == {**chat(), **known, "max_tokens": 9}
    assert chat(QUIRKS["vllm"], **request) == {
        **chat(),
        **known,
        "max_tokens": 9,
        "top_k": 5,
        "repetition_penalty": 1.1,
    }
    assert chat(QUIRKS["openai"], model="gpt-4o", **request) == {
        **chat(model="gpt-4o"),
        **known,
        "max_completion_tokens": 9,
    }


@pytest.mark.parametrize("limit", [-1, -2, 0])
def test_no_limit_is_said_by_saying_none(limit: int) -> None:
    assert chat(sampling=Sampling(options={"num_predict": limit})) == chat()
    # GPT4All would stop after 16 tokens by itself.
    sampling = Sampling(options={"num_predict": limit})
    assert chat(QUIRKS["gpt4all"], stream=False, sampling=sampling)["max_tokens"] == 4096


@pytest.mark.parametrize(
    ("model", "is_fixed"),
    [("o1", True), ("o4-mini", True), ("gpt-5-mini", True), ("gpt-5-chat-latest", False), ("gpt-4o", False)],
)
def test_models_with_fixed_sampling_are_not_sent_any(model: str, is_fixed: bool) -> None:
    sampling = Sampling(temperature=0.2, stop=["x"], seed=3, max_tokens=5)
    body = chat(QUIRKS["openai"], model=model, sampling=sampling, logprobs=True, think="high")
    assert (body.keys() & {"temperature", "stop", "logprobs"} == set()) is is_fixed
    assert (body["seed"], body["max_completion_tokens"]) == (3, 5)
    assert ("reasoning_effort" in body) is is_fixed


THINKING: list[tuple[str, Any, dict[str, Any]]] = [
    ("openai", True, {"reasoning_effort": "medium"}),
    ("openai", False, {"reasoning_effort": "low"}),
    ("openai", "max", {"reasoning_effort": "high"}),
    ("openrouter", False, {"reasoning": {"enabled": False}}),
    ("openrouter", "low", {"reasoning": {"effort": "low"}}),
    ("llamacpp", False, {"chat_template_kwargs": {"enable_thinking": False}}),
    ("vllm", "high", {"chat_template_kwargs": {"enable_thinking": True, "reasoning_effort": "high"}}),
    ("lm_studio", True, {}),
    ("openai", None, {}),
]


@pytest.mark.parametrize(("preset", "think", "sent"), THINKING)
def test_the_wish_to_think(preset: str, think: Any, sent: dict[str, Any]) -> None:
    body = chat(QUIRKS[preset], model="o3", think=think)
    assert {name: body[name] for name in body.keys() - chat(model="o3").keys()} == sent


def schema_sent(schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, **more}}


def test_json_and_schemas() -> None:
    assert chat(format="json")["response_format"] == {"type": "json_object"}
    # LM Studio answers 400 to json_object.
    assert chat(QUIRKS["lm_studio"], format="json")["response_format"] == schema_sent({"type": "object"})
    assert chat(format={"type": "object"})["response_format"] == schema_sent({"type": "object"})
    # llama-cpp-python answers 500 to json_schema.
    older = chat(QUIRKS["llama_cpp_python"], format=STRICT)["response_format"]
    assert older == {"type": "json_object", "schema": STRICT}
    assert chat(format=STRICT)["response_format"] == schema_sent(STRICT, strict=True)


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        (STRICT, True),
        ({"type": "integer"}, True),
        ({**STRICT, "required": []}, False),
        ({**STRICT, "required": 5}, False),
        ({**STRICT, "required": [{}]}, False),
        ({**STRICT, "properties": 5}, False),
        ({**STRICT, "minProperties": 1}, False),
        ({**STRICT, "properties": {"n": {"type": "array", "items": {"type": "object"}}}}, False),
        ({**STRICT, "additionalProperties": True}, False),
        ({**STRICT, "properties": {"n": {"type": "object", "properties": {}}}}, False),
        ({"anyOf": [STRICT, {"type": "object"}]}, False),
        ({**STRICT, "$defs": {"a": STRICT}}, True),
    ],
)
def test_a_schema_is_sent_as_strict_only_if_it_is(schema: dict[str, Any], strict: bool) -> None:
    assert is_strict(schema) is strict


@pytest.mark.parametrize("fields", [{"tools": [WEATHER]}, {"format": "json"}, {"format": STRICT}])
def test_what_a_service_would_ignore_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(BackendRejected) as refused:
        chat(QUIRKS["gpt4all"], stream=False, **fields)
    assert refused.value.param in ("tools", "response_format")


def test_gpt4all_is_told_a_limit_since_its_own_is_16_tokens() -> None:
    body = chat(QUIRKS["gpt4all"], stream=False)
    assert body == {**chat(stream=False), "max_tokens": 4096}


def test_a_conversation_with_images_and_tools() -> None:
    call = ToolCall(id="call_a", name="weather", arguments='{"city":"Puno"}')
    messages = [
        Message(role="system", content="Be brief."),
        Message(role="user", content="What is it?", images=[PNG, JPEG]),
        Message(role="assistant", thinking="Hm.", tool_calls=[call]),
        Message(role="tool", content="12 C", tool_call_id="call_a", tool_name="weather"),
        Message(role="assistant", content="Cold.", thinking="So."),
    ]
    sent = chat(messages=messages)["messages"]
    assert sent == [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is it?"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
                {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{JPEG}"}},
            ],
        },
        {
            "role": "assistant",
            "tool_calls": [
                {"id": "call_a", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Puno"}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "call_a", "content": "12 C"},
        {"role": "assistant", "content": "Cold."},
    ]
    with_thoughts = chat(QUIRKS["llamacpp"], messages=messages)["messages"]
    assert [message.get("reasoning_content") for message in with_thoughts] == [None, None, "Hm.", None, "So."]


def test_results_find_their_calls_where_the_client_sends_no_ids() -> None:
    messages = [
        Message(
            role="assistant",
            tool_calls=[ToolCall(id="", name=name, arguments="") for name in ("weather", "time", "time")],
        ),
        Message(role="tool", content="noon", tool_name="time"),
        Message(role="tool", content="12 C", tool_name="weather"),
        Message(role="tool", content="1 pm"),
    ]
    sent = chat(messages=messages)["messages"]
    assert [call["id"] for call in sent[0]["tool_calls"]] == ["call_0_0", "call_0_1", "call_0_2"]
    assert [message["tool_call_id"] for message in sent[1:]] == ["call_0_1", "call_0_0", "call_0_2"]


def test_a_tools_images_follow_its_results_in_the_users_name() -> None:
    messages = [
        Message(role="assistant", tool_calls=[ToolCall(id=i, name="look", arguments="{}") for i in ("a", "b")]),
        Message(role="tool", content="one", tool_call_id="a", images=[PNG]),
        Message(role="tool", content="two", tool_call_id="b", images=[JPEG]),
    ]
    sent = chat(messages=messages)["messages"]
    assert [message["role"] for message in sent] == ["assistant", "tool", "tool", "user"]
    assert [part["type"] for part in sent[-1]["content"]] == ["image_url", "image_url"]


def test_a_prompt_goes_to_completions() -> None:
    request = CompletionRequest(
        model="m", prompt="6*7=", suffix="!", sampling=Sampling(max_tokens=2), logprobs=True, top_logprobs=3
    )
    assert is_plain(request, PLAIN)
    assert completion_body(request, QUIRKS["openai"], stream=True) == {
        "model": "m",
        "prompt": "6*7=",
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 2,
        "suffix": "!",
        "logprobs": 3,
    }


@pytest.mark.parametrize("fields", [{"system": "s"}, {"images": [PNG]}, {"format": "json"}, {"think": False}])
def test_a_prompt_with_what_only_a_chat_can_hold_goes_there(fields: dict[str, Any]) -> None:
    request = CompletionRequest(model="m", prompt="p", **fields)
    assert not is_plain(request, PLAIN)
    assert as_chat(request).messages[-1].content == "p"


def test_models_without_completions_are_asked_in_a_chat() -> None:
    quirks = QUIRKS["openai"]
    assert is_plain(CompletionRequest(model="gpt-3.5-turbo-instruct", prompt="p"), quirks)
    request = CompletionRequest(model="gpt-4o", prompt="p", system="s", sampling=Sampling(max_tokens=1))
    assert not is_plain(request, quirks)
    assert chat_body(as_chat(request), quirks, stream=True) == {
        "model": "gpt-4o",
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "p"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_completion_tokens": 1,
    }
    with pytest.raises(BackendRejected, match="suffix"):
        as_chat(CompletionRequest(model="gpt-4o", prompt="p", suffix="s"))


def test_an_embedding_request() -> None:
    request = EmbeddingRequest(model="e", inputs=["a", "b"], dimensions=8, options={"num_ctx": 1}, keep_alive=0)
    assert embedding_body(request, PLAIN) == {
        "model": "e",
        "input": ["a", "b"],
        "encoding_format": "float",
        "dimensions": 8,
    }
    assert embedding_body(request, QUIRKS["vllm"])["encoding_format"] == "base64"
