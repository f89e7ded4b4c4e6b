"""ollama-python, sync and async: what its users do every day, with nothing changed but the host."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import ollama
import pytest
from ollama import AsyncClient, Client, Options, ResponseError
from pydantic import BaseModel

from tests.conftest import WaitUntil
from tests.integration.processes import eventually
from tests.integration.stack import LONG, Gateway, Stack, chat_body, submit

QUESTION = [{"role": "user", "content": "Why do llamas hum?"}]
LONG_QUESTION = [{"role": "user", "content": f"Count the stones {LONG}"}]
WEATHER_QUESTION = [{"role": "user", "content": "Ask get_weather about Lima"}]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def get_weather(city: str) -> str:
    """Current weather at a place.

    Args:
      city: The place.
    """
    return f"19 degrees and fog in {city}"


@pytest.fixture
def client(stack: Stack) -> Iterator[Client]:
    with Client(host=stack.url) as client:
        yield client


@pytest.fixture
async def async_client(stack: Stack) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(host=stack.url) as client:
        yield client


def refusal(caught: pytest.ExceptionInfo[ResponseError], status: int, says: str) -> None:
    assert caught.value.status_code == status
    assert says in caught.value.error


@pytest.mark.req("S2-03", "S3-02")
def test_a_chat(client: Client) -> None:
    answer = client.chat("llama3.2", QUESTION, options=Options(temperature=0, seed=7), keep_alive="5m")
    assert (answer.model, answer.done, answer.done_reason) == ("llama3.2", True, "stop")
    assert "Why do llamas hum" in (answer.message.content or "")
    assert answer.eval_count and answer.prompt_eval_count
    assert answer.total_duration and answer.eval_duration
    assert answer.total_duration >= answer.eval_duration


@pytest.mark.req("S2-24", "S2-35")
def test_a_streamed_chat_is_the_same_text_in_pieces(client: Client) -> None:
    parts = list(client.chat("llama3.2", QUESTION, stream=True))
    assert len(parts) > 3
    assert [part.done for part in parts].index(True) == len(parts) - 1
    text = "".join(part.message.content or "" for part in parts)
    assert text == client.chat("llama3.2", QUESTION).message.content
    assert parts[-1].eval_count


def test_limits_of_an_answer(client: Client) -> None:
    short = client.chat("llama3.2", QUESTION, options={"num_predict": 5})
    assert (short.done_reason, short.eval_count) == ("length", 5)
    stopped = client.chat("llama3.2", QUESTION, options={"stop": ["llama3.2"]})
    assert stopped.message.content == "Simulated answer from "


@pytest.mark.req("S2-44")
@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_is_called_and_its_result_used(client: Client, stream: bool) -> None:
    if stream:
        parts = client.chat("llama3.2", WEATHER_QUESTION, tools=[get_weather], stream=True)
        said = [part.message for part in parts if part.message.tool_calls]
    else:
        said = [client.chat("llama3.2", WEATHER_QUESTION, tools=[get_weather]).message]
    (message,) = said
    assert message.tool_calls is not None
    (call,) = message.tool_calls
    assert call.function.name == "get_weather"
    assert isinstance(call.function.arguments["city"], str)
    result = {"role": "tool", "tool_name": "get_weather", "content": "19 degrees and fog"}
    second = client.chat("llama3.2", [*WEATHER_QUESTION, message, result], tools=[get_weather])
    assert 'A tool said "19 degrees and fog"' in (second.message.content or "")


class Llama(BaseModel):
    name: str
    age: int
    hums: bool


def test_json_and_a_schema(client: Client) -> None:
    assert isinstance(json.loads(client.chat("llama3.2", QUESTION, format="json").message.content or ""), dict)
    answer = client.chat("llama3.2", QUESTION, format=Llama.model_json_schema())
    Llama.model_validate_json(answer.message.content or "")


def test_a_picture(client: Client) -> None:
    asked = [{"role": "user", "content": "What is this?", "images": [PIXEL]}]
    assert "It came with 1 image." in (client.chat("llava", asked).message.content or "")
    generated = client.generate("llava", "What is this?", images=[PIXEL])
    assert "It came with 1 image." in (generated.response or "")


def test_token_probabilities(client: Client) -> None:
    answer = client.chat("llama3.2", QUESTION, logprobs=True, top_logprobs=2, options={"num_predict": 4})
    assert answer.logprobs is not None
    assert "".join(entry.token for entry in answer.logprobs) == answer.message.content
    assert all(entry.top_logprobs and len(entry.top_logprobs) == 2 for entry in answer.logprobs)


def test_a_generation(client: Client) -> None:
    whole = client.generate("llama3.2", "Once upon a time", system="be brief")
    assert whole.done_reason == "stop"
    parts = list(client.generate("llama3.2", "Once upon a time", system="be brief", stream=True))
    assert "".join(part.response or "" for part in parts) == whole.response


def test_a_model_is_loaded_by_asking_nothing_of_it(client: Client) -> None:
    for answer in (
        client.generate("mistral", ""),
        client.chat("mistral", []),
        client.generate("mistral"),
    ):
        assert (answer.done, answer.done_reason) == (True, "load")
    assert "mistral:latest" in {model.name for model in client.ps().models}
    with pytest.raises(ResponseError) as caught:
        client.generate("mistral", keep_alive=0)
    refusal(caught, 403, "arriero models unload mistral")


@pytest.mark.req("S1-04")
def test_embeddings(client: Client) -> None:
    two = client.embed("nomic-embed-text", ["a llama on a mountain", "an invoice"])
    assert [len(vector) for vector in two.embeddings] == [768, 768]
    assert two.prompt_eval_count
    one = client.embed("nomic-embed-text", "an invoice", dimensions=64)
    assert [len(vector) for vector in one.embeddings] == [64]
    older = client.embeddings("nomic-embed-text", "an invoice")
    assert list(older.embedding) == list(two.embeddings[1])
    assert list(client.embed("nomic-embed-text", "").embeddings) == []


def test_what_is_installed_and_loaded(client: Client) -> None:
    listed = {model.model: model for model in client.list().models}
    assert {"llama3.2:latest", "nomic-embed-text:latest"} <= listed.keys()
    assert listed["llama3.2:latest"].size and listed["llama3.2:latest"].modified_at
    client.generate("llama3.2", "")
    (loaded,) = [model for model in client.ps().models if model.model == "llama3.2:latest"]
    assert loaded.digest == listed["llama3.2:latest"].digest
    assert loaded.size_vram and loaded.expires_at and loaded.context_length
    shown = client.show("llama3.2")
    assert shown.capabilities == ["completion", "tools"]
    assert shown.modelinfo is not None and shown.modelinfo["general.architecture"] == "llama"
    assert shown.details is not None and shown.details.parameter_size == "3.2B"


def test_the_key_goes_in_a_header(keyed: tuple[Gateway, str]) -> None:
    gateway, key = keyed
    with Client(host=gateway.url) as stranger, pytest.raises(ResponseError) as caught:
        stranger.list()
    refusal(caught, 401, "API key")
    with Client(host=gateway.url, headers={"Authorization": f"Bearer {key}"}) as known:
        assert known.list().models


@pytest.mark.req("S2-29")
def test_refusals_arrive_as_the_library_s_own_error(client: Client) -> None:
    with pytest.raises(ResponseError) as caught:
        client.chat("llama3.3", QUESTION)
    refusal(caught, 404, "Did you mean llama3.2")
    with pytest.raises(ResponseError) as caught:
        client.show("nobody-has-this")
    refusal(caught, 404, "nobody-has-this")
    with pytest.raises(ResponseError) as caught:
        client.chat("llama3.2", QUESTION, options={"num_ctx": -1})
    refusal(caught, 400, "`options.num_ctx`")
    with pytest.raises(ResponseError) as caught:
        client.generate("llama3.2", "go on", context=[1, 2])
    refusal(caught, 400, "`context`")
    for refused in (
        lambda: client.pull("llama3.3"),
        lambda: client.delete("llama3.2"),
        lambda: client.copy("llama3.2", "mine"),
        lambda: client.create("mine", from_="llama3.2"),
        lambda: client.push("mine"),
    ):
        with pytest.raises(ResponseError) as caught:
            refused()  # type: ignore[no-untyped-call]  # the library leaves one of them without types
        refusal(caught, 403, "leaves that to operators")


def test_a_stream_of_a_model_nobody_has(client: Client) -> None:
    with pytest.raises(ResponseError) as caught:
        list(client.chat("llama3.3", QUESTION, stream=True))
    refusal(caught, 404, "not installed")


def test_a_stream_that_breaks_says_so(client: Client, stack: Stack) -> None:
    stack.simulator.misbehave("cut", match={"model": "mistral"}, after_tokens=10)
    seen = ""
    with pytest.raises(ResponseError, match="broke"):
        for part in client.chat("mistral", QUESTION, stream=True):
            seen += part.message.content or ""
    assert seen.startswith("Simulated answer")


def test_a_full_queue(narrow: Gateway, stack: Stack) -> None:
    with httpx.Client(base_url=narrow.url, trust_env=False) as http, Client(host=narrow.url) as client:
        jobs = [submit(http, chat_body(f"Count the stones {LONG}"))]
        eventually(lambda: stack.simulator.calls(jobs[0]), 5, "the only slot busy")
        jobs.append(submit(http, chat_body("The one who waits")))
        with pytest.raises(ResponseError) as caught:
            client.chat("llama3.2", QUESTION)
        for job in jobs:
            http.delete(f"/v1/jobs/{job}")
    assert caught.value.status_code == 429


def test_the_queue_is_away(queueless: Gateway) -> None:
    with Client(host=queueless.url) as client, pytest.raises(ResponseError) as caught:
        client.chat("llama3.2", QUESTION)
    assert caught.value.status_code == 503


def test_a_job_that_someone_else_cancels(client: Client, stack: Stack) -> None:
    before = {call["request_id"] for call in stack.simulator.calls()}
    with ThreadPoolExecutor(1) as threads, stack.http() as http:
        call = threads.submit(lambda: client.chat("llama3.2", LONG_QUESTION))
        eventually(lambda: {c["request_id"] for c in stack.simulator.calls()} - before, 5, "the call upstream")
        (job,) = {c["request_id"] for c in stack.simulator.calls()} - before
        http.delete(f"/v1/jobs/{job}")
        error = call.exception(timeout=5)
    assert isinstance(error, ResponseError)
    assert error.status_code == 409


async def test_asynchronous_calls_side_by_side(async_client: AsyncClient) -> None:
    answers = await asyncio.gather(
        *(async_client.chat("llama3.2", [{"role": "user", "content": f"Question {n}"}]) for n in range(6))
    )
    for number, answer in enumerate(answers):
        assert f'to "Question {number}"' in (answer.message.content or "")
    stream = await async_client.generate("llama3.2", "Once upon a time", stream=True)
    text = "".join([part.response or "" async for part in stream])
    assert text == (await async_client.generate("llama3.2", "Once upon a time")).response
    assert len((await async_client.embed("nomic-embed-text", ["a", "b"])).embeddings) == 2
    assert (await async_client.list()).models
    assert (await async_client.show("llama3.2")).capabilities


async def test_leaving_a_stream_ends_the_call_upstream(
    async_client: AsyncClient, stack: Stack, wait_until: WaitUntil
) -> None:
    before = {call["request_id"] for call in stack.simulator.calls()}
    stream: AsyncIterator[ollama.ChatResponse] = await async_client.chat("llama3.2", LONG_QUESTION, stream=True)
    async for part in stream:
        if part.message.content:
            break
    (job,) = {call["request_id"] for call in stack.simulator.calls()} - before
    await stream.aclose()  # type: ignore[attr-defined]  # the library hands out a generator under a wider type
    await wait_until(lambda: stack.simulator.was_cancelled(job), 2, description="call cancelled")
