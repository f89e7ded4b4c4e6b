"""The shared fixtures do what their users rely on."""

from __future__ import annotations

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisGone

from tests.conftest import WaitUntil
from tests.house.key_leaks import leaked_keys
from tests.house.redis_server import RedisServer


@pytest.mark.parametrize("round_number", [1, 2])
def test_each_test_starts_on_an_empty_database(redis_url: str, round_number: int) -> None:
    assert redis_url.endswith("/9")
    with Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left behind", round_number, ex=60)


def test_leaks_are_found_and_the_queue_itself_is_none(redis_server: RedisServer) -> None:
    with Redis.from_url(redis_server.url) as client:
        client.flushall()
        client.set("gw:{gw}:j:1", "never goes")
        client.set("gw:{gw}:j:2", "goes", ex=60)
        client.zadd("gw:{gw}:lines:high", {"1": 1})
        client.zadd("gw:{other}:alarms", {"1": 1})
        client.set("arq:job:{other}1", "goes with its job")
        client.set("gw:{other}:events:1", "goes with its job")
        client.set("arq:job:{other}2", "never goes")
        assert leaked_keys(client) == ["arq:job:{other}2", "gw:{gw}:j:1"]
        client.flushall()


def test_a_server_keeps_its_data_through_a_crash_if_told_to() -> None:
    with RedisServer(("--appendonly", "yes", "--appendfsync", "always")) as server:
        with Redis.from_url(server.url) as client:
            client.set("kept", "yes")
        server.kill()
        with Redis.from_url(server.url) as client, pytest.raises(RedisGone):
            client.ping()
        server.start()
        with Redis.from_url(server.url) as client:
            assert client.get("kept") == b"yes"


def test_a_server_that_cannot_start_says_why() -> None:
    with pytest.raises(RuntimeError, match="did not start"), RedisServer(("--no-such-option", "yes")):
        pass


async def test_wait_until_takes_plain_and_async_predicates(wait_until: WaitUntil) -> None:
    looks = iter([False, None, True])
    await wait_until(lambda: next(looks))
    answers = iter([0, 1])

    async def ask() -> int:
        return next(answers)

    await wait_until(ask)
    assert next(answers, "used up") == "used up"


async def test_wait_until_gives_up_and_says_on_what(wait_until: WaitUntil) -> None:
    with pytest.raises(AssertionError, match=r"the goose: not within 0\.05 s, last seen 0"):
        await wait_until(lambda: 0, timeout_s=0.05, description="the goose")
