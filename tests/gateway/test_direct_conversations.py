"""Conversations of the direct face: remembered for who named them, bounded, and forgotten."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.conversations import Conversations, Exchange, MemoryLimits, to_messages
from shared.api_keys import Role, as_key_store, create_key
from shared.errors import QueueUnavailable
from shared.queue.connection import connect
from shared.queue.keys import Keys
from shared.queue.running import RunningJob
from shared.wire.canonical import ChatRequest
from shared.wire.codec import decode_request
from tests.gateway.conftest import HandWorker, Served, StartGateway, say, settings_for
from tests.gateway.test_direct import events
from tests.house.redis_server import RedisServer

LIMITS = MemoryLimits(ttl_s=60, exchanges=3, max_bytes=1000)


@pytest.fixture
async def talks(redis_url: str) -> AsyncIterator[Conversations]:
    redis = connect(settings_for(redis_url))
    yield Conversations(redis, Keys("gw"), LIMITS, most_per_tenant=3)
    await redis.aclose(close_connection_pool=True)


def exchange(number: int, text: str = "hi") -> Exchange:
    return Exchange(job_id=f"job_{number}", message=text, answer=f"answer {number}")


async def numbers(talks: Conversations, name: str = "c", tenant: str = "t") -> list[str]:
    return [one.job_id.removeprefix("job_") for one in await talks.recall(tenant, name)]


async def test_only_the_latest_exchanges_are_kept(talks: Conversations) -> None:
    assert await talks.recall("t", "c") == []
    for number in range(5):
        assert await talks.remember("t", "c", exchange(number))
    assert await numbers(talks) == ["2", "3", "4"]
    roles = [(turn.role, turn.content) for turn in to_messages(await talks.recall("t", "c"))]
    assert roles[:2] == [("user", "hi"), ("assistant", "answer 2")]


async def test_only_so_many_bytes_are_kept(talks: Conversations) -> None:
    for number in range(3):
        await talks.remember("t", "c", exchange(number, "x" * 400))
    assert await numbers(talks) == ["1", "2"], "the oldest went"
    assert not await talks.remember("t", "c", exchange(9, "x" * 1000)), "one that cannot fit is not kept"
    assert await numbers(talks) == ["1", "2"], "nor does it push out the others"


async def test_only_so_many_conversations_of_a_tenant_are_kept(talks: Conversations) -> None:
    await talks.remember("other", "a", exchange(0))
    for name in ("a", "b", "c", "d"):
        # In the order of their names, which decides within one millisecond.
        await talks.remember("t", name, exchange(1))
    kept = [name for name in ("a", "b", "c", "d") if await talks.recall("t", name)]
    assert kept == ["b", "c", "d"]
    assert await talks.recall("other", "a"), "tenants do not crowd each other out"


async def test_an_exchange_told_twice_is_remembered_once(talks: Conversations) -> None:
    for _ in range(2):
        await talks.remember("t", "c", exchange(1))
    assert await numbers(talks) == ["1"]


async def test_everything_is_forgotten_in_time(redis_url: str) -> None:
    redis = connect(settings_for(redis_url))
    talks = Conversations(redis, Keys("gw"), MemoryLimits(ttl_s=60, exchanges=3, max_bytes=1000))
    await talks.remember("t", "c", exchange(1))
    names = [name async for name in redis.scan_iter()]
    assert sorted(names) == [b"gw:{gw}:conversation:t:c", b"gw:{gw}:conversations:t"]
    for name in names:
        assert 0 < await redis.ttl(name) <= 60
    await redis.aclose(close_connection_pool=True)


async def test_without_redis_the_answer_counts_more_than_the_memory() -> None:
    with RedisServer() as server:
        redis = connect(settings_for(server.url))
        talks = Conversations(redis, Keys("gw"), LIMITS)
        assert await talks.remember("t", "c", exchange(1))
        server.stop()
        assert not await talks.remember("t", "c", exchange(2))
        with pytest.raises(QueueUnavailable):
            await talks.recall("t", "c")
        await redis.aclose(close_connection_pool=True)


class Listener:
    """A worker's script that keeps what it was asked."""

    def __init__(self, worker: HandWorker) -> None:
        self.asked: list[list[str]] = []
        worker.script = self.answer

    async def answer(self, job: RunningJob) -> bytes:
        request = decode_request(job.kind, job.raw_request)
        assert isinstance(request, ChatRequest)
        self.asked.append([f"{turn.role}: {turn.content}" for turn in request.messages])
        return await say(job, f"answer {len(self.asked)}")


def message(text: str, **more: Any) -> dict[str, Any]:
    return {"message": text, "conversation_id": "c-1", **more}


@pytest.mark.req("S0-17", "S0-18")
async def test_a_conversation_goes_on_from_call_to_call(served: Served, worker: HandWorker) -> None:
    listener = Listener(worker)
    first = (await served.http.post("/chat", json=message("one"))).json()
    assert (first["conversation_id"], first["remembered"]) == ("c-1", True)
    streamed = await served.http.post("/chat/stream", json=message("two"))
    assert events(streamed.text)[-1][1]["remembered"] is True
    await served.http.post("/chat", json=message("three"))
    assert listener.asked == [
        ["user: one"],
        ["user: one", "assistant: answer 1", "user: two"],
        ["user: one", "assistant: answer 1", "user: two", "assistant: answer 2", "user: three"],
    ]
    await served.http.post("/chat", json=message("other", conversation_id="c-2"))
    await served.http.post("/chat", json={"message": "alone"})
    assert listener.asked[3:] == [["user: other"], ["user: alone"]]


async def test_no_store_leaves_no_trace(served: Served, worker: HandWorker) -> None:
    listener = Listener(worker)
    body = (await served.http.post("/chat", json=message("secret"), headers={"Cache-Control": "no-store"})).json()
    assert body["remembered"] is False
    await served.http.post("/chat", json=message("two"))
    assert listener.asked[1] == ["user: two"]


async def test_a_repetition_under_a_key_is_remembered_once(served: Served, worker: HandWorker) -> None:
    listener = Listener(worker)
    for _ in range(2):
        response = await served.http.post("/chat", json=message("one"), headers={"Idempotency-Key": "k-1"})
        assert response.json()["response"] == "answer 1"
    await served.http.post("/chat", json=message("two"))
    assert listener.asked[-1] == ["user: one", "assistant: answer 1", "user: two"]


async def test_a_conversation_is_its_tenants_own(start_gateway: StartGateway, worker: HandWorker) -> None:
    listener = Listener(worker)
    served = await start_gateway()
    keys = {}
    for tenant in ("one", "two"):
        text, _ = await create_key(as_key_store(served.queue.redis), "gw", tenant=tenant, role=Role.INFERENCE)
        keys[tenant] = {"Authorization": f"Bearer {text}"}
    for tenant in ("one", "two"):
        assert (await served.http.post("/chat", json=message("hi"), headers=keys[tenant])).status_code == 200
    assert listener.asked == [["user: hi"], ["user: hi"]]
