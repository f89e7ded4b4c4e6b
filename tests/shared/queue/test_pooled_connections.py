"""A connection that comes back from the pool is used only if it is open and in step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from shared.queue.connection import connect
from tests.conftest import WaitUntil
from tests.shared.queue.rig import settings_for


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[AsyncRedis]:
    client = connect(settings_for(redis_url), max_connections=1)
    yield client
    await client.aclose(close_connection_pool=True)


async def test_one_that_redis_closed_meanwhile_is_made_anew(
    client: AsyncRedis, redis_url: str, wait_until: WaitUntil
) -> None:
    await client.ping()
    mine: Any = await client.client_id()
    with Redis.from_url(redis_url) as admin:
        admin.client_kill_filter(_id=mine)
    pooled: Any = client.connection_pool._available_connections[0]
    await wait_until(lambda: pooled._reader.at_eof(), description="the end of the connection seen")
    # No retry helps this call: it must not be sent on the closed connection in the first place.
    assert await client.client_id() != mine


@pytest.mark.parametrize("replies", [1, 2])
async def test_one_with_an_answer_left_over_is_made_anew(
    client: AsyncRedis, replies: int, wait_until: WaitUntil
) -> None:
    await client.set("a", "mine", ex=5)
    pooled: Any = await client.connection_pool.get_connection()
    for _ in range(replies):
        await pooled.send_command("ECHO", "someone else's")
    await wait_until(lambda: pooled._reader._buffer.count(b"else") == replies, description="the answers have come")
    if replies == 2:
        # Reading one puts both into the parser.
        await pooled.read_response()
        assert not pooled._reader._buffer
    await client.connection_pool.release(pooled)
    assert await asyncio.wait_for(client.get("a"), 5) == b"mine"
