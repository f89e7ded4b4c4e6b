"""Answers kept in Redis under the digest of their request: bounded in age, number and bytes.

Who reads or writes them loses nothing when Redis is away: a look-up takes at most `PATIENCE_S`, a write happens in the
background or not at all.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog
from redis.asyncio import Redis

from shared.background import AWAY
from shared.resilience.scripts import Scripts

log = structlog.get_logger()

PATIENCE_S = 0.5
"""How long Redis may take; a missing answer is no failure."""
MAX_WRITES = 64
"""Writes under way at a time; more are left out."""


@dataclass(slots=True, frozen=True, kw_only=True)
class CachePolicy:
    """`max_bytes` and `max_answers` bound all answers of a shelf together, `max_answer_bytes` one of them."""

    ttl_s: float = 3600.0
    max_bytes: int = 64 * 1024 * 1024
    max_answers: int = 100_000
    max_answer_bytes: int = 256 * 1024


@dataclass(slots=True, frozen=True)
class Shelf:
    """The keys of answers that share a bound: their index, their sizes, and the prefix of their own keys."""

    index: str
    sizes: str
    root: str


@dataclass(slots=True, frozen=True)
class Stored:
    """What was kept, and how long it will still be, seconds by Redis' clock."""

    data: bytes
    left_s: float


class AnswerStore:
    """The answers of one Redis."""

    def __init__(self, redis: Redis, policy: CachePolicy) -> None:
        self._redis = redis
        self._policy = policy
        self._scripts = Scripts(redis)
        self._writes: set[asyncio.Task[None]] = set()

    async def get(self, shelf: Shelf, name: str) -> Stored | None:
        """What is kept under a digest; None also while Redis is away."""
        key = shelf.root + name
        try:
            async with asyncio.timeout(PATIENCE_S):
                pipe = self._redis.pipeline(transaction=False)
                pipe.get(key)
                pipe.pttl(key)
                data, left_ms = await pipe.execute()
        except AWAY as exc:
            log.warning("answers.unreadable", error=type(exc).__name__)
            return None
        return None if data is None else Stored(data, max(0, left_ms) / 1000)

    def keep(self, shelf: Shelf, name: str, data: bytes) -> None:
        """Store an answer in the background, if it fits."""
        if len(self._writes) < MAX_WRITES and len(data) <= self._policy.max_answer_bytes:
            task = asyncio.create_task(self._store(shelf, name, data))
            self._writes.add(task)
            task.add_done_callback(self._writes.discard)

    async def _store(self, shelf: Shelf, name: str, data: bytes) -> None:
        policy = self._policy
        try:
            async with asyncio.timeout(PATIENCE_S):
                bounds = (int(policy.ttl_s * 1000), policy.max_bytes, policy.max_answers)
                await self._scripts.run("keep_answer", (shelf.index, shelf.sizes, shelf.root), name, data, *bounds)
        except AWAY as exc:
            log.debug("answers.not_kept", error=type(exc).__name__)

    async def aclose(self) -> None:
        """Wait for the writes under way."""
        await asyncio.gather(*self._writes)
