"""Kept answers: whose, which, how many, and what becomes of them without Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from redis.asyncio import Redis

from shared.queue.connection import connect
from shared.queue.keys import Keys
from shared.resilience.answer_cache import AnswerCache, digest, is_worth_keeping
from shared.resilience.answer_store import CachePolicy
from shared.wire.canonical import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    Message,
    Request,
    Sampling,
    TextAnswer,
    ToolCall,
)
from tests.conftest import WaitUntil
from tests.house.redis_server import free_port
from tests.shared.queue.rig import settings_for

KEYS = Keys("gw")
ASK = ChatRequest(model="llama3.2", messages=[Message(role="user", content="hi")])
ANSWER = TextAnswer(model="llama3.2", content="hello")
Make = Callable[..., AnswerCache]


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = connect(settings_for(redis_url))
    yield client
    await client.aclose(close_connection_pool=True)


@pytest.fixture
async def make(redis: Redis) -> AsyncIterator[Make]:
    made: list[AnswerCache] = []

    def cache(**policy: Any) -> AnswerCache:
        made.append(AnswerCache(redis, KEYS, CachePolicy(**policy)))
        return made[-1]

    yield cache
    for one in made:
        await one.aclose()


async def kept(cache: AnswerCache, name: str, answer: TextAnswer = ANSWER) -> None:
    cache.keep(name, answer)
    await cache.aclose()


# -- the name -------------------------------------------------------------------------------------------------------


@pytest.mark.req("S1-48")
def test_only_the_very_same_request_of_the_same_tenant_to_the_same_service_matches() -> None:
    name = digest("t", "chat", "ollama", ASK)
    assert name is not None
    assert digest("t", "chat", "ollama", replace(ASK, keep_alive="5m")) == name
    others: list[Request] = [
        replace(ASK, model="mistral"),
        replace(ASK, messages=[Message(role="user", content="hi ")]),
        replace(ASK, messages=[Message(role="system", content="hi")]),
        replace(ASK, sampling=Sampling(temperature=0.1)),
        replace(ASK, sampling=Sampling(options={"top_k": 1})),
        replace(ASK, format="json"),
        CompletionRequest(model="llama3.2", prompt="hi"),
    ]
    names = {name, digest("u", "chat", "ollama", ASK), digest("t", "completion", "ollama", ASK)}
    names |= {digest("t", "chat", "ollama", other) for other in others} | {digest("t", "chat", "cloud", ASK)}
    assert len(names) == 4 + len(others)


@given(st.permutations([("top_k", 1), ("num_ctx", 2048), ("mirostat", 0)]))
def test_the_order_of_options_does_not_matter(options: list[tuple[str, int]]) -> None:
    asked = replace(ASK, sampling=Sampling(options=dict(options)))
    ordered = replace(ASK, sampling=Sampling(options=dict(sorted(options))))
    assert digest("t", "chat", "ollama", asked) == digest("t", "chat", "ollama", ordered)


def test_private_requests_tools_images_and_embeddings_have_no_name() -> None:
    call = ToolCall(id="1", name="f", arguments="{}")
    assert digest("t", "chat", "ollama", ASK, no_store=True) is None
    assert digest("", "chat", "ollama", ASK) is None
    for message in (Message(role="user", images=["aGk="]), Message(role="assistant", tool_calls=[call]),
                    Message(role="tool", content="4")):  # fmt: skip
        assert digest("t", "chat", "ollama", replace(ASK, messages=[message])) is None
    assert digest("t", "chat", "ollama", replace(ASK, tools=[{"type": "function"}])) is None
    assert digest("t", "completion", "ollama", CompletionRequest(model="m", prompt="x", images=["aGk="])) is None
    assert digest("t", "embedding", "ollama", EmbeddingRequest(model="m", inputs=["x"])) is None


def test_only_whole_answers_of_the_asked_model_are_worth_keeping() -> None:
    assert is_worth_keeping(ANSWER)
    for poor in (
        replace(ANSWER, cached=True),
        replace(ANSWER, fallback_from="phi3"),
        replace(ANSWER, finish_reason="length"),
        replace(ANSWER, tool_calls=[ToolCall(id="1", name="f", arguments="{}")]),
        replace(ANSWER, content=""),
    ):
        assert not is_worth_keeping(poor)


# -- the store ------------------------------------------------------------------------------------------------------


@pytest.mark.req("S1-48")
async def test_an_answer_comes_back_marked(make: Make, redis: Redis) -> None:
    cache = make(ttl_s=100)
    await kept(cache, "a")
    assert await cache.get("a") == replace(ANSWER, cached=True)
    assert await cache.get("b") is None
    for key in (KEYS.answer_root + "a", KEYS.answers, KEYS.answer_sizes):
        assert 0 < await redis.ttl(key) <= 100


async def test_an_answer_ends_with_its_time_and_leaves_the_books(
    make: Make, redis: Redis, wait_until: WaitUntil
) -> None:
    await kept(make(ttl_s=0.05), "old")
    cache = make(ttl_s=100)

    async def is_gone() -> bool:
        return await cache.get("old") is None

    await wait_until(is_gone)
    await kept(cache, "new")
    assert await redis.zrange(KEYS.answers, 0, -1) == [b"new"]


async def test_all_answers_together_stay_within_their_bytes_and_the_oldest_go(make: Make, redis: Redis) -> None:
    cache = make(max_bytes=2000)
    for n in range(8):
        await kept(cache, str(n), replace(ANSWER, content=f"{n}" * 500))
    held = [n for n in range(8) if await cache.get(str(n)) is not None]
    assert held == list(range(8 - len(held), 8))
    assert 1 <= len(held) <= 3
    sizes = await redis.hgetall(KEYS.answer_sizes)  # type: ignore[misc]  # redis-py 5 types it as either
    total = int(sizes.pop(b""))
    assert total == sum(map(int, sizes.values())) <= 2000
    assert total == sum([await redis.strlen(KEYS.answer_root + str(n)) for n in held])


async def test_keeping_one_again_replaces_it(make: Make, redis: Redis) -> None:
    cache = make(max_bytes=2000)
    for text in ("one", "two"):
        await kept(cache, "a", replace(ANSWER, content=text))
    again = await cache.get("a")
    assert again is not None and again.content == "two"
    sizes = await redis.hgetall(KEYS.answer_sizes)  # type: ignore[misc]  # redis-py 5 types it as either
    assert sizes[b""] == sizes[b"a"]


async def test_one_that_is_too_long_is_not_kept(make: Make) -> None:
    cache = make(max_answer_bytes=300)
    await kept(cache, "a", replace(ANSWER, content="x" * 400))
    assert await cache.get("a") is None
    small = make(max_bytes=300)
    await kept(small, "a", replace(ANSWER, content="x" * 400))
    assert await small.get("a") is None


async def test_books_that_were_lost_do_not_stop_it(make: Make, redis: Redis) -> None:
    cache = make(max_bytes=1000)
    await kept(cache, "a", replace(ANSWER, content="x" * 600))
    await redis.delete(KEYS.answers)
    await kept(cache, "b", replace(ANSWER, content="x" * 600))
    assert await cache.get("b") is not None


@pytest.mark.req("S1-14")
async def test_without_redis_there_is_no_answer_and_no_error() -> None:
    redis = connect(settings_for(f"redis://127.0.0.1:{free_port()}/9"))
    cache = AnswerCache(redis, KEYS, CachePolicy())
    await kept(cache, "a")
    assert await cache.get("a") is None
    await redis.aclose(close_connection_pool=True)


async def test_foreign_bytes_are_no_answer(make: Make, redis: Redis) -> None:
    await redis.set(KEYS.answer_root + "a", b"\x80\x04pickle", ex=60)
    assert await make().get("a") is None
