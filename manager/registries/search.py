"""Searching outside registries: asked at most once for the same in REGISTRY_CACHE_TTL, never in airgap mode."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from redis.asyncio import Redis

from manager.registries import huggingface, ollama_library
from manager.registries.record import REGISTRY_NAMES, RegistryModel, RegistryName, pack, unpack
from shared.backends.base import CallTimeouts
from shared.backends.http import Upstream
from shared.errors import ArrieroError, BackendError, Forbidden
from shared.queue.client import ANSWER_WITHIN_S
from shared.queue.connection import within
from shared.queue.keys import Keys
from shared.telemetry.logging import logger

log = logger("registries")

MAX_BYTES = 2 * 1024 * 1024
MOST_FOUND = 50
MOST_KEPT = 2000
_ids = msgspec.msgpack.Decoder(list[str])


class RegistryUnavailable(ArrieroError):
    """The registry does not answer, or not as it used to."""

    code, http_status, retryable = "registry_unavailable", 502, True


@dataclass(frozen=True, slots=True)
class _Dialect:
    path: Callable[[str, int], str]
    read: Callable[[bytes, str], list[RegistryModel]]


_DIALECTS: Mapping[RegistryName, _Dialect] = {
    "huggingface": _Dialect(huggingface.search_path, huggingface.read_models),
    "ollama": _Dialect(ollama_library.search_path, ollama_library.read_models),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search found, by registry in their order. `errors`: why a registry could not be asked."""

    models: Sequence[RegistryModel]
    errors: Mapping[RegistryName, str] = field(default_factory=dict)


class Registries:
    """Calls raise QueueUnavailable while Redis is away."""

    def __init__(
        self,
        urls: Mapping[RegistryName, str],
        redis: Redis,
        keys: Keys,
        *,
        off: str = "",
        timeout_s: float = 10.0,
        ttl_s: float = 3600.0,
    ) -> None:
        """`off`: a sentence that says why nobody is asked; a registry with an empty URL is not asked either."""
        self._redis = redis
        self._keys = keys
        self._off = off
        self._ttl_ms = int(ttl_s * 1000)
        self._timeouts = CallTimeouts(
            connect_s=min(5.0, timeout_s), first_byte_s=timeout_s, gap_s=timeout_s, total_s=timeout_s
        )
        self._urls = {name: url.rstrip("/") for name, url in urls.items() if url}
        self._upstreams = {name: Upstream(url, pool_size=2) for name, url in self._urls.items()}

    async def search(self, text: str, names: Sequence[RegistryName] = REGISTRY_NAMES) -> Found:
        """Models that have to do with `text`. Raises Forbidden when searching is off, RegistryUnavailable when no
        registry could be asked."""
        if self._off:
            raise Forbidden(self._off)
        asked = [name for name in names if name in self._upstreams]
        if not asked:
            raise Forbidden("No such registry is configured: set OLLAMA_LIBRARY_URL or HUGGINGFACE_URL.")
        answers = await asyncio.gather(*(self._search(name, text) for name in asked), return_exceptions=True)
        models: list[RegistryModel] = []
        errors: dict[RegistryName, str] = {}
        for name, answer in zip(asked, answers, strict=True):
            if isinstance(answer, RegistryUnavailable):
                errors[name] = answer.message
            elif isinstance(answer, BaseException):
                raise answer
            else:
                models.extend(answer)
        if len(errors) == len(asked):
            raise RegistryUnavailable(" ".join(errors.values()))
        return Found(models=models, errors=errors)

    async def kept(self, name: str) -> list[RegistryModel]:
        """What earlier searches found under this very name; asks nobody."""
        wanted = {(registry, known) for registry in REGISTRY_NAMES for known in (name, name.removeprefix("hf.co/"))}
        return await self._read([(registry, known) for registry, known in sorted(wanted)])

    async def aclose(self) -> None:
        for upstream in self._upstreams.values():
            await upstream.aclose()

    async def _search(self, name: RegistryName, text: str) -> list[RegistryModel]:
        asked = " ".join(text.lower().split())
        digest = hashlib.sha256(f"{name} {self._urls[name]} {asked}".encode()).hexdigest()[:32]
        key = self._keys.registry_search(digest)
        stored = await within(ANSWER_WITHIN_S, lambda: self._redis.get(key))
        if stored is not None:
            return await self._read([(name, model_id) for model_id in _ids.decode(stored)])
        found = (await self._ask(name, asked))[:MOST_FOUND]
        await self._keep(key, found)
        return found

    async def _ask(self, name: RegistryName, text: str) -> list[RegistryModel]:
        dialect = _DIALECTS[name]
        try:
            call = await self._upstreams[name].open("GET", dialect.path(text, MOST_FOUND), timeouts=self._timeouts)
            try:
                if call.status != 200:
                    raise RegistryUnavailable(
                        f"The registry {name} answers with status {call.status}. Try again later."
                    )
                body = await call.body(MAX_BYTES)
            finally:
                call.close()
            return await asyncio.to_thread(dialect.read, body, self._urls[name])
        except (BackendError, ValueError, RecursionError) as exc:
            log.info("registry.silent", registry=name, error=type(exc).__name__)
            raise RegistryUnavailable(
                f"The registry {name} cannot be asked ({type(exc).__name__}). Try again later, or check its address."
            ) from exc

    async def _keep(self, key: str, found: Sequence[RegistryModel]) -> None:
        index, now_ms = self._keys.registry_models, int(time.time() * 1000)

        async def write() -> None:
            pipe = self._redis.pipeline(transaction=False)
            for model in found:
                member = f"{model.registry}~{model.id}"
                place = self._keys.registry_model_root(model.registry) + model.id
                pipe.hset(place, mapping=pack(model))
                pipe.pexpire(place, self._ttl_ms)
                pipe.zadd(index, {member: now_ms})
            pipe.set(key, msgspec.msgpack.encode([model.id for model in found]), px=self._ttl_ms)
            pipe.pexpire(index, self._ttl_ms)
            pipe.zremrangebyscore(index, "-inf", now_ms - self._ttl_ms)
            pipe.zrange(index, 0, -MOST_KEPT - 1)
            surplus = (await pipe.execute())[-1]
            if surplus:
                places = [member.decode().partition("~") for member in surplus]
                await self._redis.delete(*(self._keys.registry_model_root(where) + what for where, _, what in places))
                await self._redis.zrem(index, *surplus)

        await within(ANSWER_WITHIN_S, write)

    async def _read(self, names: Sequence[tuple[RegistryName, str]]) -> list[RegistryModel]:
        async def read() -> list[Any]:
            pipe = self._redis.pipeline(transaction=False)
            for registry, model_id in names:
                pipe.hgetall(self._keys.registry_model_root(registry) + model_id)
            return await pipe.execute()

        return [model for model in map(unpack, await within(ANSWER_WITHIN_S, read)) if model is not None]
