"""OpenAI answers as canonical ones: streams of several servers, as they were seen, and what is no answer."""

from __future__ import annotations

import json
import struct
from base64 import b64encode
from typing import Any

import pytest

from shared.errors import (
    AnswerIncomplete,
    ArrieroError,
    BackendBusy,
    BackendFault,
    BackendProtocolError,
    BackendRejected,
)
from shared.wire.canonical import Delta, EmbeddingRequest, Finish, Timings, ToolCall, Usage, unpack_vector
from shared.wire.openai_upstream_answers import DONE, AnswerReader, event_data, read_embedding

ASKED = EmbeddingRequest(model="e", inputs=["a", "b"])


def said(reason: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


def read(*chunks: dict[str, Any], announced: bool = True) -> list[Delta | Finish]:
    reader = AnswerReader("m", "/chat/completions", "sk-secret-key")
    deltas = [reader.read(json.dumps(chunk).encode()) for chunk in chunks]
    calls, finish = reader.end(was_announced=announced)
    return [*(delta for delta in (*deltas, calls) if delta is not None), finish]


def piece(index: int | None = 0, call_id: str | None = None, name: str | None = None, arguments: Any = None) -> Any:
    fields = {"index": index, "id": call_id, "function": {"name": name, "arguments": arguments}}
    return said(tool_calls=[{name: value for name, value in fields.items() if value is not None}])


def test_openais_stream() -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}
    items = read(said(role="assistant", content=""), said(content="Hel"), said(content="lo"), said("stop"), usage)
    assert items == [
        Delta("Hel"),
        Delta("lo"),
        Finish(reason="stop", usage=Usage(prompt_tokens=3, completion_tokens=2)),
    ]


def test_llama_cpps_stream_has_its_own_measurements() -> None:
    timings = {"prompt_n": 22, "prompt_ms": 500.0, "predicted_n": 12, "predicted_ms": 1500.0, "cache_n": 0}
    last = {"choices": [], "usage": {"prompt_tokens": 22, "completion_tokens": 12}, "timings": timings}
    (_, finish) = read(said(content="H"), said("length"), last)
    assert finish == Finish(
        reason="length",
        usage=Usage(prompt_tokens=22, completion_tokens=12),
        timings=Timings(total_s=2.0, prompt_s=0.5, eval_s=1.5),
    )


def test_a_whole_body() -> None:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "4",
        "reasoning": "2+2",
        "refusal": None,
        "annotations": [],
    }
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": {"prompt_tokens": 1}}
    assert read(body, announced=False) == [Delta("4", "2+2"), Finish(reason="stop", usage=Usage(prompt_tokens=1))]


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_under_either_name(name: str) -> None:
    assert read(said(**{name: "so"}), said("stop", content="x"))[:2] == [Delta("", "so"), Delta("x")]


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("max_tokens", "length"),
        ("content_filter", "content_filter"),
        ("eos", "stop"),
        ("tool_calls", "stop"),  # said, but no call came
    ],
)
def test_finish_reasons(word: str, reason: str) -> None:
    finish = read(said(content="x"), said(word))[-1]
    assert isinstance(finish, Finish)
    assert finish.reason == reason


def test_a_refusal_is_text() -> None:
    assert read(said(refusal="No."), said("stop"))[0] == Delta("No.")


CALLS = [ToolCall(id="a", name="f", arguments='{"x":1}'), ToolCall(id="b", name="g", arguments="{}")]
WHOLE_CALLS = [
    {"id": "a", "function": {"name": "f", "arguments": '{"x":1}'}},
    {"id": "b", "function": {"name": "g", "arguments": ""}},
]
PIECES: dict[str, list[Any]] = {
    "OpenAI": [piece(0, "a", "f", ""), piece(0, arguments='{"x'), piece(0, arguments='":1}'), piece(1, "b", "g", "{}")],
    "interleaved": [
        piece(0, "a", "f", '{"x"'),
        piece(1, "b", "g"),
        piece(0, arguments=":1}"),
        piece(1, arguments="{}"),
    ],
    "whole, no index": [said(tool_calls=WHOLE_CALLS)],
    "every index 0": [piece(0, "a", "f", '{"x":1}'), piece(0, "b", "g", "{}")],
    "objects, no index": [piece(None, "a", "f", {"x": 1}), piece(None, "b", "g", {})],
    "id in every piece": [piece(0, "a", "f", '{"x'), piece(0, "a", None, '":1}'), piece(1, "b", "g", "{}")],
}


