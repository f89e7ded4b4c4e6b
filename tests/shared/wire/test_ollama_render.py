"""Answers as Ollama's bodies and lines: exact, and read back by what reads a model host's."""

from __future__ import annotations

from typing import Any

import msgspec
import ollama
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.backends.ollama_answers import ChatReader, GenerateReader
from shared.errors import BackendFault, Overloaded
from shared.jobs import Kind
from shared.wire.canonical import Delta, EmbeddingAnswer, TextAnswer, Timings, ToolCall, Usage, pack_vector
from shared.wire.ollama_render import Rendering, embed_body, error_body, one_embedding_body, text_body
from shared.wire.ollama_stream import LineRenderer
from shared.wire.openai_shapes import to_json

BEGAN = 1_700_000_000.0
AT = "2023-11-14T22:13:22.500000Z"
CALL = ToolCall(id="call_1", name="f", arguments='{\n  "n": 1,\r\n  "big": 123456789012345678901234567890\n}')
ARGUMENTS = {"n": 1, "big": 123456789012345678901234567890}
LOGPROB: dict[str, Any] = {"token": "Hé", "logprob": -0.5, "bytes": None, "top_logprobs": []}
ANSWER = TextAnswer(
    model="llama3.2:latest",
    content="Héllo",
    usage=Usage(prompt_tokens=3, completion_tokens=2),
    timings=Timings(total_s=1.0, load_s=0.25, prompt_s=0.125, eval_s=0.5),
)
FIGURES = {
    "total_duration": 2_500_000_000,
    "load_duration": 250_000_000,
    "prompt_eval_count": 3,
    "prompt_eval_duration": 125_000_000,
    "eval_count": 2,
    "eval_duration": 500_000_000,
}


def rendering(kind: Kind, **fields: Any) -> Rendering:
    return Rendering(kind=kind, model='odd "name"', began=BEGAN, now=lambda: BEGAN + 2.5, **fields)


def call_body(index: int) -> dict[str, Any]:
    return {"id": "call_1", "function": {"index": index, "name": "f", "arguments": ARGUMENTS}}


def wire(body: dict[str, Any]) -> Any:
    return msgspec.json.decode(to_json(body))


def lines(stream: bytes) -> list[Any]:
    assert stream.endswith(b"\n")
    return [msgspec.json.decode(line) for line in stream.splitlines()]


def test_a_chat_in_one_piece() -> None:
    assert wire(text_body(rendering(Kind.CHAT), ANSWER)) == {
        "model": 'odd "name"',
        "created_at": AT,
        "message": {"role": "assistant", "content": "Héllo"},
        "done": True,
        "done_reason": "stop",
        **FIGURES,
    }


def test_a_generation_in_one_piece() -> None:
    answer = TextAnswer(model="m", content="a", thinking="b", finish_reason="length", logprobs=[LOGPROB])
    assert wire(text_body(rendering(Kind.COMPLETION), answer)) == {
        "model": 'odd "name"',
        "created_at": AT,
        "response": "a",
        "thinking": "b",
        "done": True,
        "done_reason": "length",
        "total_duration": 2_500_000_000,
        "logprobs": [{**LOGPROB, "bytes": [72, 195, 169]}],
    }


