"""The response cache: whose answers, how old, how many."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

from shared.queue.connection import connect
from shared.queue.keys import Keys
from shared.queue.running import RunningJob
from shared.resilience.answer_store import CachePolicy
from shared.resilience.response_cache import ResponseCache, is_repeatable, response_name
from shared.wire import anthropic, ollama, openai
from shared.wire.canonical import (
    ChatRequest,
    CompletionRequest,
    EmbeddingAnswer,
    EmbeddingRequest,
    Message,
    Sampling,
    TextAnswer,
    pack_vector,
)
from tests.house.redis_server import free_port
from tests.shared.queue.rig import settings_for

KEYS = Keys("gw")
ASK = ChatRequest(model="llama3.2", messages=[Message(role="user", content="hi")])
ANSWER = TextAnswer(model="llama3.2", content="hello")


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = connect(settings_for(redis_url))
    yield client
    await client.aclose(close_connection_pool=True)


def job(name: str, tenant: str = "t", **fields: Any) -> RunningJob:
    outbox: Any = None
    return RunningJob(
        id="job_1", kind="chat", token="", attempt=1, failures=0, enqueued_ms=0, claimed_ms=0, deadline=0.0,
        keeps_events=False, restartable=False, raw_request=msgspec.Raw(b""), outbox=outbox, tenant=tenant,
        cache_as=name, **fields,
    )  # fmt: skip


async def keep(cache: ResponseCache, *jobs: RunningJob, answer: TextAnswer | EmbeddingAnswer = ANSWER) -> None:
    for one in jobs:
        cache.keep(one, answer)
        await cache.aclose()  # in this order


async def held(cache: ResponseCache, tenant: str, *names: str) -> list[str]:
    return [name for name in names if await cache.get(tenant, "chat", name, oldest_s=60) is not None]


def test_a_name_is_one_request_of_one_tenant_at_one_service() -> None:
    name = response_name("t", "chat", "ollama", ASK)
    assert name == response_name("t", "chat", "ollama", replace(ASK, keep_alive="5m"))
    others = {
        response_name("u", "chat", "ollama", ASK),
        response_name("t", "completion", "ollama", ASK),
        response_name("t", "chat", "openai", ASK),
        response_name("t", "chat", "ollama", replace(ASK, model="phi3")),
        response_name("t", "chat", "ollama", replace(ASK, sampling=Sampling(seed=1))),
    }
    assert len(others | {name}) == 6


def test_a_request_that_leaves_nothing_open_is_the_same_through_every_face() -> None:
    said: dict[str, Any] = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}]}
    asked = [
        openai.to_chat(openai.ChatCompletionBody(**said, temperature=0.5, max_tokens=64)),
        ollama.to_chat(
            ollama.OllamaChatBody.model_validate({**said, "options": {"temperature": 0.5, "num_predict": 64}})
        ),
        anthropic.to_chat(anthropic.AnthropicMessagesBody(**said, temperature=0.5, max_tokens=64)),
    ]
    assert len({response_name("t", "chat", "ollama", request) for request in asked}) == 1


def test_what_has_more_than_text_in_it_has_no_name() -> None:
    assert response_name("t", "chat", "ollama", replace(ASK, tools=[{"type": "function"}])) == ""
    picture = CompletionRequest(model="llava", prompt="x", images=["aGk="])
    assert response_name("t", "completion", "ollama", picture) == ""
    assert response_name("", "chat", "ollama", ASK) == ""


def test_repeatable_are_vectors_a_seed_and_temperature_zero() -> None:
    assert is_repeatable(EmbeddingRequest(model="m", inputs=["x"]))
    assert is_repeatable(replace(ASK, sampling=Sampling(seed=0)))
    assert is_repeatable(replace(ASK, sampling=Sampling(temperature=0)))
    assert not is_repeatable(replace(ASK, sampling=Sampling(temperature=0.1)))
    assert not is_repeatable(ASK)


@pytest.mark.req("S0-53")
async def test_nothing_older_than_wanted_and_nothing_of_another_tenant(redis: Redis) -> None:
    cache = ResponseCache(redis, KEYS, CachePolicy(ttl_s=100))
    await keep(cache, job("n"))
    hit = await cache.get("t", "chat", "n", oldest_s=60)
    assert hit is not None and 0 <= hit.age_s < 60
    assert await cache.get("u", "chat", "n", oldest_s=60) is None
    await redis.pexpire(KEYS.response_root("t") + "n", 30_000)  # as if it had been kept 70 s ago
    assert await cache.get("t", "chat", "n", oldest_s=60) is None
    aged = await cache.get("t", "chat", "n", oldest_s=80)
    assert aged is not None and 70 <= aged.age_s < 80


@pytest.mark.req("S0-53")
async def test_each_tenant_has_room_for_so_many_and_drives_out_only_its_own(redis: Redis) -> None:
    cache = ResponseCache(redis, KEYS, CachePolicy(max_answers=2))
    await keep(cache, job("1", "u"), *(job(str(n)) for n in range(4)))
    assert await held(cache, "t", "0", "1", "2", "3") == ["2", "3"]
    assert await held(cache, "u", "1") == ["1"]


async def test_all_of_a_tenant_stay_within_their_bytes(redis: Redis) -> None:
    cache = ResponseCache(redis, KEYS, CachePolicy(max_bytes=2000))
    await keep(cache, *(job(str(n)) for n in range(8)), answer=replace(ANSWER, content="x" * 500))
    assert await held(cache, "t", *map(str, range(8))) in (["6", "7"], ["5", "6", "7"])


async def test_vectors_are_kept_too_and_a_poor_answer_is_not(redis: Redis) -> None:
    cache = ResponseCache(redis, KEYS)
    await keep(cache, job("v"), answer=EmbeddingAnswer(model="m", vectors=[pack_vector([1.0])]))
    await keep(cache, job("p"), answer=replace(ANSWER, finish_reason="length"))
    assert await cache.get("t", "embedding", "v", oldest_s=60) is not None
    assert await cache.get("t", "chat", "p", oldest_s=60) is None


@pytest.mark.req("C20")
async def test_a_private_job_leaves_nothing_even_if_it_is_named(redis: Redis) -> None:
    cache = ResponseCache(redis, KEYS)
    await keep(cache, job("a", local_only=True), job("b", no_store=True), job(""))
    assert await redis.dbsize() == 0


async def test_foreign_bytes_are_no_answer(redis: Redis) -> None:
    await redis.set(KEYS.response_root("t") + "n", b"\x80\x04pickle", ex=60)
    assert await ResponseCache(redis, KEYS).get("t", "chat", "n", oldest_s=60) is None


async def test_without_redis_it_is_a_miss() -> None:
    redis = connect(settings_for(f"redis://127.0.0.1:{free_port()}/9"))
    cache = ResponseCache(redis, KEYS)
    await keep(cache, job("n"))
    assert await cache.get("t", "chat", "n", oldest_s=60) is None
    await redis.aclose(close_connection_pool=True)
