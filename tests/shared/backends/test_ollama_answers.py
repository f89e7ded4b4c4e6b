"""Ollama's lines and vectors in canonical form."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from shared.backends.ollama_answers import ChatReader, GenerateReader, read_embedding
from shared.errors import ArrieroError, BackendProtocolError, BackendRejected, ModelFault
from shared.wire.canonical import Delta, EmbeddingRequest, Finish, Timings, ToolCall, Usage, unpack_vector

CALL = {"id": "call_abc", "function": {"index": 0, "name": "weather", "arguments": {"city": "Cusco", "n": 1.50}}}


def line(**fields: Any) -> bytes:
    return msgspec.json.encode({"model": "m", "created_at": "2026-08-21T10:00:00.5Z", **fields})


def said(**message: Any) -> bytes:
    return line(message={"role": "assistant", "content": "", **message}, done=False)


def ended(**fields: Any) -> bytes:
    return line(message={"role": "assistant", "content": ""}, done=True, **fields)


def read(*lines: bytes) -> tuple[list[Delta], Finish | None]:
    reader = ChatReader("m")
    deltas = [delta for delta in map(reader.read, lines) if delta is not None]
    return deltas, reader.finish


def test_text_thinking_and_metrics() -> None:
    deltas, finish = read(
        said(thinking="let me see"),
        said(content="Hel"),
        said(content="lo"),
        ended(
            done_reason="stop",
            total_duration=2_500_000_000,
            load_duration=1_000_000_000,
            prompt_eval_count=11,
            prompt_eval_duration=250_000_000,
            eval_count=2,
            eval_duration=1_250_000_000,
        ),
    )
    assert deltas == [Delta(thinking="let me see"), Delta("Hel"), Delta("lo")]
    assert finish == Finish(
        reason="stop",
        usage=Usage(prompt_tokens=11, completion_tokens=2),
        timings=Timings(total_s=2.5, load_s=1.0, prompt_s=0.25, eval_s=1.25),
    )


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"done_reason": "stop"}, "stop"),
        ({"done_reason": "length"}, "length"),
        ({}, "stop"),
        ({"done_reason": None}, "stop"),
        ({"done_reason": "load"}, "stop"),
    ],
)
def test_finish_reasons_and_metrics_left_out(fields: dict[str, Any], reason: str) -> None:
    _, finish = read(said(content="x"), ended(**fields))
    assert finish is not None
    assert (finish.reason, finish.usage, finish.timings) == (reason, Usage(), Timings())


@pytest.mark.req("S2-44")
def test_tool_calls_in_a_line_of_their_own() -> None:
    deltas, finish = read(said(tool_calls=[CALL]), ended(done_reason="stop"))
    assert deltas == [Delta(tool_calls=[ToolCall(id="call_abc", name="weather", arguments='{"city":"Cusco","n":1.5}')])]
    assert finish is not None
    assert finish.reason == "tool_calls"


@pytest.mark.req("S2-44")
def test_tool_calls_in_the_final_line_and_with_a_missing_id() -> None:
    nameless = {"function": {"name": "time", "arguments": {}}}
    deltas, finish = read(
        line(
            message={"role": "assistant", "content": "", "tool_calls": [CALL, nameless]}, done=True, done_reason="stop"
        )
    )
    first, second = deltas[0].tool_calls
    assert first.id == "call_abc"
    assert second.id.startswith("call_")
    assert len(second.id) > len("call_")
    assert second.arguments == "{}"
    assert finish is not None
    assert finish.reason == "tool_calls"


def test_arguments_keep_the_servers_own_text() -> None:
    raw = b'{"message":{"content":"","tool_calls":[{"function":{"name":"f","arguments":{"b": 1.0, "a":"\\u00e9"}}}]}}'
    deltas, _ = read(raw)
    assert deltas[0].tool_calls[0].arguments == '{"b": 1.0, "a":"\\u00e9"}'


def test_logprobs_keep_their_shape_even_without_text() -> None:
    token = {"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": [{"token": "Ho", "logprob": -1.0}]}
    deltas, _ = read(line(message={"content": ""}, logprobs=[token, {"token": "x", "logprob": -2}]))
    assert deltas == [
        Delta(
            logprobs=[
                {
                    "token": "Hi",
                    "logprob": -0.5,
                    "bytes": [72, 105],
                    "top_logprobs": [{"token": "Ho", "logprob": -1.0, "bytes": None}],
                },
                {"token": "x", "logprob": -2.0, "bytes": None, "top_logprobs": []},
            ]
        )
    ]


def test_text_in_the_final_line_comes_before_the_finish() -> None:
    deltas, finish = read(line(message={"content": "all"}, done=True, done_reason="length"))
    assert deltas == [Delta("all")]
    assert finish is not None


def test_nothing_comes_of_an_empty_line_of_text() -> None:
    assert read(said(), line(message={"role": "assistant"})) == ([], None)


def test_generate_lines() -> None:
    reader = GenerateReader("m")
    assert reader.read(line(response="", thinking="hm", done=False)) == Delta(thinking="hm")
    assert reader.read(line(response="Hi", done=False)) == Delta("Hi")
    assert reader.read(line(response="", done=True, done_reason="stop", context=[1, 2], eval_count=1)) is None
    assert reader.finish == Finish(reason="stop", usage=Usage(completion_tokens=1))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("an error was encountered while running the model: unexpected EOF", ModelFault),
        ('{"error":{"code":400,"message":"too long","type":"exceed_context_size_error"}}', BackendRejected),
    ],
)
def test_an_error_line_raises_what_it_means(text: str, kind: type[ArrieroError]) -> None:
    for reader in (ChatReader("m"), GenerateReader("m")):
        with pytest.raises(kind):
            reader.read(msgspec.json.encode({"error": text}))


@pytest.mark.parametrize(
    "raw",
    [
        b"<html>502 Bad Gateway</html>",
        b"\x00\x00\x00",
        b'{"message":{"content":"\xff\xfe"}}',
        b'{"message":{"content":"\\ud800"}}',
        b'{"message":{"content":"cut',
        b'{"message":{"content":5}}',
        b'{"message":"text"}',
        b'{"message":{"content":""},"done":"yes"}',
        b'{"message":{"content":""},"eval_count":"many","done":true}',
        b'{"message":{"tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}}',
        b'{"message":{"tool_calls":[{"function":{"arguments":{}}}]}}',
        b"[]",
        b"null",
        b"{}",
        b'{"status":"success"}',
        b"data: {}",
        b'{"message":' * 100_000,
    ],
    ids=lambda raw: raw[:24].decode("latin-1"),
)
def test_lines_that_are_not_the_protocol(raw: bytes) -> None:
    for reader in (ChatReader("m"), GenerateReader("m")):
        with pytest.raises(BackendProtocolError) as caught:
            reader.read(raw)
        assert "html" not in caught.value.message


def embedded(vectors: object, inputs: int = 2, **fields: Any) -> bytes:
    return msgspec.json.encode({"model": "e", "embeddings": vectors, **fields})


TWO = EmbeddingRequest(model="e", inputs=["a", "b"])


def test_vectors_are_packed_in_order_with_usage() -> None:
    answer = read_embedding(
        embedded([[0.5, -1], [0.25, 2]], prompt_eval_count=4, total_duration=5e8, load_duration=1e8), TWO
    )
    assert [unpack_vector(vector) for vector in answer.vectors] == [[0.5, -1.0], [0.25, 2.0]]
    assert answer.model == "e"
    assert answer.usage == Usage(prompt_tokens=4)
    assert answer.timings == Timings(total_s=0.5, load_s=0.1)


@pytest.mark.parametrize(
    "body",
    [
        embedded([[1.0, 2.0]]),
        embedded([]),
        embedded(None),
        b'{"model":"e"}',
        embedded([[1.0], [1.0, 2.0]]),
        embedded([[], []]),
        embedded([[1.0, None], [1.0, 2.0]]),
        embedded([["1", "2"], [1.0, 2.0]]),
        embedded([[1e39, 1.0], [1.0, 2.0]]),
        embedded([[-1e300, 1.0], [1.0, 2.0]]),
        b'{"embeddings":[[NaN,1],[1,1]]}',
        b'{"embeddings":[[Infinity,1],[1,1]]}',
        b'{"embeddings":[[1e999,1],[1,1]]}',
        b'{"embeddings":[[1,1],[1,',
        b"<html>",
        b"",
    ],
)
def test_vectors_that_are_not_whole_are_no_success(body: bytes) -> None:
    with pytest.raises(BackendProtocolError):
        read_embedding(body, TWO)
