"""The catalogue in Redis: a hash for each model, and for each service an index of its models."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, cast

from redis.asyncio import Redis

from shared.catalogue.record import ModelRecord, pack, unpack
from shared.queue.client import ANSWER_WITHIN_S
from shared.queue.connection import within
from shared.queue.keys import Keys

RECORD_TTL_S = 7 * 86_400.0
"""Renewed whenever a service is read; a service that is away keeps its models for so long."""
MAX_MODELS = 1000
"""Of one service; what is beyond is not kept."""


class CatalogueStore:
    """Calls raise QueueUnavailable while Redis is away."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def read(self, service: str) -> list[ModelRecord]:
        """The models of a service, by name."""
        index = self._keys.service_models(service)

        async def read() -> list[Any]:
            names = await cast("Any", self._redis.zrange(index, 0, -1))
            pipe = self._redis.pipeline(transaction=False)
            for name in names:
                pipe.hgetall(self._keys.model_root(service) + name.decode())
            return await pipe.execute()

        stored = await within(ANSWER_WITHIN_S, read)
        found = [record for record in map(unpack, stored) if record is not None]
        return sorted(found, key=lambda record: record.upstream_name)

    async def write(self, service: str, records: Sequence[ModelRecord], *, complete: bool) -> None:
        """Keep what is known of a service's models. `complete`: it has no others, so the rest is forgotten."""
        index, root = self._keys.service_models(service), self._keys.model_root(service)
        kept = records[:MAX_MODELS]
        now_ms, ttl_ms = int(time.time() * 1000), int(RECORD_TTL_S * 1000)

        async def write() -> None:
            names = {record.upstream_name for record in kept}
            newest_first = await cast("Any", self._redis.zrange(index, 0, -1, desc=True, withscores=True))
            others = [(name, seen_ms) for name, seen_ms in newest_first if name.decode() not in names]
            # What is not renewed lapses with its hash; only a service that told all its models lets go of one at once.
            stay = [] if complete else [name for name, seen_ms in others if seen_ms >= now_ms - ttl_ms]
            stay = stay[: MAX_MODELS - len(kept)]
            gone = [name for name, _ in others if name not in stay]
            pipe = self._redis.pipeline(transaction=False)
            for name in gone:
                pipe.zrem(index, name)
                pipe.delete(root + name.decode())
            for record in kept:
                key = root + record.upstream_name
                pipe.hset(key, mapping=pack(record))
                pipe.pexpire(key, ttl_ms)
                pipe.zadd(index, {record.upstream_name: now_ms})
            pipe.pexpire(index, ttl_ms)
            await pipe.execute()

        await within(ANSWER_WITHIN_S, write)

    async def is_fresh(self, service: str) -> bool:
        """Whether somebody read the service's machines a moment ago."""
        return bool(await within(ANSWER_WITHIN_S, lambda: self._redis.exists(self._keys.service_seen(service))))

    async def mark_fresh(self, service: str, for_s: float) -> None:
        await within(
            ANSWER_WITHIN_S, lambda: self._redis.set(self._keys.service_seen(service), 1, px=int(for_s * 1000))
        )

    async def unmark(self, service: str) -> None:
        await within(ANSWER_WITHIN_S, lambda: self._redis.delete(self._keys.service_seen(service)))
