"""The plain reading of a chat says what the full reading says, or nothing."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.json import Decoder

from shared.errors import BadRequest
from shared.jobs import Kind
from shared.wire.codec import decode_request, encode
from shared.wire.json_body import parse_json
from shared.wire.openai import ChatCompletionBody, to_chat, validate
from shared.wire.openai_plain import PlainChat, read_plain

HI = [{"role": "user", "content": "hi"}]
CHATS = Decoder(PlainChat)

SOMETIMES_FITTING: dict[str, st.SearchStrategy[Any]] = {
    "model": st.sampled_from(["m", "llama3.2:3b", "hf.co/a/b:Q4", "a b", "", "m\n", "../x", "é", "x" * 257, 1, None]),
    "messages": st.lists(
        st.fixed_dictionaries(
            {"role": st.sampled_from(["user", "system", "assistant", "developer", "tool", "x", None])},
            optional={
                "content": st.one_of(st.text(), st.none(), st.just([{"type": "text", "text": "t"}]), st.integers()),
                "name": st.one_of(st.text(), st.none()),
                "extra": st.booleans(),
            },
        ),
        max_size=3,
    )
    | st.none()
    | st.just({}),
    "stream": st.sampled_from([True, False, None, 0, "true"]),
    "stream_options": st.sampled_from([None, {}, {"include_usage": True}, {"include_usage": 1}, {"other": 1}, []]),
    **dict.fromkeys(
        ["temperature", "top_p", "presence_penalty", "frequency_penalty"],
        st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.floats(-3, 3), st.just("1")),
    ),
    **dict.fromkeys(
        ["max_tokens", "max_completion_tokens", "seed"],
        st.one_of(
            st.none(),
            st.booleans(),
            st.sampled_from([1.0, 1.5, -(2**63), 2**63 - 1, 2**63, 2**64, 1_000_001, 1e19]),
            st.integers(-2, 5),
        ),
    ),
    "n": st.sampled_from([1, 2, None]),
    "stop": st.sampled_from(["a", ["a"], None]),
    "user": st.text(max_size=3),
}
bodies = st.fixed_dictionaries(
    {"model": st.just("m") | SOMETIMES_FITTING["model"], "messages": st.just(HI) | SOMETIMES_FITTING["messages"]},
    optional={name: value for name, value in SOMETIMES_FITTING.items() if name not in ("model", "messages")},
)


def in_full(body: bytes) -> ChatCompletionBody:
    return validate(ChatCompletionBody, parse_json(body))


def agree(body: bytes) -> bool:
    """Whether the plain reading took the body; if so, it must have read what the full reading reads."""
    plain = read_plain(CHATS, body)
    if plain is None:
        return False
    full = in_full(body)
    assert (plain.model, plain.streams, plain.includes_usage) == (full.model, full.streams, full.includes_usage)
    stored = msgspec.Raw(encode(plain.to_canonical()))
    assert decode_request(Kind.CHAT, stored) == to_chat(full)
    return True


@given(bodies)
def test_what_the_plain_reading_takes_the_full_one_takes_and_means_the_same(body: dict[str, Any]) -> None:
    agree(json.dumps(body).encode())


@given(st.text('{}[]":,\\u0dtmodelsgruc \n\x00é', max_size=60))
def test_no_text_is_taken_that_the_full_reading_refuses(text: str) -> None:
    agree(b'{"model":"m","messages":[{"role":"user","content":"' + text.encode() + b'"}]}')


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"stream": True, "stream_options": {"include_usage": True}},
        {"temperature": 1, "top_p": 0.5, "presence_penalty": -2, "frequency_penalty": 2.0},
        {"max_tokens": 5, "max_completion_tokens": 7, "seed": 2**63 - 1},
        {"messages": [{"role": "system", "content": ""}, *HI, {"role": "assistant", "content": "ho"}]},
    ],
    ids=str,
)
def test_the_usual_bodies_are_plain(more: dict[str, Any]) -> None:
    assert agree(json.dumps({"model": "llama3.2:3b", "messages": HI, **more}).encode())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"model":"m"}',
        b'{"model":"m","messages":[]}',
        b'{"model":"m","messages":[{"role":"user","content":"a\\u0000b"}]}',
        b'{"model":"m","messages":[{"role":"user","content":"\\ud800"}]}',
        b'{"model":"m","messages":[{"role":"user","content":"\xff"}]}',
        b'{"model":"m/../x y","messages":[{"role":"user","content":"a"}]}',
        b'{"model":"m","messages":[{"role":"user","content":"a"}]} x',
        b'{"model":"m","messages":[{"role":"user","content":"a"}],"temperature":3}',
        b"[" * 100_000,
    ],
    ids=lambda body: body[:70].decode(errors="replace"),
)
def test_a_fault_is_left_to_the_full_reading_to_explain(body: bytes) -> None:
    assert read_plain(CHATS, body) is None
    with pytest.raises(BadRequest):
        in_full(body)
