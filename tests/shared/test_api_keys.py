"""Making, storing and recognising API keys."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from shared.api_keys import KeyRing, Role, as_key_store, create_key, list_keys, new_key, revoke_key
from shared.queue.keys import Keys


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as client:
        yield client


def test_a_key_is_recognised_whole_or_not_at_all() -> None:
    text, record = new_key(tenant="t", role=Role.INFERENCE, now=100.0)
    ring = KeyRing([record])
    assert ring.recognise(text, 200.0) is record
    for wrong in (text[:-1], text + "0", text.upper(), "", "ark_", text.replace("ark", "sk"), f" {text}", "\0" * 57):
        assert ring.recognise(wrong, 200.0) is None
    for index in range(len(text)):
        changed = text[:index] + ("0" if text[index] != "0" else "1") + text[index + 1 :]
        assert ring.recognise(changed, 200.0) is None


def test_the_secret_is_long_random_and_not_kept() -> None:
    made = [new_key(tenant="t", role=Role.ADMIN, now=0.0) for _ in range(100)]
    secrets = {text.rpartition("_")[2] for text, _ in made}
    assert len(secrets) == 100
    assert all(len(bytes.fromhex(secret)) * 8 >= 128 for secret in secrets)
    text, record = made[0]
    assert text.rpartition("_")[2] not in repr(record)


def test_a_key_ends_when_it_was_to_end() -> None:
    text, record = new_key(tenant="t", role=Role.ADMIN, expires_in_s=10, now=100.0)
    assert KeyRing([record]).recognise(text, 109.9)
    assert KeyRing([record]).recognise(text, 110.0) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"tenant": ""},
        {"tenant": "a b"},
        {"tenant": "a{b}"},
        {"role": Role.PUBLIC},
        {"name": "a\nb"},
        {"expires_in_s": 0},
    ],
)
def test_what_a_key_cannot_say(wrong: dict[str, object]) -> None:
    values: dict[str, object] = {"tenant": "t", "role": Role.ADMIN, "now": 0.0, **wrong}
    with pytest.raises(ValueError, match=next(iter(wrong))):
        new_key(**values)  # type: ignore[arg-type]  # the point of the test


def test_roles_contain_each_other() -> None:
    order = [Role.PUBLIC, Role.INFERENCE, Role.OPERATOR, Role.ADMIN]
    for mine in order:
        allowed = [needed for needed in order if mine.allows(needed)]
        assert allowed == order[: order.index(mine) + 1]


async def test_stored_listed_revoked(redis: Redis) -> None:
    store = as_key_store(redis)
    text, first = await create_key(store, "gw", tenant="red", role=Role.INFERENCE, name="laptop")
    _, second = await create_key(store, "gw", tenant="blue", role=Role.ADMIN, expires_in_s=60)
    assert await list_keys(store, "gw") == [first, second]
    assert await list_keys(store, "other") == []
    raw = b"".join((await store.hgetall(Keys("gw").api_keys)).values())
    assert text.rpartition("_")[2].encode() not in raw
    assert await revoke_key(store, "gw", first.id)
    assert not await revoke_key(store, "gw", first.id)
    assert [key.id for key in await list_keys(store, "gw")] == [second.id]


async def test_a_damaged_record_locks_nobody_out_and_lets_nobody_in(redis: Redis) -> None:
    store = as_key_store(redis)
    _, good = await create_key(store, "gw", tenant="t", role=Role.INFERENCE)
    for index, bad in enumerate((b"", b"\x80", b"\x80\x04\x95", b'{"role": "admin"}')):
        await store.hset(Keys("gw").api_keys, f"bad{index}", bad)
    assert await list_keys(store, "gw") == [good]
