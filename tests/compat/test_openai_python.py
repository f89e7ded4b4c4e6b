"""openai-python: what its users do every day."""

from __future__ import annotations

import json
import struct
from base64 import b64decode

import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from pydantic import BaseModel

QUESTION: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Why do llamas hum?"}]
WEATHER_QUESTION: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Ask get_weather about Lima"}]
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Current weather at a place",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
TEXTS = ["a llama on a mountain", "an invoice for ten chairs"]


def whole_text(client: OpenAI) -> str:
    text = client.chat.completions.create(model="llama3.2", messages=QUESTION).choices[0].message.content
    assert text
    return text


@pytest.mark.req("S1-03")
def test_a_chat(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="llama3.2", messages=QUESTION, temperature=0, seed=7, user="me")
    assert answer.object == "chat.completion"
    assert answer.model == "llama3.2"
    assert answer.id.startswith("chatcmpl-")
    choice = answer.choices[0]
    assert choice.finish_reason == "stop"
    assert choice.message.role == "assistant"
    assert choice.message.content and "Why do llamas hum" in choice.message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_limits_of_an_answer(client: OpenAI) -> None:
    short = client.chat.completions.create(model="llama3.2", messages=QUESTION, max_completion_tokens=5)
    assert short.choices[0].finish_reason == "length"
    assert short.usage is not None and short.usage.completion_tokens == 5
    stopped = client.chat.completions.create(model="llama3.2", messages=QUESTION, stop=["llama3.2"])
    assert stopped.choices[0].message.content == "Simulated answer from "


@pytest.mark.req("S2-35")
def test_a_streamed_chat_is_the_same_text_in_pieces(client: OpenAI) -> None:
    stream = client.chat.completions.create(
        model="llama3.2", messages=QUESTION, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    *spoken, last = chunks
    assert "".join(chunk.choices[0].delta.content or "" for chunk in spoken) == whole_text(client)
    assert spoken[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in spoken if chunk.choices[0].finish_reason] == ["stop"]
    assert len(spoken) > 3
    assert len({chunk.id for chunk in chunks}) == 1
    assert last.choices == []
    assert last.usage is not None and last.usage.completion_tokens > 0
    assert all(chunk.usage is None for chunk in spoken)


def test_a_stream_without_usage_has_only_choices(client: OpenAI) -> None:
    chunks = list(client.chat.completions.create(model="llama3.2", messages=QUESTION, stream=True))
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


def test_the_accumulating_stream_of_the_library(client: OpenAI) -> None:
    with client.chat.completions.stream(model="llama3.2", messages=QUESTION) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    assert final.choices[0].message.content == whole_text(client)


def test_a_tool_is_called_and_its_result_used(client: OpenAI) -> None:
    first = client.chat.completions.create(model="llama3.2", messages=WEATHER_QUESTION, tools=[WEATHER])
    choice = first.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert call.type == "function"
    assert call.function.name == "get_weather"
    assert isinstance(json.loads(call.function.arguments)["city"], str)
    # As its documentation has it: the library's own object goes back in.
    follow_up: list[ChatCompletionMessageParam] = [
        *WEATHER_QUESTION,
        choice.message.to_dict(),  # type: ignore[list-item]  # what the library itself recommends is not typed so
        {"role": "tool", "tool_call_id": call.id, "content": "19 degrees and fog"},
    ]
    second = client.chat.completions.create(model="llama3.2", messages=follow_up, tools=[WEATHER])
    assert second.choices[0].finish_reason == "stop"
    assert 'A tool said "19 degrees and fog"' in (second.choices[0].message.content or "")


def test_a_streamed_tool_call(client: OpenAI) -> None:
    chunks = client.chat.completions.create(model="llama3.2", messages=WEATHER_QUESTION, tools=[WEATHER], stream=True)
    identifiers, names, arguments, reasons = [], [], "", []
    for chunk in chunks:
        choice = chunk.choices[0]
        for piece in choice.delta.tool_calls or ():
            assert piece.index == 0
            assert piece.function is not None
            identifiers += [piece.id] if piece.id else []
            names += [piece.function.name] if piece.function.name else []
            arguments += piece.function.arguments or ""
        reasons += [choice.finish_reason] if choice.finish_reason else []
    assert len(identifiers) == 1
    assert names == ["get_weather"]
    assert "city" in json.loads(arguments)
    assert reasons == ["tool_calls"]


def test_json_mode(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="llama3.2", messages=QUESTION, response_format={"type": "json_object"}
    )
    assert isinstance(json.loads(answer.choices[0].message.content or ""), dict)


class Llama(BaseModel):
    name: str
    age: int
    hums: bool


def test_an_answer_that_follows_a_schema(client: OpenAI) -> None:
    answer = client.chat.completions.parse(model="llama3.2", messages=QUESTION, response_format=Llama)
    assert isinstance(answer.choices[0].message.parsed, Llama)


def test_token_probabilities(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="llama3.2", messages=QUESTION, logprobs=True, top_logprobs=2, max_tokens=4
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None and logprobs.content is not None
    assert "".join(entry.token for entry in logprobs.content) == answer.choices[0].message.content
    assert all(len(entry.top_logprobs) == 2 and entry.logprob <= 0 for entry in logprobs.content)


def test_a_picture(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="llava",
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
                ],
            }
        ],
    )
    assert "It came with 1 image." in (answer.choices[0].message.content or "")


