"""Rendered bodies, read by the real OpenAI library's models and by the gateway's own published ones."""

from __future__ import annotations

import base64
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import Completion, CreateEmbeddingResponse
from openai.types.chat import ChatCompletion

from shared.errors import BackendBusy, ModelNotFound
from shared.jobs import Attempt, JobRecord, Kind, Priority, State
from shared.wire.canonical import EmbeddingAnswer, TextAnswer, ToolCall, Usage, pack_vector
from shared.wire.codec import encode
from shared.wire.openai_render import (
    Rendering,
    chat_body,
    completion_body,
    embedding_body,
    error_body,
    job_body,
    to_json,
)

R = Rendering(id="chatcmpl-1", created=1_700_000_000, model="llama3.2")
LOGPROBS: list[dict[str, Any]] = [
    {"token": "Hé", "logprob": -0.5, "top_logprobs": [{"token": "Hé", "logprob": -0.5}, {"token": "x", "logprob": -2}]},
    {"token": "llo", "logprob": -0.25, "bytes": [108, 108, 111]},
]


def sent(body: dict[str, Any]) -> dict[str, Any]:
    """The body as it comes out of the wire."""
    decoded: dict[str, Any] = msgspec.json.decode(to_json(body))
    return decoded


def test_chat() -> None:
    answer = TextAnswer(
        model="other",
        content="Héllo",
        thinking="hm",
        logprobs=LOGPROBS,
        usage=Usage(prompt_tokens=3, completion_tokens=2),
    )
    assert chat_body(R, answer) == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "llama3.2",
        "system_fingerprint": "fp_arriero",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Héllo", "reasoning": "hm"},
                "logprobs": {
                    "content": [
                        {
                            "token": "Hé",
                            "logprob": -0.5,
                            "bytes": [72, 195, 169],
                            "top_logprobs": [
                                {"token": "Hé", "logprob": -0.5, "bytes": [72, 195, 169]},
                                {"token": "x", "logprob": -2, "bytes": [120]},
                            ],
                        },
                        {"token": "llo", "logprob": -0.25, "bytes": [108, 108, 111], "top_logprobs": []},
                    ],
                    "refusal": None,
                },
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }
    parsed = ChatCompletion.model_validate(sent(chat_body(R, answer)), strict=True)
    assert parsed.choices[0].message.content == "Héllo"


def test_chat_with_tool_calls() -> None:
    calls = [ToolCall(id="call_1", name="weather", arguments='{"city":"Lima"}')]
    body = sent(chat_body(R, TextAnswer(model="m", tool_calls=calls)))
    assert body["choices"][0]["message"] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Lima"}'}}
        ],
    }
    parsed = ChatCompletion.model_validate(body)
    assert parsed.choices[0].finish_reason == "tool_calls"
    cut_off = TextAnswer(model="m", tool_calls=calls, finish_reason="length")
    assert chat_body(R, cut_off)["choices"][0]["finish_reason"] == "length"


def test_an_empty_answer_is_an_empty_text() -> None:
    assert chat_body(R, TextAnswer(model="m"))["choices"][0]["message"]["content"] == ""


def test_completion() -> None:
    answer = TextAnswer(model="m", content="Héllo", finish_reason="length", logprobs=LOGPROBS)
    body = sent(completion_body(R, answer))
    assert body["choices"] == [
        {
            "text": "Héllo",
            "index": 0,
            "logprobs": {
                "tokens": ["Hé", "llo"],
                "token_logprobs": [-0.5, -0.25],
                "top_logprobs": [{"Hé": -0.5, "x": -2}, {}],
                "text_offset": [0, 2],
            },
            "finish_reason": "length",
        }
    ]
    assert Completion.model_validate(body).object == "text_completion"


