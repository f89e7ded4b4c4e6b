"""Ollama's bodies in canonical form, and back in the form in which a model host gets them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from pydantic import BaseModel

from shared.backends import ollama_requests
from shared.errors import BadRequest
from shared.wire.canonical import Message, ToolCall
from shared.wire.ollama import (
    OllamaChatBody,
    OllamaEmbedBody,
    OllamaEmbeddingsBody,
    OllamaGenerateBody,
    OllamaShowBody,
    to_chat,
    to_completion,
    to_embedding,
    to_one_embedding,
)
from shared.wire.openai_validation import validate

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
TOOL = {
    "type": "function",
    "function": {"name": "weather", "description": "Now", "parameters": {"type": "object", "properties": {}}},
}
CALL = {"id": "call_1", "function": {"index": 0, "name": "weather", "arguments": {"city": "Lima", "days": [1, 2]}}}
SAMPLING = {
    **{"temperature": 0.5, "top_p": 0.9, "num_predict": 7, "stop": ["END"], "seed": 3},
    **{"presence_penalty": 0.1, "frequency_penalty": 0.2, "num_ctx": 4096, "top_k": 10},
}
CHAT: dict[str, Any] = {
    "model": "llama3.2",
    "messages": [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "look", "images": [PIXEL]},
        {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": [CALL]},
        {"role": "tool", "content": "12 C", "tool_call_id": "call_1", "tool_name": "weather"},
    ],
    "tools": [TOOL],
    "options": SAMPLING,
    "format": {"type": "object"},
    "think": "low",
    "truncate": False,
    "logprobs": True,
    "top_logprobs": 2,
    "stream": True,
}
GENERATE: dict[str, Any] = {
    "model": "llama3.2",
    "prompt": "def f(",
    "suffix": "return 1",
    "system": "be brief",
    "images": [PIXEL],
    "options": SAMPLING,
    "format": "json",
    "think": False,
    "stream": True,
}
EMBED: dict[str, Any] = {
    "model": "nomic-embed-text",
    "input": ["a", "b"],
    "truncate": False,
    "dimensions": 64,
    "options": {"num_ctx": 512},
}


def upstream(body: bytes) -> Any:
    return msgspec.json.decode(body)


@pytest.mark.parametrize("change", [{}, {"think": True}, {"format": "json"}, {"options": {"num_predict": -1}}])
def test_a_chat_reaches_the_host_as_it_was_sent(change: dict[str, Any]) -> None:
    sent = {**CHAT, **change}
    assert upstream(ollama_requests.chat_body(to_chat(validate(OllamaChatBody, sent)))) == sent


@pytest.mark.parametrize("change", [{}, {"system": "", "raw": True}])
def test_a_generate_reaches_the_host_as_it_was_sent(change: dict[str, Any]) -> None:
    sent = {**GENERATE, **change}
    expected = {name: value for name, value in sent.items() if value != ""}
    assert upstream(ollama_requests.generate_body(to_completion(validate(OllamaGenerateBody, sent)))) == expected


def test_an_embed_reaches_the_host_as_it_was_sent() -> None:
    assert upstream(ollama_requests.embed_body(to_embedding(validate(OllamaEmbedBody, EMBED)))) == EMBED


def test_the_older_embedding_is_one_of_the_newer() -> None:
    asked = to_one_embedding(validate(OllamaEmbeddingsBody, {"model": "m", "prompt": "a"}))
    assert upstream(ollama_requests.embed_body(asked)) == {"model": "m", "input": ["a"], "truncate": True}


@pytest.mark.parametrize(("given", "inputs"), [({}, []), ({"input": ""}, []), ({"input": "a"}, ["a"])])
def test_one_text_or_none(given: dict[str, Any], inputs: list[str]) -> None:
    assert to_embedding(validate(OllamaEmbedBody, {"model": "m", **given})).inputs == inputs


def test_messages_as_old_and_careless_clients_send_them() -> None:
    calls = [{"function": {"name": "f"}}]
    sent = [{"role": "User", "content": None}, {"role": "assistant", "tool_calls": calls}, {"role": "tool"}]
    body = validate(OllamaChatBody, {"model": "m", "messages": sent, "tools": None, "format": "", "options": None})
    assert to_chat(body).messages == [
        Message(role="user"),
        Message(role="assistant", tool_calls=[ToolCall(id="", name="f", arguments="{}")]),
        Message(role="tool"),
    ]
    assert to_chat(body).format is None


@pytest.mark.parametrize("keep_alive", [0, -1, 300, 0.5, "5m", "1h30m", "-1m", "0", "24h"])
def test_keep_alive_is_taken_and_not_followed(keep_alive: object) -> None:
    body = validate(OllamaChatBody, {"model": "m", "messages": [{"role": "user"}], "keep_alive": keep_alive})
    assert to_chat(body).keep_alive is None
    assert not body.unloads


@pytest.mark.parametrize(
    ("keep_alive", "unloads"), [(0, True), (0.0, True), ("0", True), ("0s", True), ("10m", False), (-1, False)]
)
def test_what_asks_for_nothing_but_to_load_or_unload(keep_alive: object, unloads: bool) -> None:
    for body in (
        validate(OllamaChatBody, {"model": "m", "messages": [], "keep_alive": keep_alive, "stream": True}),
        validate(OllamaGenerateBody, {"model": "m", "keep_alive": keep_alive, "stream": True}),
    ):
        assert body.only_loads
        assert not body.streams
        assert body.unloads is unloads
    assert not validate(OllamaGenerateBody, {"model": "m"}).unloads
    assert not validate(OllamaGenerateBody, {"model": "m", "suffix": "b"}).only_loads


USER = {"role": "user", "content": "hi"}


@pytest.mark.parametrize(
    ("model_cls", "change", "field", "says"),
    [
        (OllamaChatBody, {"model": None}, "model", "string"),
        (OllamaChatBody, {"messages": [{"role": "developer"}]}, "messages[0].role", "one of system"),
        (OllamaChatBody, {"messages": [{**USER, "content": [{"type": "text"}]}]}, "messages[0].content", "string"),
        (OllamaChatBody, {"messages": [{**USER, "images": ["a?"]}]}, "messages[0].images[0]", "base64"),
        (OllamaChatBody, {"messages": [{**USER, "images": [f"data:image/png;base64,{PIXEL}"]}]}, "", "without"),
        (OllamaChatBody, {"messages": [{**USER, "images": [""]}]}, "messages[0].images[0]", "no image"),
        (OllamaChatBody, {"think": "much"}, "think", "low, medium, high, max"),
        (OllamaChatBody, {"format": "xml"}, "format", "JSON schema"),
        (OllamaChatBody, {"keep_alive": "300"}, "keep_alive", '"5m"'),
        (OllamaChatBody, {"keep_alive": True}, "keep_alive", "seconds"),
        (OllamaChatBody, {"top_logprobs": 21}, "top_logprobs", "20"),
        (OllamaChatBody, {"options": {"num_ctx": "big"}}, "options.num_ctx", "integer"),
        (OllamaChatBody, {"shift": False}, "shift", "must be true"),
        (OllamaGenerateBody, {"context": [1]}, "context", "/api/chat"),
        (OllamaGenerateBody, {"template": "{{ .Prompt }}"}, "template", "raw"),
        (OllamaEmbedBody, {"input": [1, 2]}, "input", "text or a list of texts"),
        (OllamaEmbedBody, {"dimensions": -1}, "dimensions", "0"),
        (OllamaShowBody, {"model": "../x"}, "model", "model name"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(
    model_cls: type[BaseModel], change: dict[str, Any], field: str, says: str
) -> None:
    with pytest.raises(BadRequest) as caught:
        validate(model_cls, {"model": "m", **change})
    assert says in caught.value.message
    assert (caught.value.param or "").endswith(field)


def test_what_older_clients_always_send_is_let_through() -> None:
    sent = {"model": "m", "prompt": "a", "template": "", "context": [], "system": "", "suffix": "", "shift": True}
    assert to_completion(validate(OllamaGenerateBody, sent)).prompt == "a"


def test_a_raw_prompt_has_no_system_text() -> None:
    with pytest.raises(BadRequest, match="system"):
        to_completion(validate(OllamaGenerateBody, {"model": "m", "prompt": "a", "raw": True, "system": "b"}))
