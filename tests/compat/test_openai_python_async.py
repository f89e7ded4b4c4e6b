"""openai-python's asynchronous client: many at once, and leaving early."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from openai import APITimeoutError, AsyncOpenAI, InternalServerError, OpenAI
from openai.types.chat import ChatCompletionMessageParam

from tests.conftest import WaitUntil
from tests.integration.processes import eventually
from tests.integration.stack import LONG, SLOTS, Stack, chat_body, ended

CANCEL_LIMIT_S = 2.0
QUESTION: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Why do llamas hum?"}]
LONG_QUESTION: list[ChatCompletionMessageParam] = [{"role": "user", "content": f"Count the stones {LONG}"}]


@pytest.mark.req("S3-48")
async def test_several_calls_at_once(async_client: AsyncOpenAI, stack: Stack) -> None:
    """One gateway process waits for all of them, one worker process runs as many as it has slots."""
    questions = [f"Question {number}" for number in range(8)]
    answers = await asyncio.gather(
        *(
            async_client.chat.completions.create(model="llama3.2", messages=[{"role": "user", "content": question}])
            for question in questions
        )
    )
    for question, answer in zip(questions, answers, strict=True):
        assert f'to "{question}"' in (answer.choices[0].message.content or "")
    calls = [call for answer in answers for call in stack.simulator.calls(answer.id.replace("chatcmpl-", "job_"))]
    assert len(calls) == len(questions)
    at_once = [sum(c["at"] <= call["at"] < c["at"] + c["seconds"] for c in calls) for call in calls]
    assert max(at_once) == SLOTS


async def test_an_asynchronous_stream(async_client: AsyncOpenAI) -> None:
    stream = await async_client.chat.completions.create(model="llama3.2", messages=QUESTION, stream=True)
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    whole = await async_client.chat.completions.create(model="llama3.2", messages=QUESTION)
    assert text == whole.choices[0].message.content


async def test_asynchronous_embeddings_and_models(async_client: AsyncOpenAI) -> None:
    answer = await async_client.embeddings.create(model="nomic-embed-text", input=["a", "b", "c"])
    assert [item.index for item in answer.data] == [0, 1, 2]
    assert "mistral:latest" in [model.id async for model in async_client.models.list()]


async def test_closing_a_stream_ends_the_call_upstream(
    async_client: AsyncOpenAI, stack: Stack, wait_until: WaitUntil
) -> None:
    stream = await async_client.chat.completions.create(model="llama3.2", messages=LONG_QUESTION, stream=True)
    job = stream.response.headers["x-arriero-job-id"]
    async for chunk in stream:
        if chunk.choices[0].delta.content:
            break
    await stream.close()
    await wait_until(lambda: stack.simulator.was_cancelled(job), CANCEL_LIMIT_S, description="call cancelled")


async def test_cancelling_a_waiting_call_ends_it_upstream(
    async_client: AsyncOpenAI, stack: Stack, wait_until: WaitUntil
) -> None:
    before = {call["request_id"] for call in stack.simulator.calls()}
    call = asyncio.create_task(async_client.chat.completions.create(model="llama3.2", messages=LONG_QUESTION))

    def new() -> list[str]:
        return [call["request_id"] for call in stack.simulator.calls() if call["request_id"] not in before]

    await wait_until(new, description="the call upstream")
    (job,) = new()
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await wait_until(lambda: stack.simulator.was_cancelled(job), CANCEL_LIMIT_S, description="call cancelled")


def test_a_stream_may_take_longer_than_the_client_s_timeout(client: OpenAI) -> None:
    """To the library it limits the silence between two pieces."""
    question: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Tell me about the Andes [tokens=700]"}]
    began = time.monotonic()
    stream = client.chat.completions.create(model="llama3.2", messages=question, stream=True, timeout=1.0)
    chunks = list(stream)
    assert time.monotonic() - began > 1.0
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_a_job_may_take_longer_than_the_timeout_of_the_client_that_submits_it(client: OpenAI, stack: Stack) -> None:
    body = {"type": "chat.completion", "request": chat_body("Tell me about the Andes [tokens=700]")}
    accepted = client.post("/jobs", cast_to=dict[str, Any], body=body, options={"timeout": 1.0})
    with stack.http() as http:
        job = ended(http, accepted["id"])
    assert job["status"] == "succeeded"
    assert job["finished_at"] - job["created_at"] > 1.0


def test_the_client_s_own_timeout(client: OpenAI, stack: Stack) -> None:
    before = {call["request_id"] for call in stack.simulator.calls()}
    # The library tells its limit in a header, so the gateway may be the first of the two to give up.
    with pytest.raises((APITimeoutError, InternalServerError)):
        client.chat.completions.create(model="llama3.2", messages=LONG_QUESTION, timeout=0.6)
    jobs = {call["request_id"] for call in stack.simulator.calls()} - before
    assert jobs
    eventually(
        lambda: all(stack.simulator.was_cancelled(job) for job in jobs), CANCEL_LIMIT_S, "nobody works for the caller"
    )