floats32 = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(st.lists(st.lists(floats32, min_size=1, max_size=8), min_size=1, max_size=3))
def test_embeddings_are_the_same_in_both_encodings(vectors: list[list[float]]) -> None:
    answer = EmbeddingAnswer(
        model="m", vectors=[pack_vector(vector) for vector in vectors], usage=Usage(prompt_tokens=4)
    )
    numbers = sent(embedding_body(R, answer))
    texts = sent(embedding_body(R, answer, "base64"))
    assert [item["embedding"] for item in numbers["data"]] == vectors
    assert [base64.b64decode(item["embedding"]) for item in texts["data"]] == answer.vectors
    assert numbers["usage"] == texts["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
    assert [item.index for item in CreateEmbeddingResponse.model_validate(numbers).data] == list(range(len(vectors)))


def test_text_stays_utf8() -> None:
    assert "ñandú 🦙".encode() in to_json(chat_body(R, TextAnswer(model="m", content="ñandú 🦙")))


def test_one_answer_id_a_job() -> None:
    assert Rendering.for_job(Kind.CHAT, "job_ab", 5.9, "m") == Rendering(id="chatcmpl-ab", created=5, model="m")
    assert Rendering.for_job(Kind.COMPLETION, "job_ab", 5, "m").id == "cmpl-ab"


def test_error() -> None:
    record = ModelNotFound("no such model", param="model").record()
    error = {"message": "no such model", "type": "not_found_error", "param": "model", "code": "model_not_found"}
    assert error_body(record) == {"error": error}
    assert error_body(record, "req_1") == {"error": error | {"request_id": "req_1"}}


def record(**fields: Any) -> JobRecord:
    defaults: dict[str, Any] = {
        "id": "job_ab",
        "kind": Kind.CHAT,
        "state": State.QUEUED,
        "priority": Priority.HIGH,
        "tenant": "t",
        "model": "llama3.2",
        "created_at": 1_700_000_000.12345,
        "deadline_at": 1_700_000_600.0,
        "updated_at": 1_700_000_000.0,
    }
    return JobRecord(**defaults | fields)


def test_waiting_job() -> None:
    body = job_body(record(metadata={"k": "v"}), position=3, expected_wait_seconds=1.5, reason="waiting_for_slot")
    assert body == {
        "id": "job_ab",
        "object": "job",
        "type": "chat.completion",
        "status": "queued",
        "priority": "high",
        "model": "llama3.2",
        "route": None,
        "created_at": 1_700_000_000.123,
        "scheduled_for": None,
        "started_at": None,
        "finished_at": None,
        "deadline_at": 1_700_000_600.0,
        "queue": {"position": 3, "expected_wait_seconds": 1.5, "reason": "waiting_for_slot"},
        "attempts": [],
        "cancel_requested": False,
        "result": None,
        "error": None,
        "metadata": {"k": "v"},
        "request_id": None,
    }


@pytest.mark.parametrize(
    ("kind", "answer", "type_", "object_"),
    [
        (Kind.CHAT, TextAnswer(model="m", content="hi"), "chat.completion", "chat.completion"),
        (Kind.COMPLETION, TextAnswer(model="m", content="hi"), "completion", "text_completion"),
        (Kind.EMBEDDING, EmbeddingAnswer(model="m", vectors=[pack_vector([0.5])]), "embedding", "list"),
    ],
)
def test_finished_job_carries_the_openai_answer(kind: Kind, answer: object, type_: str, object_: str) -> None:
    done = record(kind=kind, state=State.SUCCEEDED, result=encode(answer))
    body = sent(job_body(done))
    assert (body["type"], body["result"]["object"], body["result"]["model"]) == (type_, object_, "llama3.2")
    assert job_body(done, with_result=False)["result"] is None


def test_failed_job_tells_its_tries() -> None:
    busy = BackendBusy("full", retry_after_s=2).record()
    tried = Attempt(
        number=1,
        worker="w1",
        started_at=1.0,
        backend="b:1",
        model="mistral",
        ended_at=2.5,
        outcome="failed",
        error=busy,
    )
    running = Attempt(number=2, worker="w2", started_at=3.0)
    body = sent(job_body(record(state=State.DEAD_LETTERED, attempts=[tried, running], error=busy)))
    assert body["error"] == {
        "code": "backend_busy",
        "message": "full",
        "type": "server_error",
        "param": None,
        "http_status": 503,
        "retryable": True,
        "retry_after_seconds": 2,
    }
    first, second = body["attempts"]
    assert (first["worker"], first["backend"], first["model"], first["outcome"]) == ("w1", "b:1", "mistral", "failed")
    assert first["ended_at"] - first["started_at"] == 1.5
    assert first["error"] == body["error"]
    assert (second["outcome"], second["backend"], second["error"]) == ("running", None, None)


@given(st.text(st.characters(exclude_categories=["Cs"])), st.floats(-10, 0))
def test_any_text_survives(text: str, logprob: float) -> None:
    answer = TextAnswer(model="m", content=text, thinking=text, logprobs=[{"token": text, "logprob": logprob}])
    message = ChatCompletion.model_validate(sent(chat_body(R, answer))).choices[0]
    assert message.message.content == text
    assert message.logprobs is not None
    assert message.logprobs.content is not None
    assert math.isclose(message.logprobs.content[0].logprob, logprob)