@pytest.mark.parametrize("pieces", PIECES.values(), ids=PIECES)
@pytest.mark.parametrize("reason", ["tool_calls", "stop", "function_call"])
def test_tool_calls_come_whole_however_they_were_sent(pieces: list[Any], reason: str) -> None:
    expected = '{"x":1}'
    (calls, finish) = read(*pieces, said(reason))
    assert isinstance(calls, Delta)
    assert [(call.id, call.name, call.arguments.replace(" ", "")) for call in calls.tool_calls] == [
        ("a", "f", expected),
        ("b", "g", "{}"),
    ]
    assert isinstance(finish, Finish)
    assert finish.reason == "tool_calls"


def test_calls_without_ids_are_told_apart_by_their_names_and_given_ids() -> None:
    (calls, _) = read(piece(None, None, "f", {"x": 1}), piece(None, None, "f", {"x": 2}), said("tool_calls"))
    assert isinstance(calls, Delta)
    first, second = calls.tool_calls
    assert (first.arguments.replace(" ", ""), second.arguments.replace(" ", "")) == ('{"x":1}', '{"x":2}')
    assert first.id.startswith("call_")
    assert first.id != second.id


def test_a_call_that_the_limit_cut_off_is_left_out() -> None:
    (calls, finish) = read(piece(0, "a", "f", '{"x":1}'), piece(1, "b", "g", '{"y'), said("length"))
    assert calls == Delta(tool_calls=CALLS[:1])
    assert isinstance(finish, Finish)
    assert finish.reason == "length"


@pytest.mark.parametrize("bad", [piece(0, "a", "f", "[1]"), piece(0, "a", "f", '{"x'), piece(0, "a", None, "{}")])
def test_a_call_that_is_none_can_be_tried_again_and_is_not_the_servers_fault(bad: Any) -> None:
    with pytest.raises(AnswerIncomplete) as refused:
        read(bad, said("tool_calls"))
    assert refused.value.retryable
    assert not refused.value.trips_breaker


def test_a_chats_logprobs_and_a_completions() -> None:
    token = {"token": "H", "logprob": -0.5, "bytes": [72], "top_logprobs": [{"token": "G", "logprob": -1.0}]}
    choice = {"index": 0, "delta": {"content": "H"}, "logprobs": {"content": [token]}}
    expected = {**token, "top_logprobs": [{"token": "G", "logprob": -1.0, "bytes": None}]}
    assert read({"choices": [choice]}, said("stop"))[0] == Delta("H", logprobs=[expected])
    columns = {"tokens": ["H", "i"], "token_logprobs": [None, -2.0], "top_logprobs": [None, {"o": -3.0}]}
    (delta, _) = read({"choices": [{"index": 0, "text": "Hi", "logprobs": columns, "finish_reason": "stop"}]})
    assert delta == Delta(
        "Hi",
        logprobs=[
            {"token": "H", "logprob": 0.0, "bytes": None, "top_logprobs": []},
            {
                "token": "i",
                "logprob": -2.0,
                "bytes": None,
                "top_logprobs": [{"token": "o", "logprob": -3.0, "bytes": None}],
            },
        ],
    )


