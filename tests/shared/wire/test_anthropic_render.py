"""Answers as messages and events: exact, and read back by what reads the service's own."""

from __future__ import annotations

from typing import Any

import anthropic
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.backends.anthropic_answers import EventReader
from shared.errors import ArrieroError, BackendFault, BackendRejected, ErrorRecord, Overloaded, Unauthenticated
from shared.wire.anthropic_render import Rendering, error_body, error_type, message_body
from shared.wire.anthropic_stream import PING, EventRenderer
from shared.wire.canonical import Delta, FinishReason, TextAnswer, ToolCall, Usage
from shared.wire.openai_shapes import to_json

RENDERING = Rendering.for_job("job_0123", 'odd "name"', "req_1")
CALL = ToolCall(id="call_1", name="f", arguments='{\n  "n": 1,\r\n  "big": 123456789012345678901234567890\n}')
ARGUMENTS = {"n": 1, "big": 123456789012345678901234567890}
ANSWER = TextAnswer(
    model="llama3.2:latest",
    content="Héllo",
    thinking="hm",
    tool_calls=[CALL],
    usage=Usage(prompt_tokens=3, completion_tokens=2),
)
HEAD = {"id": "msg_0123", "type": "message", "role": "assistant", "model": 'odd "name"', "stop_sequence": None}
USAGE = {"input_tokens": 3, "output_tokens": 2}


def wire(body: dict[str, Any]) -> Any:
    return msgspec.json.decode(to_json(body))


def events(stream: bytes) -> list[Any]:
    found = []
    for frame in stream.decode().removesuffix("\n\n").split("\n\n"):
        name, data = frame.split("\n")
        found.append(msgspec.json.decode(data.removeprefix("data: ")))
        assert found[-1]["type"] == name.removeprefix("event: ")
    return found


@pytest.mark.req("S3-12")
def test_an_answer_in_one_piece() -> None:
    assert wire(message_body(RENDERING, ANSWER)) == {
        **HEAD,
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": ""},
            {"type": "text", "text": "Héllo"},
            {"type": "tool_use", "id": "call_1", "name": "f", "input": ARGUMENTS},
        ],
        "stop_reason": "tool_use",
        "usage": USAGE,
    }
    silent = message_body(RENDERING, TextAnswer(model="m"))
    assert (silent["content"], silent["stop_reason"]) == ([], "end_turn")


@pytest.mark.parametrize(
    ("reason", "shown"), [("stop", "end_turn"), ("length", "max_tokens"), ("content_filter", "refusal")]
)
def test_why_an_answer_ends(reason: FinishReason, shown: str) -> None:
    assert message_body(RENDERING, TextAnswer(model="m", content="a", finish_reason=reason))["stop_reason"] == shown


def test_a_stand_in_is_named() -> None:
    answer = TextAnswer(model="phi3", content="a", fallback_from="m")
    assert message_body(RENDERING, answer)["model"] == "phi3"


def test_a_stream_of_every_kind_of_block() -> None:
    renderer = EventRenderer(RENDERING)
    stream = renderer.deltas([Delta("", "h"), Delta("", "m")])
    stream += renderer.deltas([Delta("Hé"), Delta("llo", tool_calls=[CALL]), Delta(" then")])
    stream += renderer.finish(ANSWER)

    def piece(index: int, **delta: Any) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": index, "delta": delta}

    def start(index: int, block: dict[str, Any]) -> dict[str, Any]:
        return {"type": "content_block_start", "index": index, "content_block": block}

    def stop(index: int) -> dict[str, Any]:
        return {"type": "content_block_stop", "index": index}

    message: dict[str, Any] = {
        **HEAD,
        "content": [],
        "stop_reason": None,
        "usage": {"input_tokens": 0, "output_tokens": 0},
    }
    *said, ending, last = events(stream)
    arguments = said[10]["delta"]["partial_json"]
    assert msgspec.json.decode(arguments) == ARGUMENTS
    assert said == [
        {"type": "message_start", "message": message},
        start(0, {"type": "thinking", "thinking": "", "signature": ""}),
        piece(0, type="thinking_delta", thinking="h"),
        piece(0, type="thinking_delta", thinking="m"),
        stop(0),
        start(1, {"type": "text", "text": ""}),
        piece(1, type="text_delta", text="Hé"),
        piece(1, type="text_delta", text="llo"),
        stop(1),
        start(2, {"type": "tool_use", "id": "call_1", "name": "f", "input": {}}),
        piece(2, type="input_json_delta", partial_json=arguments),
        stop(2),
        start(3, {"type": "text", "text": ""}),
        piece(3, type="text_delta", text=" then"),
        stop(3),
    ]
    assert ending == {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": USAGE,
    }
    assert last == {"type": "message_stop"}


