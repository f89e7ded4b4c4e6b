"""Answers kept for the case that nothing can answer: exact match, per tenant, bounded in age and bytes.

This is no cache in front of the models (`shared.resilience.response_cache` is). It is asked last, when every try failed
or every breaker is open, and what it gives is marked as stale.
"""

from __future__ import annotations

import hashlib

import msgspec
import structlog
from msgspec.structs import replace
from redis.asyncio import Redis

from shared.queue.keys import Keys
from shared.resilience.answer_store import AnswerStore, CachePolicy, Shelf
from shared.wire.canonical import ChatRequest, CompletionRequest, EmbeddingRequest, Request, TextAnswer
from shared.wire.codec import decode_answer, encode

log = structlog.get_logger()

_canonical = msgspec.msgpack.Encoder(order="deterministic").encode


def digest_of(tenant: str, kind: str, service: str, request: Request) -> str:
    """One name for the same request of the same tenant to the same service, whatever the order of its options."""
    asked = replace(request, keep_alive=None)  # says nothing about the answer
    return hashlib.sha256(_canonical((tenant, kind, service, asked))).hexdigest()


def is_plain(request: Request) -> bool:
    """Whether nothing but text goes in: no tools, no images."""
    if isinstance(request, ChatRequest):
        return not request.tools and not any(m.tool_calls or m.images or m.role == "tool" for m in request.messages)
    return not (isinstance(request, CompletionRequest) and request.images)


def digest(tenant: str, kind: str, service: str, request: Request, *, no_store: bool = False) -> str | None:
    """The name under which the answer of `service` to this very request is kept: a model of the same name at another
    one is another model. None for a request whose answer is not kept: marked so, with tools or images, an embedding."""
    if no_store or not tenant or isinstance(request, EmbeddingRequest) or not is_plain(request):
        return None
    return digest_of(tenant, kind, service, request)


def is_worth_keeping(answer: TextAnswer) -> bool:
    """Only the asked model's own whole answer."""
    return (
        not answer.cached and not answer.fallback_from and not answer.tool_calls and answer.finish_reason == "stop"
        and bool(answer.content)
    )  # fmt: skip


class AnswerCache:
    """The kept answers of one shard."""

    def __init__(self, redis: Redis, keys: Keys, policy: CachePolicy) -> None:
        self._store = AnswerStore(redis, policy)
        self._shelf = Shelf(keys.answers, keys.answer_sizes, keys.answer_root)

    async def get(self, name: str) -> TextAnswer | None:
        """The answer kept under a digest, marked as cached."""
        stored = await self._store.get(self._shelf, name)
        if stored is None:
            return None
        try:
            answer = decode_answer("", stored.data)
        except msgspec.MsgspecError as exc:
            log.warning("answer_cache.unreadable", error=type(exc).__name__)
            return None
        assert isinstance(answer, TextAnswer)
        return replace(answer, cached=True)

    def keep(self, name: str, answer: TextAnswer) -> None:
        """Store an answer in the background, if it is worth it and fits."""
        if is_worth_keeping(answer):
            self._store.keep(self._shelf, name, encode(answer))

    async def aclose(self) -> None:
        """Wait for the writes under way."""
        await self._store.aclose()
