"""Which alerts have been told, in Redis, so that of several monitors one tells, and a restarted one not again."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from contextlib import suppress

from redis.asyncio import Redis

from shared.background import AWAY
from shared.errors import QueueUnavailable
from shared.queue.connection import within
from shared.queue.keys import Keys
from shared.telemetry.logging import logger

log = logger("alerts")

TTL_S = 900
"""A monitor that comes back within this time does not tell again of what it told before it went."""
ANSWER_WITHIN_S = 1.0
_AWAY = (QueueUnavailable, *AWAY)


class Ledger:
    """Without Redis each monitor tells for itself: twice is better than not at all."""

    def __init__(self, redis: Redis, keys: Keys, monitor_id: str) -> None:
        self._redis = redis
        self._keys = keys
        # Tells our own entry, written by a call whose answer got lost, from that of a monitor before or beside us.
        self._name = f"{monitor_id}.{secrets.token_hex(4)}".encode()
        self._without_redis: set[str] = set()

    async def may_tell(self, fingerprint: str) -> bool:
        """Whether this monitor is the one to tell that the alert fires."""
        key = self._keys.alert(fingerprint)
        try:
            teller = await within(
                ANSWER_WITHIN_S, lambda: self._redis.set(key, self._name, nx=True, ex=TTL_S, get=True)
            )
        except _AWAY as error:
            log.warning("alert.ledger_away", error=str(error))
            self._without_redis.add(fingerprint)
            return True
        return teller in (None, self._name)

    async def may_tell_end(self, fingerprint: str) -> bool:
        """Whether it is the one to tell that the alert is over: the first to see it, or who told without Redis."""
        key = self._keys.alert(fingerprint)
        alone = fingerprint in self._without_redis
        self._without_redis.discard(fingerprint)
        try:
            was_told = bool(await within(ANSWER_WITHIN_S, lambda: self._redis.delete(key)))
        except _AWAY as error:
            log.warning("alert.ledger_away", error=str(error))
            return True
        return alone or was_told

    async def renew(self, fingerprints: Collection[str]) -> None:
        """These alerts still fire here."""
        pipe = self._redis.pipeline(transaction=False)
        for fingerprint in fingerprints:
            pipe.expire(self._keys.alert(fingerprint), TTL_S)
        # No second try: the next look renews them again.
        with suppress(*_AWAY):
            await pipe.execute()
