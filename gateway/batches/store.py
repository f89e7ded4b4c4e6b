"""Files and batches in Redis, each tenant's for itself: bounded in bytes, number and time."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal, TypeVar

import msgspec
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError, ResponseError

from gateway.batches.model import UNFINISHED, Batch, FileNotFound, Progress
from shared.errors import ArrieroError, MemoryPressure, QueueUnavailable
from shared.lua import Field, read_script, run_script, script_hash
from shared.queue.client import NO_MEMORY_RETRY_AFTER_S
from shared.queue.connection import takes_no_writes, within
from shared.queue.keys import Keys

T = TypeVar("T")
ANSWER_WITHIN_S = 2.0
PIECE_BYTES = 256 * 1024
"""A file is written and read in pieces: Redis serves nobody else meanwhile."""
MOST_FILES = 1000
"""Of a tenant, however small."""
MOST_BATCHES = 1000
"""Batches of a tenant that are listed; an older one is still found by its id."""


class FilesFull(ArrieroError):
    """This tenant's files take all the room they may. Delete some, or wait until they expire."""

    code, kind, http_status = "files_full", "rate_limit_error", 429


class StoredFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was sent. Times are Unix seconds by Redis' clock."""

    id: str
    filename: str
    size: int
    created_at: int
    expires_at: int

    @property
    def pieces(self) -> int:
        return -(-self.size // PIECE_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLimits:
    """Of one file: its bytes, and how long it is kept, seconds. Of all files of a tenant: their bytes."""

    max_bytes: int
    max_tenant_bytes: int
    ttl_s: int


_KEEP = read_script(files("gateway") / "lua", "keep_fields")
_KEEP_HASH = script_hash(_KEEP)
_encode = msgspec.msgpack.Encoder().encode
_file = msgspec.msgpack.Decoder(StoredFile)
_batch = msgspec.msgpack.Decoder(Batch)


class _Store:
    def __init__(self, redis: Redis, keys: Keys) -> None:
        # redis-py types its calls for both its kinds of client at once.
        self._redis: Any = redis
        self._keys = keys

    async def _call(self, call: Callable[[], Awaitable[T]]) -> T:
        try:
            return await within(ANSWER_WITHIN_S, call)
        except OutOfMemoryError:
            raise MemoryPressure(retry_after_s=NO_MEMORY_RETRY_AFTER_S) from None
        except ResponseError as error:
            if takes_no_writes(error):
                raise QueueUnavailable(retry_after_s=10) from error
            raise

    async def _keep(self, key: str, life_s: int, command: Literal["HSET", "ZADD"], *pairs: Field) -> None:
        """Write pairs into a key that lives as long from now on."""
        await self._call(lambda: run_script(self._redis, _KEEP, _KEEP_HASH, 1, key, life_s, command, *pairs))

    async def now(self) -> int:
        """Unix seconds by Redis' clock."""
        seconds, _ = await self._call(self._redis.time)
        return int(seconds)


class FileStore(_Store):
    """The files that callers have sent. Calls raise QueueUnavailable, and MemoryPressure where they write."""

    def __init__(self, redis: Redis, keys: Keys, limits: FileLimits) -> None:
        super().__init__(redis, keys)
        self.limits = limits

    async def list(self, tenant: str) -> list[StoredFile]:
        """A tenant's files, newest first."""
        now = await self.now()
        stored = await self._call(lambda: self._redis.hgetall(self._keys.files(tenant)))
        files = [_file.decode(one) for one in stored.values()]
        if expired := [file.id for file in files if file.expires_at <= now]:
            await self._call(lambda: self._redis.hdel(self._keys.files(tenant), *expired))
        kept = [file for file in files if file.expires_at > now]
        return sorted(kept, key=lambda file: (-file.created_at, file.id))

    async def put(self, tenant: str, filename: str, data: bytes) -> StoredFile:
        """Store a file. Raises FilesFull; two files sent at the same moment may together exceed the limit."""
        there = await self.list(tenant)
        if sum(file.size for file in there) + len(data) > self.limits.max_tenant_bytes or len(there) >= MOST_FILES:
            raise FilesFull()
        now, life_s = await self.now(), self.limits.ttl_s
        file = StoredFile(
            id=f"file-{secrets.token_hex(16)}",
            filename=filename,
            size=len(data),
            created_at=now,
            expires_at=now + life_s,
        )
        key, index = self._keys.file(tenant, file.id), self._keys.files(tenant)
        for piece in range(file.pieces):
            part = data[piece * PIECE_BYTES : (piece + 1) * PIECE_BYTES]
            await self._keep(key, life_s, "HSET", str(piece), part)
        await self._keep(index, life_s, "HSET", file.id, _encode(file))
        return file

    async def get(self, tenant: str, file_id: str) -> StoredFile:
        """Raises FileNotFound."""
        stored = await self._call(lambda: self._redis.hget(self._keys.files(tenant), file_id))
        file = None if stored is None else _file.decode(stored)
        if file is None or file.expires_at <= await self.now():
            raise FileNotFound()
        return file

    async def read(self, tenant: str, file: StoredFile) -> bytes:
        """What is in it. Raises FileNotFound when its time was over meanwhile."""
        pieces = [await self._piece(self._keys.file(tenant, file.id), str(piece)) for piece in range(file.pieces)]
        if None in pieces:
            raise FileNotFound()
        return b"".join(pieces)

    async def _piece(self, key: str, field: str) -> Any:
        return await self._call(lambda: self._redis.hget(key, field))

    async def delete(self, tenant: str, file_id: str) -> None:
        """Raises FileNotFound."""
        await self.get(tenant, file_id)
        await self._call(lambda: self._redis.hdel(self._keys.files(tenant), file_id))
        await self._call(lambda: self._redis.delete(self._keys.file(tenant, file_id)))


class BatchStore(_Store):
    """The batches, and how far they are known to be. Calls raise QueueUnavailable."""

    async def put(self, batch: Batch, progress: Progress) -> None:
        life_s = batch.kept_until - batch.created_at
        key, index = self._keys.batch(batch.tenant, batch.id), self._keys.batches(batch.tenant)
        await self._keep(key, life_s, "HSET", "batch", _encode(batch), *_pairs(progress))
        await self._keep(index, life_s, "ZADD", batch.created_at, batch.id)
        await self._call(lambda: self._redis.zremrangebyscore(index, "-inf", batch.created_at - life_s))

    async def get(self, tenant: str, batch_id: str) -> tuple[Batch, Progress] | None:
        """A tenant's batch and what is known of its progress."""
        names = ("batch", "outcomes", "cancelling", "ended")
        fields = await self._call(lambda: self._redis.hmget(self._keys.batch(tenant, batch_id), names))
        stored, outcomes, cancelling, ended = fields
        if stored is None:
            return None
        return _batch.decode(stored), Progress(outcomes.decode(), int(cancelling or 0), int(ended or 0))

    async def ids(self, tenant: str) -> Sequence[str]:
        """A tenant's batches, newest first; some may be gone."""
        index = self._keys.batches(tenant)
        found = await self._call(lambda: self._redis.zrange(index, 0, MOST_BATCHES - 1, desc=True))
        return [one.decode() for one in found]

    async def note(self, batch: Batch, progress: Progress, *, cancelling: bool = False) -> None:
        """Write down how far it is. Outcomes never change once they are known, so it does not matter who comes last.

        A mark of cancelling is written only by who cancels: others may have read the batch before.
        """
        pairs = _pairs(progress)
        if cancelling:
            pairs += ("cancelling", progress.cancelling_at)
        # With its life anew: the batch may have expired since it was read.
        life_s = batch.kept_until - batch.created_at
        await self._keep(self._keys.batch(batch.tenant, batch.id), life_s, "HSET", *pairs)


def _pairs(progress: Progress) -> tuple[Field, ...]:
    return ("outcomes", progress.outcomes, "ended", progress.ended_at)


def beginning(requests: int, refused: Sequence[int], letter: str) -> str:
    """The outcomes of a batch at its beginning."""
    outcomes = [UNFINISHED] * requests
    for place in refused:
        outcomes[place] = letter
    return "".join(outcomes)
