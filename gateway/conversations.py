"""What was said in a conversation, for callers who send only what is new: bounded in every way, and forgotten in time.

A conversation is one tenant's, and exists only for a caller who named it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.errors import QueueUnavailable
from shared.lua import read_script, run_script, script_hash
from shared.queue.connection import within
from shared.queue.keys import Keys
from shared.telemetry.logging import logger
from shared.wire.canonical import Message

log = logger("conversations")

MOST_PER_TENANT = 1000
"""Conversations of one tenant; then the one that rested longest is forgotten."""
ANSWER_WITHIN_S = 2.0

_REMEMBER = read_script(files("gateway") / "lua", "remember")
_REMEMBER_HASH = script_hash(_REMEMBER)


class Exchange(msgspec.Struct, frozen=True, array_like=True):
    """What was said and answered, and by which job. `local_only`: it must not leave our own machines later, either."""

    job_id: str
    message: str
    answer: str
    local_only: bool = False


_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(Exchange)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryLimits:
    """Of one conversation: how long it is kept after its last exchange, how many exchanges, how many bytes of them."""

    ttl_s: float
    exchanges: int
    max_bytes: int


def to_messages(exchanges: Sequence[Exchange]) -> list[Message]:
    """The conversation so far, as a model reads it."""
    return [
        turn
        for exchange in exchanges
        for turn in (
            Message(role="user", content=exchange.message),
            Message(role="assistant", content=exchange.answer),
        )
    ]


class Conversations:
    """The conversations of one shard."""

    def __init__(
        self, redis: Redis, keys: Keys, limits: MemoryLimits, *, most_per_tenant: int = MOST_PER_TENANT
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._limits = limits
        self._most_per_tenant = most_per_tenant

    async def recall(self, tenant: str, conversation_id: str) -> list[Exchange]:
        """What is remembered, the oldest first; empty for a conversation nobody knows. Raises QueueUnavailable."""
        key = self._keys.conversation_root(tenant) + conversation_id
        read: Any = self._redis.lrange  # redis-py types it for its two kinds of client at once
        return [_decoder.decode(one) for one in await within(ANSWER_WITHIN_S, lambda: read(key, 0, -1))]

    async def remember(self, tenant: str, conversation_id: str, exchange: Exchange) -> bool:
        """Add an exchange; whether it was kept. Redis being away, or full, costs the memory and not the answer."""
        limits = self._limits
        keys = (self._keys.conversations(tenant), self._keys.conversation_root(tenant))
        bounds = (int(limits.ttl_s * 1000), limits.exchanges, limits.max_bytes, self._most_per_tenant)
        fields = (*keys, conversation_id, _encode(exchange), *bounds)
        try:
            kept = await within(
                ANSWER_WITHIN_S, lambda: run_script(self._redis, _REMEMBER, _REMEMBER_HASH, len(keys), *fields)
            )
        except (QueueUnavailable, RedisError) as error:
            log.warning("conversation.not_remembered", job_id=exchange.job_id, error=type(error).__name__)
            return False
        return bool(kept)
