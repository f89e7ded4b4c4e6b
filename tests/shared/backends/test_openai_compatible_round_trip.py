"""Our own OpenAI face reads what the backend writes, and the backend reads what our face writes."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.backends.openai_quirks import Quirks
from shared.jobs import Kind
from shared.wire.canonical import (
    ChatRequest,
    CompletionRequest,
    Delta,
    EmbeddingAnswer,
    EmbeddingRequest,
    Finish,
    Message,
    Sampling,
    TextAnswer,
    ToolCall,
    Usage,
    pack_vector,
)
from shared.wire.openai import (
    ChatCompletionBody,
    CompletionBody,
    EmbeddingBody,
    to_chat,
    to_completion,
    to_embedding,
    validate,
)
from shared.wire.openai_render import Rendering, StreamRenderer, chat_body, completion_body, embedding_body
from shared.wire.openai_upstream import chat_body as upstream_chat
from shared.wire.openai_upstream import completion_body as upstream_completion
from shared.wire.openai_upstream import embedding_body as upstream_embedding
from shared.wire.openai_upstream_answers import DONE, AnswerReader, event_data, read_embedding

QUIRKS = Quirks(think="reasoning", thinking_field="reasoning", base64_embeddings=True)
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
RENDERING = Rendering(id="chatcmpl-1", created=1, model="m")

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
words = st.text("abcdefgh_", min_size=1, max_size=8)
maybe = st.none()
numbers = st.floats(0, 2, allow_nan=False).map(lambda value: round(value, 3))
arguments = st.dictionaries(words, st.integers() | texts, max_size=2).map(
    lambda found: json.dumps(found, ensure_ascii=False)
)
samplings = st.builds(
    Sampling,
    temperature=maybe | numbers,
    top_p=maybe | st.floats(0, 1).map(lambda value: round(value, 3)),
    max_tokens=maybe | st.integers(1, 10_000),
    stop=st.lists(texts.filter(bool), max_size=3),
    seed=maybe | st.integers(-(2**40), 2**40),
    presence_penalty=maybe | numbers,
    frequency_penalty=maybe | numbers,
)


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    """Turns as any client may send them: calls with ids of their own, and a result for each."""
    messages = [Message(role="system", content=draw(texts))]
    for at in range(draw(st.integers(1, 3))):
        images = [PNG] * draw(st.integers(0, 2))
        text = draw(texts.filter(bool) if images else texts)
        messages.append(Message(role="user", content=text, images=images))
        calls = [
            ToolCall(id=f"call_{at}_{place}", name=draw(words), arguments=draw(arguments))
            for place in range(draw(st.integers(0, 2)))
        ]
        messages.append(Message(role="assistant", content=draw(texts), thinking=draw(texts), tool_calls=calls))
        messages += [
            Message(role="tool", content=draw(texts), tool_call_id=call.id, tool_name=call.name) for call in calls
        ]
    return messages


tools = st.lists(
    words.map(
        lambda name: {
            "type": "function",
            "function": {"name": name, "parameters": {"type": "object", "properties": {}}},
        }
    ),
    max_size=2,
)
chats = st.builds(
    ChatRequest,
    model=st.just("vendor/model-1"),
    messages=conversations(),
    sampling=samplings,
    tools=tools,
    format=st.sampled_from([None, "json", {"type": "object", "properties": {}}]),
    think=st.sampled_from([None, "low", "medium", "high"]),
    logprobs=st.just(True),
    top_logprobs=st.integers(0, 5),
)
deltas = st.builds(Delta, content=texts, thinking=texts).filter(lambda delta: bool(delta.content or delta.thinking))
usages = st.builds(Usage, prompt_tokens=st.integers(0, 10**6), completion_tokens=st.integers(0, 10**6))
tool_calls = st.lists(
    st.builds(ToolCall, id=words, name=words, arguments=arguments), max_size=3, unique_by=lambda c: c.id
)
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def sent(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode()


@quick
@given(chats)
def test_a_chat_request_means_the_same_after_the_way(request: ChatRequest) -> None:
    body = upstream_chat(request, QUIRKS, stream=True)
    assert to_chat(validate(ChatCompletionBody, body)) == request


@quick
@given(st.builds(CompletionRequest, model=st.just("m"), prompt=texts, suffix=texts, sampling=samplings))
def test_a_completion_request_means_the_same_after_the_way(request: CompletionRequest) -> None:
    assert to_completion(validate(CompletionBody, upstream_completion(request, QUIRKS, stream=True))) == request


@quick
@given(
    st.builds(
        EmbeddingRequest,
        model=st.just("m"),
        inputs=st.lists(texts.filter(bool), min_size=1, max_size=3),
        dimensions=maybe | st.integers(1, 4096),
    )
)
def test_an_embedding_request_means_the_same_after_the_way(request: EmbeddingRequest) -> None:
    assert to_embedding(validate(EmbeddingBody, upstream_embedding(request, QUIRKS))) == request


@quick
@given(
    st.lists(deltas, min_size=1, max_size=6), tool_calls, usages, st.sampled_from(["stop", "length", "content_filter"])
)
def test_a_stream_means_the_same_after_the_way(
    items: list[Delta], calls: list[ToolCall], usage: Usage, reason: Any
) -> None:
    answer = TextAnswer(model="m", tool_calls=calls, finish_reason=reason, usage=usage)
    renderer = StreamRenderer(Kind.CHAT, RENDERING)
    pieces = items if not calls else [*items, Delta(tool_calls=calls)]
    stream = renderer.first() + renderer.deltas(pieces) + renderer.finish(answer, include_usage=True)
    reader = AnswerReader("m", "/chat/completions")
    found: list[Delta] = []
    announced = False
    for line in stream.split(b"\n"):
        data = event_data(line)
        announced = announced or data == DONE
        delta = reader.read(data) if data is not None and data != DONE else None
        found += [delta] if delta is not None else []
    last, finish = reader.end(was_announced=announced)
    assert "".join(delta.content for delta in found) == "".join(delta.content for delta in items)
    assert "".join(delta.thinking for delta in found) == "".join(delta.thinking for delta in items)
    assert (last.tool_calls if last is not None else []) == calls
    assert finish == Finish(reason="tool_calls" if calls and reason == "stop" else reason, usage=usage)


@quick
@given(texts, texts, tool_calls, usages)
def test_a_whole_answer_means_the_same_after_the_way(
    content: str, thinking: str, calls: list[ToolCall], usage: Usage
) -> None:
    answer = TextAnswer(model="m", content=content, thinking=thinking, tool_calls=calls, usage=usage)
    reader = AnswerReader("m", "/chat/completions")
    delta = reader.read(sent(chat_body(RENDERING, answer))) or Delta()
    last, finish = reader.end(was_announced=False)
    assert (delta.content, delta.thinking, last.tool_calls if last is not None else []) == (content, thinking, calls)
    assert finish == Finish(reason="tool_calls" if calls else "stop", usage=usage)


def test_a_completions_logprobs_mean_the_same_after_the_way() -> None:
    logprobs = [
        {
            "token": "é",
            "logprob": -0.5,
            "bytes": None,
            "top_logprobs": [{"token": "e", "logprob": -1.5, "bytes": None}],
        }
    ]
    answer = TextAnswer(model="m", content="é", logprobs=logprobs)
    assert AnswerReader("m", "/completions").read(sent(completion_body(RENDERING, answer))) == Delta(
        "é", logprobs=logprobs
    )


@quick
@given(
    st.lists(
        st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=3, max_size=3),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from(["float", "base64"]),
)
def test_vectors_mean_the_same_after_the_way(rows: list[list[float]], encoding: Any) -> None:
    answer = EmbeddingAnswer(model="m", vectors=[pack_vector(row) for row in rows], usage=Usage(prompt_tokens=2))
    if encoding == "float" and any(abs(value) >= 3.4028235e38 for row in rows for value in row):
        return  # as text, the largest number may be read as one beyond it
    assert all(math.isfinite(value) for row in rows for value in row)
    body = sent(embedding_body(RENDERING, answer, encoding))
    assert read_embedding(body, EmbeddingRequest(model="m", inputs=["x"] * len(rows))) == answer
