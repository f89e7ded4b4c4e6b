"""openai-python: each failure arrives as the exception its users catch, and its retries do as they are told."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam

from tests.compat.conftest import openai_client
from tests.integration.processes import eventually
from tests.integration.stack import LONG, Gateway, Stack, chat_body, submit

QUESTION: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Why do llamas hum?"}]
LONG_QUESTION: list[ChatCompletionMessageParam] = [{"role": "user", "content": f"Count the stones {LONG}"}]


def test_400_names_the_field(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="llama3.2", messages=QUESTION, temperature=9)
    assert caught.value.param == "temperature"
    assert caught.value.code == "invalid_request"
    assert caught.value.type == "invalid_request_error"
    assert caught.value.request_id


def test_400_for_more_than_one_answer(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="llama3.2", messages=QUESTION, n=2)
    assert caught.value.param == "n"


def test_400_for_token_ids(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="token ids"):
        client.embeddings.create(model="nomic-embed-text", input=[[1, 2, 3]])


def test_400_for_a_picture_by_address(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="data:"):
        client.chat.completions.create(
            model="llava",
            messages=[
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": "https://pictures.example/llama.png"}}],
                }
            ],
        )


def test_401_and_the_right_key(keyed: tuple[Gateway, str]) -> None:
    gateway, key = keyed
    with openai_client(gateway.url, "arr_wrong") as stranger, pytest.raises(openai.AuthenticationError) as caught:
        stranger.models.list()
    assert caught.value.code == "invalid_api_key"
    with openai_client(gateway.url, key) as known:
        assert list(known.models.list())


@pytest.mark.req("S2-29")
def test_404_for_an_unknown_model_with_the_way_out(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match=r"Did you mean llama3\.2.*ollama pull llama3\.3") as caught:
        client.chat.completions.create(model="llama3.3", messages=QUESTION)
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody-has-this")


def test_404_for_an_unknown_path(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.fine_tuning.jobs.list()
    assert caught.value.code == "route_not_found"


def test_409_when_the_job_is_cancelled_by_someone_else(client: OpenAI, stack: Stack) -> None:
    before = {call["request_id"] for call in stack.simulator.calls()}
    with ThreadPoolExecutor(1) as threads, stack.http() as http:
        call = threads.submit(lambda: client.chat.completions.create(model="llama3.2", messages=LONG_QUESTION))
        eventually(lambda: {c["request_id"] for c in stack.simulator.calls()} - before, 5, "the call upstream")
        (job,) = {c["request_id"] for c in stack.simulator.calls()} - before
        http.delete(f"/v1/jobs/{job}")
        error = call.exception(timeout=5)
    assert isinstance(error, openai.ConflictError)
    assert error.code == "job_cancelled"


def test_422_for_a_key_used_twice(client: OpenAI) -> None:
    headers = {"Idempotency-Key": "compat-422"}
    client.chat.completions.create(model="llama3.2", messages=QUESTION, extra_headers=headers)
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        client.chat.completions.create(model="llama3.2", messages=QUESTION, seed=1, extra_headers=headers)
    assert caught.value.code == "idempotency_mismatch"


def test_429_and_a_retry_that_waits_as_long_as_it_was_told(narrow: Gateway, stack: Stack) -> None:
    """One job runs, one waits: the door is shut. Between the library's tries both leave, and it gets its answer."""
    with httpx.Client(base_url=narrow.url, trust_env=False) as http:
        jobs = [submit(http, chat_body(f"Count the stones {LONG}"))]
        eventually(lambda: stack.simulator.calls(jobs[0]), 5, "the only slot busy")
        jobs.append(submit(http, chat_body("The one who waits")))
        with openai_client(narrow.url) as client, pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(model="llama3.2", messages=QUESTION)
        assert caught.value.code == "queue_full"
        refusal = caught.value.response.headers
        wait_s = int(refusal["retry-after-ms"]) / 1000
        assert wait_s > 0
        assert int(refusal["Retry-After"]) >= wait_s
        assert refusal["x-should-retry"] == "true"

        def leave() -> None:
            for job in jobs:
                http.delete(f"/v1/jobs/{job}")

        # Well before the second try, and after the first.
        leaving = threading.Timer(wait_s / 2, leave)
        leaving.start()
        began = time.monotonic()
        with OpenAI(base_url=f"{narrow.url}/v1", api_key="none", max_retries=1) as patient:
            answer = patient.chat.completions.create(model="llama3.2", messages=QUESTION)
        leaving.join()
    assert answer.choices[0].message.content
    assert wait_s <= time.monotonic() - began < wait_s + 3


def test_503_while_the_queue_is_away(queueless: Gateway) -> None:
    with openai_client(queueless.url) as client, pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="llama3.2", messages=QUESTION)
    assert caught.value.status_code == 503
    assert caught.value.code == "queue_unavailable"
    assert int(caught.value.response.headers["Retry-After"]) >= 1


def test_503_while_the_model_host_is_at_its_limit(client: OpenAI, stack: Stack) -> None:
    stack.simulator.misbehave("status", status=503, match={"model": "mistral"})
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="mistral", messages=QUESTION)
    assert caught.value.status_code == 503
    assert caught.value.code == "backend_busy"
    assert caught.value.response.headers["x-arriero-attempts"] == "3"


def test_a_stream_that_breaks_says_so(client: OpenAI, stack: Stack) -> None:
    stack.simulator.misbehave("cut", match={"model": "mistral"}, after_tokens=10)
    stream = client.chat.completions.create(model="mistral", messages=QUESTION, stream=True)
    seen = ""
    with pytest.raises(openai.APIError) as caught:
        for chunk in stream:
            seen += chunk.choices[0].delta.content or ""
    assert seen.startswith("Simulated answer")
    assert caught.value.code == "backend_protocol_error"
