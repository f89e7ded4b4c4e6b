"""Streams, replayed to the real OpenAI client over a real connection."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import openai
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from openai import AsyncOpenAI
from openai.types import Completion
from openai.types.chat import ChatCompletionChunk

from shared.errors import BackendFault, ModelNotFound, Overloaded
from shared.jobs import Kind
from shared.wire.canonical import Delta, EmbeddingAnswer, TextAnswer, ToolCall, Usage, pack_vector
from shared.wire.openai_render import (
    Rendering,
    StreamRenderer,
    chat_body,
    completion_body,
    embedding_body,
    error_body,
    to_json,
)

R = Rendering(id="chatcmpl-1", created=1_700_000_000, model='odd "name"')
LOGPROB: dict[str, Any] = {"token": "Hé", "logprob": -0.5, "top_logprobs": [{"token": "x", "logprob": -2.0}]}
CALLS = [ToolCall(id=f"call_{number}", name="f", arguments=f'{{"n":{number}}}') for number in range(3)]
ANSWER = TextAnswer(model="m", content="Héllo", usage=Usage(prompt_tokens=3, completion_tokens=2))


def frames(stream: bytes) -> list[Any]:
    """The decoded `data:` frames; the end mark stays text. Fails on anything that is not whole frames."""
    *parts, rest = stream.decode().split("\n\n")
    assert rest == ""
    assert all(part.startswith("data: ") and "\n" not in part for part in parts)
    return [part[6:] if part == "data: [DONE]" else msgspec.json.decode(part[6:]) for part in parts]


@pytest.mark.req("S3-11")
def test_chat_frames() -> None:
    renderer = StreamRenderer(Kind.CHAT, R)
    stream = renderer.deltas([Delta("Hé"), Delta("llo")]) + renderer.deltas([Delta(thinking="hm"), Delta()])
    stream += renderer.finish(ANSWER, include_usage=True)
    head = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": 'odd "name"',
        "system_fingerprint": "fp_arriero",
    }

    def frame(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        return {**head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]}

    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    assert frames(stream) == [
        frame({"role": "assistant", "content": "Hé"}),
        frame({"content": "llo"}),
        frame({"reasoning": "hm"}),
        frame({}, "stop"),
        {**head, "choices": [], "usage": usage},
        "[DONE]",
    ]


def test_the_role_comes_once_whichever_call_is_first() -> None:
    def roles(*calls: Callable[[StreamRenderer], bytes]) -> list[bool]:
        renderer = StreamRenderer(Kind.CHAT, R)
        stream = b"".join(call(renderer) for call in calls)
        return ["role" in frame["choices"][0]["delta"] for frame in frames(stream) if frame != "[DONE]"]

    first: Callable[[StreamRenderer], bytes] = StreamRenderer.first
    assert roles(first, first, lambda r: r.deltas([Delta("a")])) == [True, False]
    assert roles(lambda r: r.deltas([Delta(thinking="a"), Delta("b")]), first) == [True, False]
    assert roles(lambda r: r.deltas([Delta(tool_calls=CALLS[:1])]), lambda r: r.deltas([Delta("b")])) == [True, False]
    assert roles(lambda r: r.finish(ANSWER)) == [True, False]


def test_tool_calls_are_numbered_over_the_whole_stream() -> None:
    renderer = StreamRenderer(Kind.CHAT, R)
    stream = renderer.deltas([Delta(tool_calls=CALLS[:2]), Delta(content="so", tool_calls=CALLS[2:])])
    stream += renderer.finish(TextAnswer(model="m", tool_calls=CALLS))
    first, second, end, done = frames(stream)
    assert [call["index"] for call in first["choices"][0]["delta"]["tool_calls"]] == [0, 1]
    assert second["choices"][0]["delta"] == {
        "content": "so",
        "tool_calls": [
            {"index": 2, "id": "call_2", "type": "function", "function": {"name": "f", "arguments": '{"n":2}'}}
        ],
    }
    assert (end["choices"][0]["finish_reason"], done) == ("tool_calls", "[DONE]")


def test_completion_frames() -> None:
    renderer = StreamRenderer(Kind.COMPLETION, R)
    assert renderer.first() == b""
    stream = renderer.deltas([Delta("ab"), Delta(thinking="no place for it"), Delta("Hé", logprobs=[LOGPROB])])
    stream += renderer.finish(TextAnswer(model="m", finish_reason="length"), include_usage=True)
    one, two, end, usage, done = frames(stream)
    assert one["choices"] == [{"index": 0, "text": "ab", "logprobs": None, "finish_reason": None}]
    assert two["choices"][0]["logprobs"]["text_offset"] == [2]
    assert end["choices"] == [{"index": 0, "text": "", "logprobs": None, "finish_reason": "length"}]
    assert (usage["choices"], usage["usage"]["total_tokens"], done) == ([], 0, "[DONE]")
    assert all(Completion.model_validate(frame).object == "text_completion" for frame in (end, usage))


def test_an_error_frame_ends_without_the_end_mark() -> None:
    stream = StreamRenderer(Kind.CHAT, R).error(BackendFault("broke", param=None).record(), "req_1")
    error = {"message": "broke", "type": "server_error", "param": None, "code": "backend_fault", "request_id": "req_1"}
    assert frames(stream) == [{"error": error}]


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
deltas = st.builds(
    Delta,
    content=texts,
    thinking=texts,
    tool_calls=st.lists(st.builds(ToolCall, id=texts, name=texts, arguments=texts), max_size=2),
    logprobs=st.lists(st.builds(lambda token: {"token": token, "logprob": -1.0}, texts), max_size=2),
)


@given(st.lists(st.lists(deltas, max_size=3), max_size=4), st.booleans())
def test_nothing_said_is_lost_or_doubled(batches: list[list[Delta]], opened: bool) -> None:
    renderer = StreamRenderer(Kind.CHAT, R)
    stream = (renderer.first() if opened else b"") + b"".join(renderer.deltas(batch) for batch in batches)
    choices = [ChatCompletionChunk.model_validate(frame).choices[0] for frame in frames(stream)]
    every = [delta for batch in batches for delta in batch]
    assert "".join(choice.delta.content or "" for choice in choices) == "".join(delta.content for delta in every)
    thinking = "".join((choice.delta.model_extra or {}).get("reasoning", "") for choice in choices)
    assert thinking == "".join(delta.thinking for delta in every)
    calls = [call for choice in choices for call in choice.delta.tool_calls or ()]
    assert [call.id for call in calls] == [call.id for delta in every for call in delta.tool_calls]
    assert [call.index for call in calls] == list(range(len(calls)))
    tokens = [token for choice in choices if choice.logprobs for token in choice.logprobs.content or ()]
    assert [token.token for token in tokens] == [entry["token"] for delta in every for entry in delta.logprobs]


Answers = dict[str, tuple[int, str, bytes]]


@asynccontextmanager
async def replaying(answers: Answers) -> AsyncIterator[AsyncOpenAI]:
    """The OpenAI client, connected to a server that answers each path with fixed bytes."""

    async def handle(request: web.Request) -> web.Response:
        status, content_type, body = answers[request.path]
        return web.Response(status=status, body=body, content_type=content_type)

    runner = web.AppRunner(web.Application(), handle_signals=False)
    runner.app.router.add_post("/{path:.*}", handle)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        async with AsyncOpenAI(base_url=f"http://{host}:{port}/v1", api_key="k", max_retries=0) as client:
            yield client
    finally:
        await runner.cleanup()


def chat_stream(*batches: list[Delta], answer: TextAnswer = ANSWER) -> bytes:
    renderer = StreamRenderer(Kind.CHAT, R)
    said = renderer.first() + b"".join(renderer.deltas(batch) for batch in batches)
    return b": queued position=1\n\n" + said + renderer.finish(answer, include_usage=True)


async def test_the_client_reads_a_chat_stream() -> None:
    body = chat_stream([Delta("Hé", logprobs=[LOGPROB])], [Delta("llo"), Delta(" 🦙")])
    async with replaying({"/v1/chat/completions": (200, "text/event-stream", body)}) as client:
        stream = await client.chat.completions.create(model="m", messages=[], stream=True)
        chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Héllo 🦙"
    assert (chunks[0].choices[0].delta.role, chunks[-2].choices[0].finish_reason) == ("assistant", "stop")
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 5


async def test_the_client_gathers_streamed_tool_calls() -> None:
    body = chat_stream(
        [Delta(tool_calls=CALLS[:2])], [Delta(tool_calls=CALLS[2:])], answer=TextAnswer(model="m", tool_calls=CALLS)
    )
    async with (
        replaying({"/v1/chat/completions": (200, "text/event-stream", body)}) as client,
        client.chat.completions.stream(model="m", messages=[]) as stream,
    ):
        final = await stream.get_final_completion()
    calls = final.choices[0].message.tool_calls or []
    assert [(call.id, call.function.arguments) for call in calls] == [(call.id, call.arguments) for call in CALLS]
    assert final.choices[0].finish_reason == "tool_calls"


async def test_the_client_raises_on_an_error_in_mid_stream() -> None:
    renderer = StreamRenderer(Kind.CHAT, R)
    body = renderer.deltas([Delta("Hé")]) + renderer.error(BackendFault("the runner stopped").record())
    seen = []
    async with replaying({"/v1/chat/completions": (200, "text/event-stream", body)}) as client:
        stream = await client.chat.completions.create(model="m", messages=[], stream=True)
        with pytest.raises(openai.APIError, match="the runner stopped"):
            async for chunk in stream:
                seen += [chunk.choices[0].delta.content]
    assert seen == ["Hé"]


async def test_the_client_reads_whole_bodies() -> None:
    chat = TextAnswer(model="m", tool_calls=CALLS[:1], thinking="hm")
    vectors = EmbeddingAnswer(model="m", vectors=[pack_vector([0.5, -1.25])])
    renderer = StreamRenderer(Kind.COMPLETION, R)
    streamed = renderer.deltas([Delta("a"), Delta("b")]) + renderer.finish(ANSWER)
    answers = {
        "/v1/chat/completions": (200, "application/json", to_json(chat_body(R, chat))),
        "/v1/embeddings": (200, "application/json", to_json(embedding_body(R, vectors, "base64"))),
        "/v1/completions": (200, "text/event-stream", streamed),
    }
    async with replaying(answers) as client:
        answer = await client.chat.completions.create(model="m", messages=[])
        assert answer.choices[0].message.tool_calls is not None
        assert answer.choices[0].message.model_extra == {"reasoning": "hm"}
        # The client asks for base64 by itself and turns it into numbers.
        assert (await client.embeddings.create(model="m", input="x")).data[0].embedding == [0.5, -1.25]
        stream = await client.completions.create(model="m", prompt="x", stream=True)
        assert "".join([chunk.choices[0].text async for chunk in stream]) == "ab"
    plain = to_json(completion_body(R, ANSWER))
    async with replaying({"/v1/completions": (200, "application/json", plain)}) as client:
        assert (await client.completions.create(model="m", prompt="x")).choices[0].text == "Héllo"


async def test_the_client_maps_error_bodies_to_its_classes() -> None:
    for error, expected in (
        (ModelNotFound("no llama", param="model"), openai.NotFoundError),
        (Overloaded("full"), openai.RateLimitError),
    ):
        body = to_json(error_body(error.record(), "req_1"))
        async with replaying({"/v1/embeddings": (error.http_status, "application/json", body)}) as client:
            with pytest.raises(expected) as caught:
                await client.embeddings.create(model="m", input="x")
        assert (caught.value.code, caught.value.param) == (error.code, error.param)
