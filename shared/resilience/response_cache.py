"""Answers that are given again, without asking a model, to a tenant that asked the very same before and agreed to it.

The gateway names the answer when it makes the job, and looks for it under that name first; the worker keeps what the
job came to. Each tenant has a shelf of its own: nobody gets another's answer, or drives it out.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from redis.asyncio import Redis

from shared.queue.keys import Keys
from shared.queue.running import RunningJob
from shared.resilience.answer_cache import digest_of, is_plain, is_worth_keeping
from shared.resilience.answer_store import AnswerStore, CachePolicy, Shelf
from shared.wire.canonical import EmbeddingAnswer, EmbeddingRequest, Request, TextAnswer
from shared.wire.codec import decode_answer, encode

DEFAULT = CachePolicy(max_bytes=16 * 1024 * 1024, max_answers=10_000)


class _Entry(msgspec.Struct, array_like=True):
    """An answer as it is kept. `life_s` less what is left of it is its age, by Redis' clock alone."""

    life_s: float
    answer: bytes


_entry = msgspec.msgpack.Decoder(_Entry)


@dataclass(slots=True, frozen=True)
class Hit:
    """An earlier answer: canonical, in msgpack."""

    answer: bytes
    age_s: float


def response_name(tenant: str, kind: str, service: str, request: Request) -> str:
    """The name of the answer of `service` to this request; empty for one with tools or images, whose answer is not
    kept."""
    return digest_of(tenant, kind, service, request) if tenant and is_plain(request) else ""


def is_repeatable(request: Request) -> bool:
    """Whether the model would say the same again: vectors, a seed, or temperature 0."""
    if isinstance(request, EmbeddingRequest):
        return True
    return request.sampling.temperature == 0 or request.sampling.seed is not None


class ResponseCache:
    """The cache of one shard. `policy` bounds what each tenant has in it."""

    def __init__(self, redis: Redis, keys: Keys, policy: CachePolicy = DEFAULT) -> None:
        self._store = AnswerStore(redis, policy)
        self._keys = keys
        self._life_s = policy.ttl_s

    def _shelf(self, tenant: str) -> Shelf:
        keys = self._keys
        return Shelf(keys.responses(tenant), keys.response_sizes(tenant), keys.response_root(tenant))

    async def get(self, tenant: str, kind: str, name: str, *, oldest_s: float) -> Hit | None:
        """The answer kept under a name, unless it is older than `oldest_s`."""
        stored = await self._store.get(self._shelf(tenant), name)
        if stored is None:
            return None
        try:
            entry = _entry.decode(stored.data)
            decode_answer(kind, entry.answer)
        except msgspec.MsgspecError:  # of another release, or not ours
            return None
        age_s = max(0.0, entry.life_s - stored.left_s)
        return Hit(entry.answer, age_s) if age_s <= oldest_s else None

    def keep(self, job: RunningJob, answer: TextAnswer | EmbeddingAnswer) -> None:
        """Store a job's answer in the background, if that is wanted, the answer is worth it, and it fits."""
        # The gateway names no private job's answer. Whoever does it all the same gets no copy out of us.
        if not job.cache_as or job.no_store or job.local_only:
            return
        if isinstance(answer, EmbeddingAnswer) or is_worth_keeping(answer):
            entry = _Entry(self._life_s, encode(answer))
            self._store.keep(self._shelf(job.tenant), job.cache_as, encode(entry))

    async def aclose(self) -> None:
        """Wait for the writes under way."""
        await self._store.aclose()
