"""What is stored is small, and what earlier releases stored is read as before."""

from __future__ import annotations

from typing import Any

import pytest

from shared.jobs import Kind
from shared.routes import Candidate, Route
from shared.wire.canonical import (
    ChatRequest,
    CompletionRequest,
    Delta,
    EmbeddingRequest,
    Message,
    Request,
    Sampling,
    TextAnswer,
    ToolCall,
    Usage,
)
from shared.wire.codec import (
    SCHEMA_VERSION,
    decode_answer,
    decode_deltas,
    decode_job,
    decode_request,
    encode,
    encode_job,
)

CALL = {"id": "c", "name": "f", "arguments": "{}"}
WHOLE_MESSAGE = {
    "role": "user", "content": "hi", "thinking": "", "images": [], "tool_calls": [], "tool_call_id": "",
    "tool_name": "",
}  # fmt: skip
WHOLE_SAMPLING: dict[str, Any] = {
    "temperature": None, "top_p": None, "max_tokens": 7, "stop": [], "seed": None, "presence_penalty": None,
    "frequency_penalty": None, "options": {},
}  # fmt: skip
WHOLE_CHAT = {
    "model": "m", "messages": [WHOLE_MESSAGE], "sampling": WHOLE_SAMPLING, "tools": [], "format": None, "think": None,
    "logprobs": False, "top_logprobs": 0, "truncate": True, "keep_alive": None,
}  # fmt: skip
"""A chat as it was stored when every field was written."""
WHOLE_ANSWER = {
    "model": "m", "service": "", "backend": "", "content": "ho", "thinking": "", "tool_calls": [CALL], "logprobs": [],
    "finish_reason": "stop", "usage": {"prompt_tokens": 3, "completion_tokens": 0},
    "timings": {"total_s": 0.0, "load_s": 0.0, "prompt_s": 0.0, "eval_s": 0.0}, "fallback_from": "", "cached": False,
}  # fmt: skip
CHAT = ChatRequest(model="m", messages=[Message(role="user", content="hi")], sampling=Sampling(max_tokens=7))


def test_a_job_with_every_field_written_is_read_as_one_without_defaults() -> None:
    route = {
        "candidates": [{"service": "ollama", "model": "m"}], "reason": "default", "local_only": False, "shown_as": "",
        "explicit": False,
    }  # fmt: skip
    spec: dict[str, Any] = {
        "v": SCHEMA_VERSION, "request": WHOLE_CHAT, "restartable": False, "tenant": "t", "no_store": False,
        "local_only": False, "route": route, "request_id": "r", "cache_as": "",
    }  # fmt: skip
    old = encode({"t": None, "f": Kind.CHAT, "a": (), "k": spec, "et": 5})
    placed = Route(candidates=(Candidate("ollama", "m"),), reason="default")
    new = encode_job(Kind.CHAT, CHAT, restartable=False, enqueued_ms=5, tenant="t", route=placed, request_id="r")
    assert len(new) < len(old) / 2
    read, again = decode_job(old), decode_job(new)
    assert decode_request(Kind.CHAT, read.k.request) == decode_request(Kind.CHAT, again.k.request) == CHAT
    assert read.k.route == again.k.route == placed
    assert (read.f, read.et, read.k.tenant, read.k.request_id) == (
        again.f,
        again.et,
        again.k.tenant,
        again.k.request_id,
    )


def test_answers_and_pieces_of_them_too() -> None:
    answer = TextAnswer(
        model="m", content="ho", tool_calls=[ToolCall(id="c", name="f", arguments="{}")], usage=Usage(prompt_tokens=3)
    )
    assert decode_answer(Kind.CHAT, encode(WHOLE_ANSWER)) == decode_answer(Kind.CHAT, encode(answer)) == answer
    whole = {"content": "ho", "thinking": "", "tool_calls": [], "logprobs": []}
    assert decode_deltas(encode([whole])) == decode_deltas(encode([Delta("ho")])) == [Delta("ho")]


@pytest.mark.parametrize(
    ("kind", "request_"),
    [
        (Kind.CHAT, CHAT),
        (Kind.CHAT, ChatRequest(model="m", messages=[], think=False, truncate=False, format={}, keep_alive=0)),
        (Kind.COMPLETION, CompletionRequest(model="m", prompt="", raw=True, sampling=Sampling(temperature=0.0))),
        (Kind.EMBEDDING, EmbeddingRequest(model="m", inputs=[""], options={"num_ctx": 1})),
    ],
    ids=str,
)
def test_what_only_looks_like_nothing_is_kept(kind: Kind, request_: Request) -> None:
    stored = encode_job(kind, request_, restartable=True, enqueued_ms=1)
    assert decode_request(kind, decode_job(stored).k.request) == request_