def test_a_signature_stands_at_the_end_of_its_thinking() -> None:
    signed = TextAnswer(model="m", content="a", thinking="hm", signature="c2ln")
    assert wire(message_body(RENDERING, signed))["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
        {"type": "text", "text": "a"},
    ]
    unsigned = {"type": "thinking", "thinking": "", "signature": ""}
    said = [Delta("", "hm"), Delta(signature="c2ln"), Delta("", "so"), Delta("a"), Delta(signature="late")]
    assert events(EventRenderer(RENDERING).deltas(said))[1:] == [
        {"type": "content_block_start", "index": 0, "content_block": unsigned},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "c2ln"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": unsigned},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "thinking_delta", "thinking": "so"}},
        {"type": "content_block_stop", "index": 1},
        {"type": "content_block_start", "index": 2, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 2, "delta": {"type": "text_delta", "text": "a"}},
    ]


def test_thinking_that_is_not_shown_is_a_signature_alone() -> None:
    [block] = wire(message_body(RENDERING, TextAnswer(model="m", signature="c2ln")))["content"]
    assert block == {"type": "thinking", "thinking": "", "signature": "c2ln"}
    stream = EventRenderer(RENDERING).deltas([Delta(signature="c2ln"), Delta(signature="again")])
    assert [event["type"].removeprefix("content_block_") for event in events(stream)[1:]] == ["start", "delta", "stop"]


def test_a_stream_of_nothing_still_begins_and_ends() -> None:
    assert [event["type"] for event in events(EventRenderer(RENDERING).finish(TextAnswer(model="m")))] == [
        "message_start",
        "message_delta",
        "message_stop",
    ]
    assert events(PING) == [{"type": "ping"}]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BackendRejected("Bad.").record(), "invalid_request_error"),
        (Unauthenticated().record(), "authentication_error"),
        (Overloaded("Full.").record(), "rate_limit_error"),
        (BackendFault("Broken.").record(), "api_error"),
        (ArrieroError().record(), "api_error"),
        (ErrorRecord(code="x", message="m", http_status=418), "invalid_request_error"),
        (ErrorRecord(code="x", message="m", http_status=503), "overloaded_error"),
    ],
)
def test_errors_have_the_apis_own_words(error: ErrorRecord, kind: str) -> None:
    assert error_type(error.http_status) == kind
    body = error_body(error, "req_1")
    assert body == {
        "type": "error",
        "error": {"type": kind, "message": error.message, "code": error.code},
        "request_id": "req_1",
    }
    assert events(EventRenderer(RENDERING).error(error)) == [body]


TEXTS = st.text(min_size=1, max_size=8)
CALLS = st.builds(
    ToolCall,
    id=st.from_regex(r"[A-Za-z0-9_-]{1,12}", fullmatch=True),
    name=st.from_regex(r"[A-Za-z_]{1,12}", fullmatch=True),
    arguments=st.dictionaries(TEXTS, st.integers(-5, 5) | TEXTS, max_size=3).map(
        lambda value: msgspec.json.encode(value).decode()
    ),
)
DELTAS = st.lists(
    st.builds(Delta, content=TEXTS | st.just(""), thinking=TEXTS | st.just(""), tool_calls=st.lists(CALLS, max_size=2)),
    max_size=8,
)


def answer_of(deltas: list[Delta], reason: FinishReason) -> TextAnswer:
    calls = [call for delta in deltas for call in delta.tool_calls]
    return TextAnswer(
        model="m",
        content="".join(delta.content for delta in deltas),
        thinking="".join(delta.thinking for delta in deltas),
        tool_calls=calls,
        finish_reason="tool_calls" if calls else reason,
        usage=Usage(prompt_tokens=3, completion_tokens=2),
    )


@given(DELTAS, st.sampled_from(["stop", "length", "content_filter"]), st.data())
def test_what_the_face_writes_the_backend_reads(deltas: list[Delta], reason: FinishReason, data: st.DataObject) -> None:
    """Canonical -> events -> canonical changes nothing, however the deltas are gathered into frames."""
    answer = answer_of(deltas, reason)
    renderer, reader = EventRenderer(RENDERING), EventReader("m")
    cut = data.draw(st.integers(0, len(deltas)))
    stream = renderer.deltas(deltas[:cut]) + renderer.deltas(deltas[cut:]) + renderer.finish(answer)
    heard = [delta for line in stream.split(b"\n") if (delta := reader.read(line)) is not None]
    assert reader.finish is not None
    again = answer_of(heard, reader.finish.reason)
    assert again == answer
    assert reader.finish.usage == answer.usage


@given(DELTAS)
def test_the_official_client_reads_it_too(deltas: list[Delta]) -> None:
    body = wire(message_body(RENDERING, answer_of(deltas, "stop")))
    message = anthropic.types.Message.model_validate(body)
    assert message.to_dict() == body