@pytest.mark.req("S4-46", "S1-04")
def test_embeddings_are_the_same_numbers_in_both_encodings(client: OpenAI) -> None:
    # Unasked, the library sends `base64` and decodes it itself.
    default = client.embeddings.create(model="nomic-embed-text", input=TEXTS)
    floats = client.embeddings.create(model="nomic-embed-text", input=TEXTS, encoding_format="float")
    raw = client.embeddings.create(model="nomic-embed-text", input=TEXTS, encoding_format="base64")
    assert [item.index for item in default.data] == [0, 1]
    assert default.usage.prompt_tokens > 0
    for decoded, listed, packed in zip(default.data, floats.data, raw.data, strict=True):
        assert len(listed.embedding) == 768
        assert isinstance(packed.embedding, str)
        unpacked = list(struct.unpack("<768f", b64decode(packed.embedding)))
        assert unpacked == decoded.embedding == listed.embedding
    assert floats.data[0].embedding != floats.data[1].embedding


def test_one_text_and_a_chosen_size(client: OpenAI) -> None:
    answer = client.embeddings.create(model="nomic-embed-text", input="one", dimensions=64)
    assert [len(item.embedding) for item in answer.data] == [64]


def test_models(client: OpenAI) -> None:
    listed = {model.id for model in client.models.list()}
    assert {"llama3.2:latest", "nomic-embed-text:latest"} <= listed
    assert client.models.retrieve("llama3.2").id == "llama3.2:latest"


def test_a_legacy_completion(client: OpenAI) -> None:
    answer = client.completions.create(model="llama3.2", prompt="Once upon a time")
    assert answer.object == "text_completion"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None and answer.usage.completion_tokens > 0
    pieces = client.completions.create(
        model="llama3.2", prompt="Once upon a time", stream=True, stream_options={"include_usage": True}
    )
    chunks = list(pieces)
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == answer.choices[0].text
    assert chunks[-1].usage == answer.usage


def test_headers_of_an_answer(client: OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="llama3.2", messages=QUESTION, extra_headers={"x-request-id": "mine-1"}
    )
    assert raw.headers["x-request-id"] == "mine-1"
    assert raw.headers["x-arriero-job-id"].startswith("job_")
    assert raw.headers["x-arriero-attempts"] == "1"
    assert raw.headers["x-arriero-model"] == "llama3.2"
    assert int(raw.headers["openai-processing-ms"]) >= int(raw.headers["x-arriero-queue-ms"]) >= 0
    completion = raw.parse()
    assert completion._request_id == "mine-1"
    assert completion.id.removeprefix("chatcmpl-") == raw.headers["x-arriero-job-id"].removeprefix("job_")


def test_headers_of_a_stream(client: OpenAI) -> None:
    with client.chat.completions.with_streaming_response.create(
        model="llama3.2", messages=QUESTION, stream=True
    ) as raw:
        assert raw.headers["content-type"].startswith("text/event-stream")
        assert raw.headers["x-accel-buffering"] == "no"
        assert raw.headers["x-request-id"].startswith("req_")
        assert raw.headers["x-arriero-job-id"].startswith("job_")
        lines = [line for line in raw.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
