"""anthropic, Anthropic's own client, with a model host of Ollama's behind the queue."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import pytest
from anthropic import Anthropic, AsyncAnthropic, Omit
from anthropic.types import MessageParam, ToolParam
from pydantic import BaseModel

from tests.conftest import WaitUntil
from tests.integration.processes import eventually
from tests.integration.stack import LONG, Gateway, Stack, chat_body, submit

CANCEL_LIMIT_S = 5.0
QUESTION: list[MessageParam] = [{"role": "user", "content": "Why do llamas hum?"}]
WEATHER: ToolParam = {
    "name": "get_weather",
    "description": "Current weather at a place",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
WEATHER_QUESTION: list[MessageParam] = [{"role": "user", "content": "Ask get_weather about Lima"}]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def sdk(url: str, key: str = "none", **options: Any) -> Anthropic:
    """Without retries unless a test wants some, so that it sees each answer."""
    return Anthropic(base_url=url, api_key=key, **{"max_retries": 0, **options})


@pytest.fixture
def claude(stack: Stack) -> Iterator[Anthropic]:
    with sdk(stack.url) as client:
        yield client


def ask(client: Anthropic, model: str = "llama3.2", **more: Any) -> anthropic.types.Message:
    message: anthropic.types.Message = client.messages.create(
        **{"model": model, "max_tokens": 200, "messages": QUESTION, **more}
    )
    return message


def said(message: anthropic.types.Message) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


@pytest.mark.req("S3-24")
def test_a_chat(claude: Anthropic) -> None:
    answer = ask(claude, system="Be brief.", metadata={"user_id": "me"}, extra_body={"temperature": 0})
    assert (answer.type, answer.role, answer.model) == ("message", "assistant", "llama3.2")
    assert answer.id.startswith("msg_")
    assert "Why do llamas hum" in said(answer)
    assert answer.stop_reason == "end_turn"
    assert answer.usage.input_tokens > 0 and answer.usage.output_tokens > 0
    assert answer._request_id and answer._request_id.startswith("req_")
    assert ask(claude, max_tokens=5).stop_reason == "max_tokens"


@pytest.mark.req("S3-25")
def test_a_stream(claude: Anthropic) -> None:
    whole = ask(claude, extra_body={"temperature": 0})
    with claude.messages.stream(
        model="llama3.2", max_tokens=200, messages=QUESTION, extra_body={"temperature": 0}
    ) as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()
    assert len(pieces) > 3
    assert "".join(pieces) == said(final) == said(whole)
    assert final.usage == whole.usage
    assert final.stop_reason == "end_turn"
    kinds = [event.type for event in claude.messages.create(
        model="llama3.2", max_tokens=9, messages=QUESTION, stream=True
    )]  # fmt: skip
    assert (kinds[0], kinds[-1]) == ("message_start", "message_stop")


@pytest.mark.req("S3-12", "C18")
@pytest.mark.parametrize("streamed", [False, True])
def test_a_tool_is_called_and_its_result_used(claude: Anthropic, streamed: bool) -> None:
    if streamed:
        with claude.messages.stream(
            model="llama3.2", max_tokens=200, messages=WEATHER_QUESTION, tools=[WEATHER]
        ) as stream:
            called: Any = stream.get_final_message()
    else:
        called = ask(claude, messages=WEATHER_QUESTION, tools=[WEATHER], tool_choice={"type": "auto"})
    assert called.stop_reason == "tool_use"
    (use,) = [block for block in called.content if block.type == "tool_use"]
    assert use.name == "get_weather"
    assert isinstance(use.input["city"], str)
    result = {"type": "tool_result", "tool_use_id": use.id, "content": "It is 14 degrees and sunny."}
    turns = [
        *WEATHER_QUESTION,
        {"role": "assistant", "content": called.content},
        {"role": "user", "content": [result]},
    ]
    answer = ask(claude, messages=turns, tools=[WEATHER])
    assert answer.stop_reason == "end_turn"
    assert said(answer)


@pytest.mark.req("S3-12")
def test_the_clients_own_loop_over_tools(claude: Anthropic) -> None:
    asked: list[str] = []

    @anthropic.beta_tool
    def get_weather(city: str) -> str:
        """Current weather at a place.

        Args:
            city: Name of the place.
        """
        asked.append(city)
        return "It is 14 degrees and sunny."

    runner = claude.beta.messages.tool_runner(
        model="llama3.2",
        max_tokens=200,
        tools=[get_weather],
        messages=[{"role": "user", "content": "Ask get_weather about Lima"}],
    )
    final = runner.until_done()
    assert len(asked) == 1
    assert final.stop_reason == "end_turn"


class Llama(BaseModel):
    name: str
    hums: bool


def test_an_answer_that_follows_a_schema(claude: Anthropic) -> None:
    answer = claude.messages.parse(model="llama3.2", max_tokens=200, messages=QUESTION, output_format=Llama)
    assert isinstance(answer.parsed_output, Llama)


def test_a_picture(claude: Anthropic) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    content = [{"type": "image", "source": source}, {"type": "text", "text": "What is this?"}]
    assert "It came with 1 image." in said(ask(claude, "llava", messages=[{"role": "user", "content": content}]))


def test_headers_of_an_answer(claude: Anthropic) -> None:
    raw = claude.messages.with_raw_response.create(model="llama3.2", max_tokens=9, messages=QUESTION)
    assert raw.headers["x-arriero-attempts"] == "1"
    assert raw.parse().id.removeprefix("msg_") == raw.headers["x-arriero-job-id"].removeprefix("job_")


def test_refusals_arrive_as_the_librarys_own_errors(claude: Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError, match=r"Did you mean llama3\.2") as missing:
        ask(claude, "llama3.3")
    assert missing.value.type == "not_found_error"
    assert missing.value.request_id
    with pytest.raises(anthropic.BadRequestError, match="max_tokens") as bad:
        ask(claude, max_tokens=0)
    assert bad.value.type == "invalid_request_error"
    document = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}}
    with pytest.raises(anthropic.BadRequestError, match="documents"):
        ask(claude, messages=[{"role": "user", "content": [document]}])
    with pytest.raises(anthropic.NotFoundError, match="not counted"):
        claude.messages.count_tokens(model="llama3.2", messages=QUESTION)


def test_the_key_in_either_header(keyed: tuple[Gateway, str]) -> None:
    gateway, key = keyed
    with sdk(gateway.url, "arr_wrong") as stranger, pytest.raises(anthropic.AuthenticationError) as caught:
        ask(stranger)
    assert caught.value.type == "authentication_error"
    # Behind this gateway nobody works: that the model is not there in time shows that the key was good.
    soon = {"x-arriero-deadline-seconds": "0.2"}
    older = {"x-api-key": key, "Authorization": Omit()}
    for headers in ({}, older):
        with sdk(gateway.url, key, default_headers=headers) as known:
            with pytest.raises(anthropic.APIStatusError) as late:
                ask(known, extra_headers=soon)
            assert late.value.status_code == 504


def test_a_stream_that_breaks_says_so(claude: Anthropic, stack: Stack) -> None:
    stack.simulator.misbehave("cut", match={"model": "mistral"}, after_tokens=10)
    seen = ""
    with (
        pytest.raises(anthropic.APIStatusError) as caught,
        claude.messages.stream(model="mistral", max_tokens=200, messages=QUESTION) as stream,
    ):
        for text in stream.text_stream:
            seen += text
    assert seen.startswith("Simulated answer")
    assert caught.value.type == "api_error"


def test_a_retry_that_waits_as_long_as_it_was_told(narrow: Gateway, stack: Stack) -> None:
    """One job runs, one waits: the door is shut. Between the library's tries both leave, and it gets its answer."""
    with httpx.Client(base_url=narrow.url, trust_env=False) as http:
        jobs = [submit(http, chat_body(f"Count the stones {LONG}"))]
        eventually(lambda: stack.simulator.calls(jobs[0]), 10, "the only slot busy")
        jobs.append(submit(http, chat_body("The one who waits")))
        with sdk(narrow.url) as client, pytest.raises(anthropic.RateLimitError) as caught:
            ask(client)
        assert caught.value.type == "rate_limit_error"
        wait_s = int(caught.value.response.headers["retry-after-ms"]) / 1000
        assert wait_s > 0

        def leave() -> None:
            for job in jobs:
                http.delete(f"/v1/jobs/{job}")

        leaving = threading.Timer(wait_s / 2, leave)
        leaving.start()
        began = time.monotonic()
        with sdk(narrow.url, max_retries=1) as patient:
            answer = ask(patient)
        leaving.join()
    assert said(answer)
    assert time.monotonic() - began >= wait_s


async def test_leaving_a_stream_ends_the_call_upstream(stack: Stack, wait_until: WaitUntil) -> None:
    turns: list[MessageParam] = [{"role": "user", "content": f"Count the stones {LONG}"}]
    async with AsyncAnthropic(base_url=stack.url, api_key="none", max_retries=0) as client:
        async with client.messages.stream(model="llama3.2", max_tokens=90_000, messages=turns) as stream:
            job = stream.response.headers["x-arriero-job-id"]
            async for _ in stream.text_stream:
                break
        await wait_until(lambda: stack.simulator.was_cancelled(job), CANCEL_LIMIT_S, description="call cancelled")
