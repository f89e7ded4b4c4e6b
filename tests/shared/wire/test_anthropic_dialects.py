"""One question in three dialects: each pair, both ways, over the canonical form."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.backends.anthropic_requests import chat_body
from shared.backends.ollama_requests import chat_body as ollama_body
from shared.backends.openai_quirks import Quirks
from shared.wire import anthropic, ollama, openai
from shared.wire.canonical import ChatRequest, Message, Sampling, ToolCall
from shared.wire.openai_upstream import chat_body as openai_body
from shared.wire.openai_validation import validate

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
MODEL = "claude-opus-4-6"
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}}
FUNCTION = {"type": "function", "function": {"name": "get_weather", "description": "W", "parameters": SCHEMA}}

IN_ANTHROPIC: dict[str, Any] = {
    "model": MODEL,
    "max_tokens": 64,
    "stream": True,
    "system": "Be brief.",
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
                {"type": "text", "text": "Weather here?"},
            ],
        },
        {"role": "assistant", "content": [
            {"type": "tool_use", "id": "call_1", "name": "get_weather", "input": {"city": "Lima"}}]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "call_1", "content": [{"type": "text", "text": "sunny"}]}]},
    ],
    "temperature": 0.5,
    "stop_sequences": ["END"],
    "tools": [{"name": "get_weather", "description": "W", "input_schema": SCHEMA}],
}  # fmt: skip
IN_OPENAI: dict[str, Any] = {
    "model": MODEL,
    "max_tokens": 64,
    "messages": [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Weather here?"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
            ],
        },
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Lima"}'}}]},
        {"role": "tool", "content": "sunny", "tool_call_id": "call_1"},
    ],
    "temperature": 0.5,
    "stop": ["END"],
    "tools": [FUNCTION],
}  # fmt: skip
IN_OLLAMA: dict[str, Any] = {
    "model": MODEL,
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather here?", "images": [PIXEL]},
        {"role": "assistant", "content": "", "tool_calls": [
            {"id": "call_1", "function": {"index": 0, "name": "get_weather", "arguments": {"city": "Lima"}}}]},
        {"role": "tool", "content": "sunny", "tool_call_id": "call_1", "tool_name": "get_weather"},
    ],
    "options": {"num_predict": 64, "temperature": 0.5, "stop": ["END"]},
    "tools": [FUNCTION],
}  # fmt: skip


def from_anthropic(body: dict[str, Any]) -> ChatRequest:
    return anthropic.to_chat(validate(anthropic.AnthropicMessagesBody, body))


CANONICAL = {
    "anthropic": from_anthropic(IN_ANTHROPIC),
    "openai": openai.to_chat(validate(openai.ChatCompletionBody, IN_OPENAI)),
    "ollama": ollama.to_chat(validate(ollama.OllamaChatBody, IN_OLLAMA)),
}


@pytest.mark.req("S3-24", "C18")
@pytest.mark.parametrize("face", CANONICAL)
def test_from_every_face_to_the_messages_api(face: str) -> None:
    assert msgspec.json.decode(chat_body(CANONICAL[face]).body) == IN_ANTHROPIC


@pytest.mark.req("S3-24", "C18")
def test_from_the_messages_api_to_ollama() -> None:
    sent = msgspec.json.decode(ollama_body(CANONICAL["anthropic"]))
    assert sent == {**IN_OLLAMA, "stream": True}


@pytest.mark.req("C18")
def test_from_the_messages_api_to_openai() -> None:
    sent = msgspec.json.decode(msgspec.json.encode(openai_body(CANONICAL["anthropic"], Quirks(), stream=False)))
    kept = {name: sent[name] for name in IN_OPENAI}
    assert openai.to_chat(validate(openai.ChatCompletionBody, kept)) == CANONICAL["openai"]


WORDS = st.text(min_size=1, max_size=12).filter(lambda text: bool(text.strip()))
NAMES = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)
ARGUMENTS = st.dictionaries(NAMES, st.integers(-9, 9) | WORDS, max_size=2).map(
    lambda value: msgspec.json.encode(value).decode()
)


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    """What a chat of this API can hold: turns that alternate, each call answered at once, no images but the user's."""
    messages = [Message(role="system", content=draw(WORDS))] if draw(st.booleans()) else []
    images = st.lists(st.just(PIXEL), max_size=2)
    messages.append(Message(role="user", content=draw(WORDS), images=draw(images)))
    for turn in range(draw(st.integers(0, 3))):
        names = draw(st.lists(NAMES, max_size=2))
        calls = [
            ToolCall(id=f"call-{turn}_{at}", name=name, arguments=draw(ARGUMENTS)) for at, name in enumerate(names)
        ]
        messages.append(Message(role="assistant", content=draw(WORDS), tool_calls=calls))
        messages += [
            Message(role="tool", content=draw(WORDS), images=draw(images), tool_call_id=call.id, tool_name=call.name)
            for call in calls
        ]
        if not calls or draw(st.booleans()):
            messages.append(Message(role="user", content=draw(WORDS)))
    return messages


@given(
    conversations(),
    st.builds(
        Sampling,
        temperature=st.none() | st.floats(0, 1, width=32),
        max_tokens=st.integers(1, 9999),
        stop=st.lists(WORDS, max_size=2),
        options=st.just({}) | st.integers(1, 99).map(lambda top_k: {"top_k": top_k}),
    ),
    st.booleans(),
    st.none() | st.just(SCHEMA | {"additionalProperties": False}),
)
def test_what_the_backend_writes_the_face_reads(
    messages: list[Message], sampling: Sampling, with_tools: bool, schema: dict[str, Any] | None
) -> None:
    """Canonical -> body of the service -> canonical changes nothing that the API has words for."""
    request = ChatRequest(
        model=MODEL, messages=messages, sampling=sampling, tools=[FUNCTION] if with_tools else [], format=schema
    )
    assert from_anthropic(msgspec.json.decode(chat_body(request).body)) == request
