"""/v1: OpenAI's shapes over the same models, by the openai client and by hand."""

from __future__ import annotations

import base64
import json
import re
from array import array
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from tests.infra.conftest import Start
from tests.infra.simulator_api import Api

BODY: dict[str, Any] = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi [tokens=5]"}]}
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Sum numbers",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
    },
}


@pytest.fixture
async def client(api: Api) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=api.simulator.url + "/v1", api_key="none", max_retries=0) as client:
        yield client


async def test_a_whole_chat(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(**BODY)
    assert re.fullmatch(r"chatcmpl-\d{1,3}", answer.id) and answer.system_fingerprint == "fp_ollama"
    assert answer.choices[0].message.content and answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None and answer.usage.completion_tokens == 5


async def test_a_streamed_chat_with_usage(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(**BODY, stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in stream]
    assert len({(chunk.id, chunk.created) for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1])
    assert text == (await client.chat.completions.create(**BODY)).choices[0].message.content
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == [] and chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == 5


async def test_a_stream_ends_with_done(api: Api) -> None:
    reply = await api.post("/v1/chat/completions", {**BODY, "stream": True})
    assert reply.headers["content-type"] == "text/event-stream" and reply.body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("model", ["llama3.2", "mistral"])
async def test_tool_calls(client: openai.AsyncOpenAI, model: str) -> None:
    ask: Any = {"model": model, "messages": [{"role": "user", "content": "please add"}], "tools": [TOOL]}
    choice = (await client.chat.completions.create(**ask)).choices[0]
    assert choice.finish_reason == "tool_calls" and choice.message.tool_calls
    arguments = json.loads(choice.message.tool_calls[0].function.arguments)
    assert isinstance(arguments["a"], int)
    chunks = [chunk async for chunk in await client.chat.completions.create(**ask, stream=True)]
    [call] = [delta for chunk in chunks for delta in chunk.choices[0].delta.tool_calls or []]
    assert call.function is not None and json.loads(call.function.arguments or "") == arguments
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


async def test_structured_output_reasoning_and_limits(client: openai.AsyncOpenAI) -> None:
    schema: Any = {"type": "json_schema", "json_schema": {"name": "n", "schema": TOOL["function"]["parameters"]}}
    shaped = await client.chat.completions.create(**BODY, response_format=schema)
    assert isinstance(json.loads(shaped.choices[0].message.content or "")["a"], int)
    short = await client.chat.completions.create(**BODY, max_tokens=2)
    assert short.choices[0].finish_reason == "length"
    thought = await client.chat.completions.create(**{**BODY, "model": "qwen3"}, reasoning_effort="low")
    assert "thinking" in getattr(thought.choices[0].message, "reasoning")  # noqa: B009  # Ollama's field, not in the type


async def test_completions(client: openai.AsyncOpenAI) -> None:
    whole = await client.completions.create(model="llama3.2", prompt="hi [tokens=5]")
    assert whole.id.startswith("cmpl-") and whole.object == "text_completion"
    stream = await client.completions.create(
        model="llama3.2", prompt="hi [tokens=5]", stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == whole.choices[0].text
    assert chunks[0].usage is not None and chunks[0].usage.total_tokens == 0
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == 5


async def test_embeddings_in_both_encodings(api: Api) -> None:
    body = {"model": "nomic-embed-text", "input": ["a", "b"]}
    plain = (await api.post("/v1/embeddings", body)).json
    coded = (await api.post("/v1/embeddings", {**body, "encoding_format": "base64"})).json
    assert plain["object"] == "list" and [item["index"] for item in plain["data"]] == [0, 1]
    for one, other in zip(plain["data"], coded["data"], strict=True):
        values = array("f")
        values.frombytes(base64.b64decode(other["embedding"]))
        assert values.tolist() == one["embedding"]
    assert plain["usage"] == {"prompt_tokens": 2, "total_tokens": 2}


async def test_models(start: Start, client: openai.AsyncOpenAI) -> None:
    assert "llama3.2:latest" in [model.id async for model in client.models.list()]
    assert (await client.models.retrieve("llama3.2")).id == "llama3.2:latest"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("nope")
    empty = await start(models="")
    assert (await empty.get("/v1/models")).json == {"object": "list", "data": None}


@pytest.mark.parametrize(
    ("path", "body", "status", "kind", "text"),
    [
        ("chat/completions", {**BODY, "model": "nope"}, 404, "not_found_error", "model 'nope' not found"),
        ("chat/completions", {**BODY, "messages": []}, 400, "invalid_request_error", "[] is too short - 'messages'"),
        (
            "chat/completions",
            {**BODY, "max_tokens": "x"},
            500,
            "api_error",
            'option "num_predict" must be of type integer',
        ),
        ("embeddings", {"model": "nomic-embed-text", "input": []}, 400, "invalid_request_error", "invalid input"),
        (
            "embeddings",
            {"model": "nope", "input": "x"},
            404,
            "not_found_error",
            'model "nope" not found, try pulling it first',
        ),
    ],
)
async def test_errors_have_openais_shape(
    api: Api, path: str, body: dict[str, Any], status: int, kind: str, text: str
) -> None:
    reply = await api.post(f"/v1/{path}", body)
    assert reply.status == status
    assert reply.json == {"error": {"message": text, "type": kind, "param": None, "code": None}}


async def test_images_come_as_data_only(api: Api) -> None:
    def body(url: str) -> dict[str, Any]:
        parts = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": url}}]
        return {"model": "llava", "messages": [{"role": "user", "content": parts}]}

    seen = await api.post("/v1/chat/completions", body("data:image/png;base64,AAAA"))
    assert "1 image" in seen.json["choices"][0]["message"]["content"]
    assert (await api.post("/v1/chat/completions", body("http://example.com/x.png"))).status == 400
