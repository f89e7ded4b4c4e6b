"""Which models stay in memory: pinned by an operator, or kept there by the leading manager.

The manager owns residency, so every call of a model says how long it stays afterwards (`keep_alive`), whatever its
caller asked for: pinned and kept models for ever, the others `MODEL_UNLOAD_TIMEOUT`. Without any manager the server
itself thus unloads what nobody uses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import msgspec
from redis.asyncio import Redis

from shared.background import Rounds
from shared.model_names import same
from shared.queue.keys import Keys

READ_EVERY_S = 5.0
LIMIT_S = 1.0
FOR_EVER_S = -1.0
_names = msgspec.msgpack.Decoder(list[str])


class Pins:
    """The operator's pins. Raises RedisError or OSError when Redis does not answer."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def pin(self, model: str) -> None:
        """Never unload or delete `model`, on whatever host. It is not loaded by that."""
        await self._redis.sadd(self._keys.pins, same(model))  # type: ignore[misc]  # redis-py 5 types it as either

    async def unpin(self, model: str) -> None:
        await self._redis.srem(self._keys.pins, same(model))  # type: ignore[misc]  # redis-py 5 types it as either

    async def read(self) -> frozenset[str]:
        """The pinned models, spelled as `shared.model_names.same` does."""
        members = await self._redis.smembers(self._keys.pins)  # type: ignore[misc]  # redis-py 5 types it as either
        return frozenset(member.decode() for member in members)


def pack_residents(models: Collection[str]) -> bytes:
    """What the leading manager stores under `Keys.residents`: the models it keeps in memory, its preload list."""
    return msgspec.msgpack.encode(sorted({same(model) for model in models}))


class KeepAlive:
    """How long each model stays in memory after a call, for a worker: answered from memory, read every few seconds.

    While Redis is away, what was read last holds.
    """

    def __init__(self, redis: Redis, keys: Keys, *, unload_after_s: float) -> None:
        self._redis = redis
        self._keys = keys
        self._unload_after_s = unload_after_s
        self._kept: frozenset[str] = frozenset()
        self._reading = Rounds("pins", self.read, READ_EVERY_S, away="pins.as_last_read")

    def seconds(self, model: str) -> float:
        """To be sent as `keep_alive`; below 0: for ever."""
        return FOR_EVER_S if same(model) in self._kept else self._unload_after_s

    async def start(self) -> None:
        self._reading.start()

    async def stop(self) -> None:
        await self._reading.stop()

    async def read(self) -> None:
        """Take over what holds now. Raises RedisError or OSError."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.smembers(self._keys.pins)
        pipe.get(self._keys.residents)
        async with asyncio.timeout(LIMIT_S):
            pins, residents = await pipe.execute()
        self._kept = frozenset(pin.decode() for pin in pins) | frozenset(_names.decode(residents) if residents else ())
