"""The fleet's figures, as the manager and the monitor read them."""

from __future__ import annotations

from redis.asyncio import Redis

from shared.queue.keys import Keys
from shared.usage.fields import parse
from shared.usage.figures import ModelUsage

EVER_MS = 2**53
"""Later than any use."""


class UsageReader:
    """Reads what the workers added up. Raises RedisError or OSError when Redis does not answer."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def read(self, *, used_since: float = 0.0) -> list[ModelUsage]:
        """Every model on every host that was used within the last half year, by name. Two round trips. `used_since`:
        only those used then or later, Unix seconds.

        Workers add their figures every few seconds, so the latest calls may be missing.
        """
        places = await self._redis.zrange(
            self._keys.usages, int(used_since * 1000), EVER_MS, byscore=True, withscores=True
        )
        pipe = self._redis.pipeline(transaction=False)
        for place, _ in places:
            pipe.hgetall(self._keys.usage(place.decode()))
        rows = await pipe.execute() if places else []
        found = [parse(place.decode(), row, used_ms / 1000) for (place, used_ms), row in zip(places, rows, strict=True)]
        return sorted(found, key=lambda usage: (usage.model, usage.host))

    async def since(self) -> float | None:
        """When recording began in this Redis, unix seconds by its clock; None while nothing was recorded.

        Before that, no use says nothing: whoever asks "unused for how long?" counts from here at the earliest.
        """
        began = await self._redis.get(self._keys.usage_since)
        return int(began) / 1000 if began else None
