"""OpenAI bodies into canonical requests, and the complaints about what does not fit."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import BadRequest
from shared.wire.canonical import ChatRequest, Message, Sampling, ToolCall
from shared.wire.openai import (
    ChatCompletionBody,
    CompletionBody,
    EmbeddingBody,
    to_chat,
    to_completion,
    to_embedding,
    validate,
)

PNG = base64.b64encode(b"\x89PNG not really").decode()
HI = [{"role": "user", "content": "hi"}]
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
CLOCK = {"type": "function", "function": {"name": "clock", "description": "now", "strict": True}}


def chat(**fields: Any) -> ChatRequest:
    return to_chat(validate(ChatCompletionBody, {"model": "llama3.2:3b", "messages": HI} | fields))


def complaint(model: Any, fields: dict[str, Any]) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        body = validate(model, {"model": "m"} | fields)
        if isinstance(body, ChatCompletionBody):
            to_chat(body)
    assert caught.value.http_status == 400
    return caught.value


def test_plain_chat() -> None:
    assert chat() == ChatRequest(model="llama3.2:3b", messages=[Message(role="user", content="hi")])


def test_sampling_fields() -> None:
    asked = chat(
        temperature=1,
        top_p=0.5,
        max_tokens=10,
        max_completion_tokens=20.0,
        stop="END",
        seed=-1,
        presence_penalty=-2,
        frequency_penalty=2,
        options={"num_ctx": 4096, "top_k": None, "stop": ["a"], "made_up": "x"},
        keep_alive="1h30m",
    )
    assert asked.keep_alive == "1h30m"
    assert asked.sampling == Sampling(
        temperature=1.0,
        top_p=0.5,
        max_tokens=20,
        stop=["END"],
        seed=-1,
        presence_penalty=-2.0,
        frequency_penalty=2.0,
        options={"num_ctx": 4096, "stop": ["a"]},
    )


def test_empty_stop_strings_mean_no_stop() -> None:
    assert chat(stop="").sampling.stop == []
    assert chat(stop=["", "x"]).sampling.stop == ["x"]


def test_nulls_and_unknown_fields_are_ignored() -> None:
    ignored = {"user": "u", "store": True, "metadata": {"a": 1}, "service_tier": "auto", "logit_bias": {"1": 2}}
    nulls = dict.fromkeys(
        ["temperature", "top_p", "max_tokens", "stop", "seed", "n", "tools", "tool_choice", "response_format", "stream"]
    )
    assert chat(**ignored, **nulls) == chat()


def test_roles_and_parts() -> None:
    asked = chat(
        messages=[
            {"role": "developer", "content": "be brief"},
            {"role": "system", "content": [{"type": "text", "text": "be"}, {"type": "text", "text": "kind"}]},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "what is this?"},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "low"}},
                    {"type": "image_url", "image_url": f"data:image/webp;base64,{PNG}"},
                ],
            },
            {"role": "assistant", "content": None, "reasoning": "hm", "refusal": "no"},
        ]
    )
    assert asked.messages == [
        Message(role="system", content="be brief"),
        Message(role="system", content="be\nkind"),
        Message(role="user", content="what is this?", images=[PNG, PNG]),
        Message(role="assistant", content="no", thinking="hm"),
    ]


def test_tool_history_keeps_ids_and_names_the_answers() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Lima"}'}}
    bare = {"id": "call_2", "function": {"name": "clock", "arguments": " "}}
    asked = chat(
        messages=[
            {"role": "assistant", "tool_calls": [call, bare]},
            {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
            {"role": "tool", "tool_call_id": "call_9", "name": "own", "content": [{"type": "text", "text": "t"}]},
            {"role": "assistant", "content": "", "function_call": {"name": "old", "arguments": "{}"}},
            {"role": "function", "name": "old", "content": "done"},
        ]
    )
    assert asked.messages == [
        Message(
            role="assistant",
            tool_calls=[
                ToolCall(id="call_1", name="weather", arguments='{"city": "Lima"}'),
                ToolCall(id="call_2", name="clock", arguments="{}"),
            ],
        ),
        Message(role="tool", content="sunny", tool_call_id="call_1", tool_name="weather"),
        Message(role="tool", content="t", tool_call_id="call_9", tool_name="own"),
        Message(role="assistant", tool_calls=[ToolCall(id="", name="old", arguments="{}")]),
        Message(role="tool", content="done", tool_name="old"),
    ]


@pytest.mark.parametrize(
    ("choice", "offered"),
    [
        (None, ["weather", "clock"]),
        ("auto", ["weather", "clock"]),
        ("required", ["weather", "clock"]),
        ("none", []),
        ({"type": "function", "function": {"name": "clock"}}, ["clock"]),
    ],
)
def test_tool_choice(choice: object, offered: list[str]) -> None:
    asked = chat(tools=[WEATHER, CLOCK], tool_choice=choice)
    assert [tool["function"]["name"] for tool in asked.tools] == offered


def test_a_tool_without_parameters_takes_none() -> None:
    function = {"name": "clock", "description": "now", "parameters": {"type": "object", "properties": {}}}
    assert chat(tools=[CLOCK]).tools == [{"type": "function", "function": function}]


@pytest.mark.parametrize(
    ("asked", "format_"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, "json"),
        ({"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}, {"type": "object"}),
    ],
)
def test_response_format(asked: object, format_: object) -> None:
    assert chat(response_format=asked).format == format_


@pytest.mark.parametrize(
    ("effort", "think"),
    [("none", False), ("minimal", "low"), ("low", "low"), ("medium", "medium"), ("high", "high"), ("xhigh", "max")],
)
def test_reasoning_effort(effort: str, think: object) -> None:
    assert chat(reasoning_effort=effort).think == think
    assert chat(reasoning={"effort": effort}).think == think
    assert chat().think is None


def test_logprobs() -> None:
    assert (chat(logprobs=True, top_logprobs=20).logprobs, chat(logprobs=True, top_logprobs=20).top_logprobs) == (
        True,
        20,
    )
    assert chat().logprobs is False


def test_stream_flags() -> None:
    body = validate(
        ChatCompletionBody, {"model": "m", "messages": HI, "stream": True, "stream_options": {"include_usage": True}}
    )
    assert (body.streams, body.includes_usage) == (True, True)
    body = validate(ChatCompletionBody, {"model": "m", "messages": HI, "stream": None})
    assert (body.streams, body.includes_usage) == (False, False)


@pytest.mark.parametrize("prompt", ["once", ["once"]])
def test_completion(prompt: object) -> None:
    asked = to_completion(
        validate(
            CompletionBody, {"model": "m", "prompt": prompt, "suffix": "end", "max_tokens": 3, "logprobs": 0, "n": 1}
        )
    )
    assert (asked.prompt, asked.suffix, asked.sampling.max_tokens) == ("once", "end", 3)
    assert (asked.logprobs, asked.top_logprobs) == (True, 0)


@pytest.mark.parametrize("given_input", ["a", ["a"]])
def test_embedding(given_input: object) -> None:
    asked = to_embedding(validate(EmbeddingBody, {"model": "m", "input": given_input, "dimensions": 8}))
    assert (asked.inputs, asked.dimensions, asked.truncate) == (["a"], 8, True)


@pytest.mark.parametrize(
    "name",
    [
        "llama3.2:3b",
        "ollama~llama3.2:3b",
        "ollama:llama2",
        "openrouter:anthropic/claude-3.5-sonnet",
        "hf.co/org/Some-Model-GGUF:Q4_K_M",
        "m@sha256:abc",
        "phi:2.7b",
        "x" * 256,
    ],
)
def test_model_names(name: str) -> None:
    assert chat(model=name).model == name


@pytest.mark.req("S0-39")
@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ({}, "messages", "required"),
        ({"messages": None}, "messages", "list"),
        ({"messages": []}, "messages", "at least 1"),
        ({"messages": "hi"}, "messages", "list"),
        ({"messages": HI * 10_001}, "messages", "10000"),
        ({"messages": [1]}, "messages[0]", "role and content"),
        ({"messages": [*HI, {"role": "robot", "content": "x"}]}, "messages[1].role", "assistant"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "messages[0].role", "user"),
        ({"messages": [{"content": "x"}]}, "messages[0].role", "required"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "required"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content", "string or a list"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0]", "audio"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text", "required"),
        ({"model": "http://evil/x"}, "model", "model name"),
        ({"model": "../../etc/passwd"}, "model", "model name"),
        ({"model": "a/../b"}, "model", "model name"),
        ({"model": "/a"}, "model", "model name"),
        ({"model": "registry:5000/a/b"}, "model", "model name"),
        ({"model": "a\r\nx: y"}, "model", "model name"),
        ({"model": "a\n"}, "model", "model name"),
        ({"model": "llam\u0430"}, "model", "model name"),
        ({"model": "*"}, "model", "model name"),
        ({"model": ""}, "model", "at least 1"),
        ({"model": "x" * 10_000}, "model", "256"),
        ({"model": None}, "model", "string"),
        ({"n": 2}, "n", "several requests"),
        ({"n": True}, "n", "several requests"),
        ({"temperature": "1"}, "temperature", "number"),
        ({"temperature": 2.1}, "temperature", "not 2.1"),
        ({"temperature": True}, "temperature", "number"),
        ({"max_tokens": 0}, "max_tokens", "not 0"),
        ({"max_tokens": 1.5}, "max_tokens", "integer"),
        ({"max_tokens": 10**18}, "max_tokens", "1000000"),
        ({"top_logprobs": 21}, "top_logprobs", "20"),
        ({"stream": "yes"}, "stream", "boolean"),
        ({"stream_options": []}, "stream_options", ""),
        ({"stop": ["x"] * 17}, "stop", "16"),
        ({"stop": [1]}, "stop[0]", "string"),
        ({"keep_alive": True}, "keep_alive", "5m"),
        ({"keep_alive": "300"}, "keep_alive", "5m"),
        ({"keep_alive": 1e300}, "keep_alive", "5m"),
        ({"keep_alive": -2}, "keep_alive", "5m"),
        ({"options": {"num_ctx": 10**9}}, "options.num_ctx", "1000000"),
        ({"options": {"num_ctx": "4096"}}, "options.num_ctx", "integer"),
        ({"options": {"stop": [[]]}}, "options.stop[0]", "string"),
        ({"options": [1]}, "options", ""),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type", "function"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name", "pattern"),
        ({"tool_choice": "any"}, "tool_choice", "required"),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice", "not among"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "json_schema"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "required"),
        ({"functions": [{"name": "f"}]}, "functions", "tools"),
        ({"reasoning_effort": "huge"}, "reasoning_effort", "medium"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_chat_complaints_name_the_field(fields: dict[str, Any], param: str, says: str) -> None:
    base: dict[str, Any] = {} if not fields or "messages" in fields else {"messages": HI}
    error = complaint(ChatCompletionBody, base | fields)
    assert error.param == param
    assert says in error.message
    assert len(error.message) < 400


@pytest.mark.parametrize("url", ["http://x/y.png", "HTTPS://x/y", "file:///etc/passwd", "data:image/gif;base64,AA=="])
def test_images_are_never_fetched(url: str) -> None:
    part = {"type": "image_url", "image_url": {"url": url}}
    error = complaint(ChatCompletionBody, {"messages": [{"role": "user", "content": [part]}]})
    assert error.param == "messages[0].content[0].image_url.url"
    assert "data:image/" in error.message


@pytest.mark.parametrize("encoded", ["", "A", "AAA", "AA=A", "A A=", "AAAA\n", "????"])
def test_images_must_be_base64(encoded: str) -> None:
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + encoded}}
    error = complaint(ChatCompletionBody, {"messages": [{"role": "user", "content": [part]}]})
    assert error.param == "messages[0].content[0].image_url.url"


@pytest.mark.parametrize("arguments", ["{", "[]", "nonsense", "[" * 5000])
def test_earlier_calls_must_hold_objects(arguments: str) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    error = complaint(ChatCompletionBody, {"messages": [{"role": "assistant", "tool_calls": [call]}]})
    assert error.param == "messages[0].tool_calls[0].function.arguments"


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ({}, "prompt", "required"),
        ({"prompt": [1, 2]}, "prompt", "token ids"),
        ({"prompt": [[1, 2]]}, "prompt", "token ids"),
        ({"prompt": ["a", "b"]}, "prompt", "each prompt"),
        ({"prompt": []}, "prompt", "each prompt"),
        ({"prompt": "a", "echo": True}, "echo", "echo"),
        ({"prompt": "a", "best_of": 2}, "best_of", "best_of"),
        ({"prompt": "a", "n": 3}, "n", "several"),
        ({"prompt": "a", "logprobs": True}, "logprobs", "integer"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_completion_complaints(fields: dict[str, Any], param: str, says: str) -> None:
    error = complaint(CompletionBody, fields)
    assert (error.param, says in error.message) == (param, True), error.message


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ({}, "input", "required"),
        ({"input": None}, "input", "list"),
        ({"input": [[15339, 1917]]}, "input", "check_embedding_ctx_length=False"),
        ({"input": [15339]}, "input", "check_embedding_ctx_length=False"),
        ({"input": []}, "input", "at least 1"),
        ({"input": ""}, "input[0]", "at least 1"),
        ({"input": ["a", ""]}, "input[1]", "at least 1"),
        ({"input": ["a"] * 2049}, "input", "2048"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format", "base64"),
        ({"input": "a", "dimensions": 0}, "dimensions", "not 0"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_embedding_complaints(fields: dict[str, Any], param: str, says: str) -> None:
    error = complaint(EmbeddingBody, fields)
    assert (error.param, says in error.message) == (param, True), error.message


@pytest.mark.parametrize("data", [None, [], "x", 1])
def test_the_body_is_an_object(data: object) -> None:
    with pytest.raises(BadRequest, match="JSON object"):
        validate(ChatCompletionBody, data)


def test_texts_are_not_quoted_back() -> None:
    error = complaint(ChatCompletionBody, {"messages": HI, "temperature": "my secret"})
    assert "secret" not in error.message


# A small alphabet: drawing from all of Unicode is slow and would find nothing more here.
scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text("a{%\n")
keys = st.sampled_from(["role", "content", "type", "text", "function", "name", "url"])
junk = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=8
)
FACES: list[tuple[Any, Any]] = [
    (ChatCompletionBody, to_chat),
    (CompletionBody, to_completion),
    (EmbeddingBody, to_embedding),
]
FIELDS = sorted({field for model, _ in FACES for field in model.model_fields} - {"model"})


@given(st.dictionaries(st.sampled_from(FIELDS), junk, max_size=6), st.sampled_from(FACES))
def test_junk_gives_a_request_or_a_bad_request(fields: dict[str, Any], face: tuple[Any, Any]) -> None:
    model, to_canonical = face
    try:
        request = to_canonical(validate(model, {"model": "m", "messages": HI, "prompt": "p", "input": "i"} | fields))
    except BadRequest:
        return
    # What is accepted can travel: it comes out of msgpack as it went in.
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(request), type=type(request)) == request
