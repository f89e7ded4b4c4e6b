"""Answers kept for the case that nothing can answer: exact match, per tenant, bounded in age and bytes.

This is no cache in front of the models. It is asked last, when every try failed or every breaker is open, and what it
gives is marked as stale.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, replace

import msgspec
import structlog
from redis.asyncio import Redis

from shared.background import AWAY
from shared.queue.keys import Keys
from shared.resilience.scripts import Scripts
from shared.wire.canonical import ChatRequest, CompletionRequest, EmbeddingRequest, Request, TextAnswer
from shared.wire.codec import decode_answer, encode

log = structlog.get_logger()

PATIENCE_S = 0.5
"""How long Redis may take; a missing cached answer is no failure."""
MAX_WRITES = 64
"""Writes under way at a time; more are left out."""

_canonical = msgspec.msgpack.Encoder(order="deterministic").encode


@dataclass(slots=True, frozen=True, kw_only=True)
class CachePolicy:
    """`max_bytes` bounds all answers of a shard together, `max_answer_bytes` one of them."""

    ttl_s: float = 3600.0
    max_bytes: int = 64 * 1024 * 1024
    max_answer_bytes: int = 256 * 1024


def digest(tenant: str, kind: str, request: Request, *, no_store: bool = False) -> str | None:
    """The name under which this very request's answer is kept; None for one that is not: marked so, with tools or
    images, an embedding."""
    if no_store or not tenant or isinstance(request, EmbeddingRequest):
        return None
    if isinstance(request, ChatRequest) and (request.tools or any(m.tool_calls or m.images or m.role == "tool"
                                                                  for m in request.messages)):  # fmt: skip
        return None
    if isinstance(request, CompletionRequest) and request.images:
        return None
    asked = replace(request, keep_alive=None)  # says nothing about the answer
    return hashlib.sha256(_canonical((tenant, kind, asked))).hexdigest()


def is_worth_keeping(answer: TextAnswer) -> bool:
    """Only the asked model's own whole answer."""
    return (
        not answer.cached and not answer.fallback_from and not answer.tool_calls and answer.finish_reason == "stop"
        and bool(answer.content)
    )  # fmt: skip


class AnswerCache:
    """The kept answers of one shard. Redis being away costs at most `PATIENCE_S`, and no error."""

    def __init__(self, redis: Redis, keys: Keys, policy: CachePolicy) -> None:
        self._redis = redis
        self._policy = policy
        self._index, self._sizes, self._root = keys.answers, keys.answer_sizes, keys.answer_root
        self._scripts = Scripts(redis)
        self._writes: set[asyncio.Task[None]] = set()

    async def get(self, name: str) -> TextAnswer | None:
        """The answer kept under a digest, marked as cached."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                stored = await self._redis.get(self._root + name)
            if stored is None:
                return None
            answer = decode_answer("", stored)
        except (*AWAY, msgspec.MsgspecError) as exc:
            log.warning("answer_cache.unreadable", error=type(exc).__name__)
            return None
        assert isinstance(answer, TextAnswer)
        return replace(answer, cached=True)

    def keep(self, name: str, answer: TextAnswer) -> None:
        """Store an answer in the background, if it is worth it and fits."""
        if len(self._writes) >= MAX_WRITES or not is_worth_keeping(answer):
            return
        data = encode(answer)
        if len(data) <= self._policy.max_answer_bytes:
            task = asyncio.create_task(self._store(name, data))
            self._writes.add(task)
            task.add_done_callback(self._writes.discard)

    async def _store(self, name: str, data: bytes) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                keys = (self._index, self._sizes, self._root)
                life_ms = int(self._policy.ttl_s * 1000)
                await self._scripts.run("keep_answer", keys, name, data, life_ms, self._policy.max_bytes)
        except AWAY as exc:
            log.debug("answer_cache.not_kept", error=type(exc).__name__)

    async def aclose(self) -> None:
        """Wait for the writes under way."""
        await asyncio.gather(*self._writes)