@pytest.mark.parametrize(
    ("chunk", "kind"),
    [
        ({"error": {"code": 502, "message": "Provider disconnected"}}, BackendFault),
        ({"error": {"message": "Rate limit reached", "type": "rate_limit_error"}}, BackendBusy),
        ({"error": {"message": "too long", "type": "invalid_request_error"}}, BackendRejected),
        ({"error": "Something broke"}, BackendFault),
        ({"choices": [{"index": 0, "error": {"code": 429, "message": "slow down"}}]}, BackendBusy),
        (said("error"), BackendFault),
        ({"error": {"code": 502, "message": "x"}, "choices": [{"delta": {}, "finish_reason": "error"}]}, BackendFault),
    ],
)
def test_an_error_after_the_first_words_ends_the_answer(chunk: dict[str, Any], kind: type[ArrieroError]) -> None:
    with pytest.raises(kind) as raised:
        read(said(content="Hel"), chunk)
    assert type(raised.value) is kind


@pytest.mark.parametrize(
    ("chunks", "announced", "is_answer"),
    [
        ([said(content="x"), said("stop")], False, True),
        ([said(content="x")], True, True),
        ([said(content="x")], False, False),
        ([], True, False),
        ([said(role="assistant", content="")], True, False),
        ([said("content_filter")], False, True),
    ],
    ids=["reason, no mark", "mark, no reason", "neither", "only the mark", "nothing said", "filtered at once"],
)
def test_what_counts_as_an_answer(chunks: list[dict[str, Any]], announced: bool, is_answer: bool) -> None:
    if is_answer:
        assert isinstance(read(*chunks, announced=announced)[-1], Finish)
    else:
        with pytest.raises(AnswerIncomplete):
            read(*chunks, announced=announced)


@pytest.mark.parametrize(
    ("line", "data"),
    [
        (b'data: {"a":1}', b'{"a":1}'),
        (b'data:{"a":1}\r', b'{"a":1}'),
        (b"data: [DONE]", DONE),
        (b"", None),
        (b"\r", None),
        (b": OPENROUTER PROCESSING", None),
        (b"event: message", None),
        (b"retry: 10", None),
        (b"data:", None),
        (b'error: {"code":400}', b'{"error": {"code":400}}'),
    ],
)
def test_the_lines_of_a_stream(line: bytes, data: bytes | None) -> None:
    assert event_data(line) == data


@pytest.mark.parametrize("line", [b"<html>", b'{"choices":[]}', b"hello"])
def test_what_is_no_stream_is_said_to_be_none(line: bytes) -> None:
    with pytest.raises(BackendProtocolError):
        event_data(line)


def vectors(*items: Any) -> bytes:
    return json.dumps({"data": list(items), "usage": {"prompt_tokens": 4, "total_tokens": 4}}).encode()


def packed(*values: float) -> str:
    return b64encode(struct.pack(f"<{len(values)}f", *values)).decode()


def test_vectors_are_put_in_the_order_of_their_inputs() -> None:
    body = vectors({"index": 1, "embedding": [2.0, 3.0]}, {"index": 0, "embedding": packed(0.5, 1.0)})
    answer = read_embedding(body, ASKED)
    assert [unpack_vector(vector) for vector in answer.vectors] == [[0.5, 1.0], [2.0, 3.0]]
    assert answer.usage == Usage(prompt_tokens=4)


@pytest.mark.parametrize(
    "items",
    [
        [],
        [{"embedding": [1.0]}],
        [{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}],
        [{"index": 0, "embedding": [1.0]}, {"index": 2, "embedding": [1.0]}],
        [{"embedding": [1.0]}, {"embedding": [1.0, 2.0]}],
        [{"embedding": []}, {"embedding": []}],
        [{"embedding": [1e39]}, {"embedding": [1.0]}],
        [{"embedding": "AAA"}, {"embedding": "AAA"}],
        [{"embedding": b64encode(b"12345").decode()}, {"embedding": b64encode(b"12345").decode()}],
        [{"embedding": packed(float("nan"))}, {"embedding": packed(1.0)}],
    ],
)
def test_vectors_that_are_none(items: list[Any]) -> None:
    with pytest.raises(BackendProtocolError):
        read_embedding(vectors(*items), ASKED)