def test_calls_are_objects_and_end_with_stop() -> None:
    answer = TextAnswer(model="m", thinking="hm", tool_calls=[CALL], finish_reason="tool_calls")
    body = wire(text_body(rendering(Kind.CHAT), answer))
    assert body["message"] == {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": [call_body(0)]}
    assert body["done_reason"] == "stop"


def test_a_stand_in_is_named() -> None:
    answer = TextAnswer(model="mistral", fallback_from="llama3.2", content="a")
    assert text_body(rendering(Kind.CHAT), answer)["model"] == "mistral"
    assert lines(LineRenderer(rendering(Kind.CHAT)).finish(answer))[0]["model"] == "mistral"


def test_an_answer_to_an_order_to_load() -> None:
    empty = TextAnswer(model="m", timings=Timings(total_s=1.0, load_s=1.0))
    end = {"done": True, "done_reason": "load"}
    chat = {"model": 'odd "name"', "created_at": AT, "message": {"role": "assistant", "content": ""}, **end}
    assert text_body(rendering(Kind.CHAT, only_loads=True), empty) == chat
    assert text_body(rendering(Kind.COMPLETION, only_loads=True), empty)["response"] == ""


def test_the_whole_duration_is_never_less_than_the_backend_s() -> None:
    slow = TextAnswer(model="m", timings=Timings(total_s=9.0))
    assert text_body(rendering(Kind.CHAT), slow)["total_duration"] == 9_000_000_000


def test_vectors() -> None:
    answer = EmbeddingAnswer(
        model="m", vectors=[pack_vector([0.5, -1.0])], usage=Usage(prompt_tokens=4), timings=Timings(load_s=0.25)
    )
    assert embed_body(rendering(Kind.EMBEDDING), answer) == {
        "model": 'odd "name"',
        "embeddings": [[0.5, -1.0]],
        "total_duration": 2_500_000_000,
        "load_duration": 250_000_000,
        "prompt_eval_count": 4,
    }
    assert one_embedding_body(answer) == {"embedding": [0.5, -1.0]}
    nothing = EmbeddingAnswer(model="m", vectors=[])
    assert embed_body(rendering(Kind.EMBEDDING), nothing) == {"model": 'odd "name"', "embeddings": []}
    assert one_embedding_body(nothing) == {"embedding": []}


def test_an_error_is_one_text() -> None:
    assert error_body(Overloaded("Full.").record()) == {"error": "Full."}
    assert lines(LineRenderer(rendering(Kind.CHAT)).error(BackendFault("Broken.").record())) == [{"error": "Broken."}]


@pytest.mark.req("S2-35")
def test_the_lines_of_a_chat() -> None:
    renderer = LineRenderer(rendering(Kind.CHAT))
    stream = renderer.deltas(
        [
            Delta(thinking="hm"),
            Delta(content='Hé\n"'),
            Delta(content="llo", logprobs=[LOGPROB]),
            Delta(tool_calls=[CALL]),
            Delta(tool_calls=[CALL]),
        ]
    )
    told = lines(stream + renderer.finish(ANSWER))
    head = {"model": 'odd "name"', "created_at": AT}
    said: list[dict[str, Any]] = [
        {"content": "", "thinking": "hm"},
        {"content": 'Hé\n"'},
        {"content": "llo"},
        {"content": "", "tool_calls": [call_body(0)]},
        {"content": "", "tool_calls": [call_body(1)]},
    ]
    expected = [{**head, "message": {"role": "assistant", **part}, "done": False} for part in said]
    expected[2]["logprobs"] = [{**LOGPROB, "bytes": [72, 195, 169]}]
    end = {"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop", **FIGURES}
    assert told == [*expected, {**head, **end}]


def test_the_lines_of_a_generation() -> None:
    renderer = LineRenderer(rendering(Kind.COMPLETION))
    told = lines(renderer.deltas([Delta(thinking="hm"), Delta(content="a")]) + renderer.finish(ANSWER))
    head = {"model": 'odd "name"', "created_at": AT}
    assert told == [
        {**head, "response": "", "thinking": "hm", "done": False},
        {**head, "response": "a", "done": False},
        {**head, "response": "", "done": True, "done_reason": "stop", **FIGURES},
    ]


TEXT = st.text(max_size=5)
CALLS = st.lists(st.builds(ToolCall, id=st.text(min_size=1), name=TEXT, arguments=st.just('{"a":1}')), max_size=2)
DELTAS = st.lists(st.builds(Delta, content=TEXT, thinking=TEXT, tool_calls=CALLS), max_size=6)


@given(deltas=DELTAS, kind=st.sampled_from([Kind.CHAT, Kind.COMPLETION]))
def test_what_is_written_is_what_a_reader_of_model_hosts_reads(deltas: list[Delta], kind: Kind) -> None:
    if kind is Kind.COMPLETION:
        deltas = [Delta(content=delta.content, thinking=delta.thinking) for delta in deltas]
    renderer = LineRenderer(rendering(kind))
    reader = ChatReader("m") if kind is Kind.CHAT else GenerateReader("m")
    read = [reader.read(line) for line in renderer.deltas(deltas).split(b"\n") if line]
    assert [delta for delta in read if delta] == [d for d in deltas if d.content or d.thinking or d.tool_calls]
    assert reader.finish is None
    assert reader.read(renderer.finish(ANSWER)) is None
    assert reader.finish is not None
    assert (reader.finish.usage, reader.finish.timings.load_s) == (ANSWER.usage, ANSWER.timings.load_s)


def test_the_client_library_reads_both_kinds() -> None:
    chat = ollama.ChatResponse(**wire(text_body(rendering(Kind.CHAT), ANSWER)))
    assert (chat.message.content, chat.eval_count, chat.done) == ("Héllo", 2, True)
    generation = ollama.GenerateResponse(**wire(text_body(rendering(Kind.COMPLETION), ANSWER)))
    assert generation.response == "Héllo"
