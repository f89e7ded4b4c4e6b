"""Streams of the Messages API in canonical form, and what its errors mean."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from shared.backends.anthropic_answers import MAX_INPUT_CHARS, EventReader
from shared.backends.anthropic_errors import classify
from shared.backends.anthropic_requests import ANSWER_TOOL
from shared.errors import (
    ArrieroError,
    BackendBusy,
    BackendError,
    BackendFault,
    BackendMisconfigured,
    BackendProtocolError,
    BackendRejected,
    ModelNotFound,
)
from shared.wire.canonical import Delta, Finish, FinishReason, ToolCall, Usage
from tests.shared.backends.anthropic_server import (
    KEY,
    START,
    STOP,
    Event,
    block,
    end,
    message,
    sse,
    text,
    thinking,
    tool_use,
)


def read(events: list[Event], *, by_tool: bool = False) -> tuple[list[Delta], Finish | None]:
    reader = EventReader("m", answers_by_tool=by_tool, secret=KEY)
    deltas = [delta for event in events for line in sse(event).split(b"\n") if (delta := reader.read(line)) is not None]
    return deltas, reader.finish


@pytest.mark.req("S3-03", "S3-12", "S3-25")
def test_a_whole_stream() -> None:
    blocks = (thinking(0, "Hm", "m."), text(1, "Let me", " look."), tool_use(2, "get_weather", '{"city":', '"Lima"}'))
    deltas, finish = read(message(*blocks, reason="tool_use"))
    assert deltas == [
        Delta("", "Hm"),
        Delta("", "m."),
        Delta(signature="c2lnbmVk"),
        Delta("Let me"),
        Delta(" look."),
        Delta(tool_calls=[ToolCall(id="toolu_01", name="get_weather", arguments='{"city":"Lima"}')]),
    ]
    assert finish == Finish(reason="tool_calls", usage=Usage(prompt_tokens=17, completion_tokens=7))


def test_what_is_not_known_is_passed_over() -> None:
    unknown = [
        {"type": "weather_report", "delta": {"type": "sunny"}},
        *block(0, {"type": "redacted_thinking", "data": "xyz"}),
        *block(1, {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}),
        *block(2, {"type": "text", "text": "a", "citations": []}, {"type": "citations_delta", "citation": {}}),
    ]
    assert read([START, *unknown, end(), STOP])[0] == [Delta("a")]


def test_lines_may_end_as_http_lines_do_and_comments_say_nothing() -> None:
    reader = EventReader("m")
    assert reader.read(b": hello\r") is None
    assert reader.read(b"event: content_block_start\r") is None
    assert reader.read(b'data:{"type":"content_block_start","index":0,"content_block":{"type":"text","text":"a"}}\r')


def test_counts_are_totals_of_which_the_last_holds() -> None:
    late = {**end(), "usage": {"input_tokens": 20, "output_tokens": 9, "cache_read_input_tokens": None}}
    _, finish = read([START, *text(0, "a"), {**end(), "usage": {"output_tokens": 5}}, late, STOP])
    assert finish is not None and finish.usage == Usage(prompt_tokens=27, completion_tokens=9)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
        ("a_later_word", "stop"),
        ("tool_use", "stop"),
    ],
)
def test_reasons(said: str, reason: FinishReason) -> None:
    finish = read(message(text(0, "a"), reason=said))[1]
    assert finish is not None and finish.reason == reason


def test_arguments_that_came_with_the_blocks_start_or_not_at_all() -> None:
    start = {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}
    assert read(message(block(0, start), tool_use(1, "g"), reason="tool_use"))[0] == [
        Delta(tool_calls=[ToolCall(id="t", name="f", arguments='{"a":1}')]),
        Delta(tool_calls=[ToolCall(id="toolu_01", name="g", arguments="{}")]),
    ]


def test_a_call_cut_off_by_the_limit_is_no_call() -> None:
    deltas, finish = read(message(text(0, "a"), tool_use(1, "f", '{"city":"Li'), reason="max_tokens"))
    assert deltas == [Delta("a")]
    assert finish is not None and finish.reason == "length"


def test_the_input_of_the_answering_tool_is_the_answer() -> None:
    deltas, finish = read(message(tool_use(0, ANSWER_TOOL, '{"city":', '"Lima"}'), reason="tool_use"), by_tool=True)
    assert deltas == [Delta('{"city":'), Delta('"Lima"}')]
    assert finish is not None and finish.reason == "stop"
    whole = {"type": "tool_use", "id": "t", "name": ANSWER_TOOL, "input": {"a": 1}}
    assert read(message(block(0, whole), reason="tool_use"), by_tool=True)[0] == [Delta('{"a":1}')]
    other, _ = read(message(tool_use(0, "get_weather", "{}"), reason="tool_use"), by_tool=True)
    assert other[0].tool_calls[0].name == "get_weather"


@pytest.mark.parametrize(
    "events",
    [
        [b"data: {not json"],
        [b"data: []"],
        [b'data: {"type": 1}'],
        [b'data: {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a"}}'],
        [b'data: {"type": "content_block_start", "index": 0}'],
        [b'data: {"type": "content_block_stop", "index": 3}'],
        [b'data: {"type": "message_stop"}'],
        [b'data: {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use"}}',
         b'data: {"type": "content_block_stop", "index": 0}'],
        [b"data: " + b"[" * 100_000],
    ],
)  # fmt: skip
def test_garbage_is_told_from_an_answer(events: list[bytes]) -> None:
    reader = EventReader("m")
    with pytest.raises(BackendProtocolError, match="was not understood"):
        for line in events:
            reader.read(line)


def test_broken_arguments_are_garbage_and_endless_ones_end() -> None:
    with pytest.raises(BackendProtocolError, match="arguments of a tool call"):
        read(message(tool_use(0, "f", '{"a":'), reason="tool_use"))
    with pytest.raises(BackendProtocolError, match="which is the limit"):
        read(message(tool_use(0, "f", *["x" * 1_000_000] * (MAX_INPUT_CHARS // 1_000_000 + 1))))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("overloaded_error", BackendBusy),
        ("rate_limit_error", BackendBusy),
        ("api_error", BackendFault),
        ("timeout_error", BackendFault),
        ("invalid_request_error", BackendRejected),
        ("a_later_error", BackendFault),
    ],
)
def test_an_error_event_in_the_middle(kind: str, expected: type[ArrieroError]) -> None:
    broken: Event = {"type": "error", "error": {"type": kind, "message": "Overloaded"}}
    with pytest.raises(ArrieroError) as caught:
        read([START, *text(0, "a"), broken])
    assert type(caught.value) is expected


def failure(status: int, kind: str | None = None, words: str = "words", **more: Any) -> ArrieroError:
    body = words if kind is None else msgspec.json.encode({"type": "error", "error": {"type": kind, "message": words}})
    return classify(
        status, body if isinstance(body, str) else body.decode(), endpoint="/v1/messages", model="m", **more
    )


@pytest.mark.parametrize(
    ("status", "kind", "expected", "retryable"),
    [
        (400, "invalid_request_error", BackendRejected, False),
        (401, "authentication_error", BackendMisconfigured, False),
        (402, "billing_error", BackendMisconfigured, False),
        (403, "permission_error", BackendMisconfigured, False),
        (404, "not_found_error", ModelNotFound, False),
        (404, None, BackendMisconfigured, False),
        (405, None, BackendMisconfigured, False),
        (409, "conflict_error", BackendError, True),
        (413, "request_too_large", BackendRejected, False),
        (413, None, BackendRejected, False),
        (418, None, BackendMisconfigured, False),
        (418, "teapot_error", BackendRejected, False),
        (429, "rate_limit_error", BackendBusy, True),
        (500, "api_error", BackendFault, True),
        (502, None, BackendFault, True),
        (504, "timeout_error", BackendFault, True),
        (529, "overloaded_error", BackendBusy, True),
        (529, None, BackendBusy, True),
        (302, None, BackendMisconfigured, False),
    ],
)
def test_failures(status: int, kind: str | None, expected: type[ArrieroError], retryable: bool) -> None:
    error = failure(status, kind)
    assert type(error) is expected
    assert error.retryable is retryable
    assert error.trips_breaker is (expected is BackendFault)


def test_busy_tells_when_to_come_back() -> None:
    assert failure(429, "rate_limit_error", retry_after="17").retry_after_s == 17
    assert failure(503, None, retry_after="3").retry_after_s == 3
    assert failure(529, "overloaded_error").retry_after_s == 5


def test_an_empty_account_is_the_operators_matter() -> None:
    words = "Your credit balance is too low to access the Anthropic API."
    assert type(failure(400, "invalid_request_error", words)) is BackendMisconfigured


def test_the_callers_mistake_is_explained_and_nothing_secret_is() -> None:
    words = f"messages.0: roles must alternate, see https://inner.example/x, key {KEY}"
    error = failure(400, "invalid_request_error", words, secret=KEY)
    assert "messages.0: roles must alternate, see <hidden>" in error.message
    for shown in (error.message, *error.__notes__):
        assert KEY not in shown
    for status, kind in ((401, "authentication_error"), (500, "api_error"), (404, "not_found_error"), (400, None)):
        assert "roles" not in failure(status, kind, words).message
