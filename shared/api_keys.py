"""API keys: making, storing, recognising.

A key reads `ark_<id>_<secret>`. The id finds the record, the secret has 160 random bits; Redis holds only its SHA-256,
in one hash. A fast hash is enough, since a random secret leaves nothing to guess.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol, cast

import msgspec

from shared.queue.keys import Keys

KEY_PREFIX = "ark"
_KEY = re.compile(r"ark_([0-9a-z]{12})_([0-9a-z]{40})")
_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NOBODY = bytes(32)


class Role(StrEnum):
    """Who may call a route. Each role may do what the ones before it may. No key has the role `public`."""

    PUBLIC = "public"
    INFERENCE = "inference"
    OPERATOR = "operator"
    ADMIN = "admin"

    @property
    def rank(self) -> int:
        return _RANK[self]

    def allows(self, needed: Role) -> bool:
        return _RANK[self] >= _RANK[needed]


_RANK = {role: rank for rank, role in enumerate(Role)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A stored key. Times are Unix seconds; `expires_at` None: never."""

    id: str
    secret_sha256: bytes
    tenant: str
    role: Role
    name: str = ""
    created_at: float = 0.0
    expires_at: float | None = None

    def live(self, now: float) -> bool:
        return self.expires_at is None or now < self.expires_at


class KeyStore(Protocol):
    """The part of a redis.asyncio client that is needed."""

    async def hset(self, name: str, key: str, value: bytes) -> int: ...
    async def hgetall(self, name: str) -> dict[bytes, bytes]: ...
    async def hdel(self, name: str, *keys: str) -> int: ...


_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(ApiKey)


def hash_secret(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def new_key(
    *, tenant: str, role: Role, name: str = "", expires_in_s: float | None = None, now: float
) -> tuple[str, ApiKey]:
    """A fresh key: the text to show once, and the record to store. Raises ValueError for what a key cannot say."""
    if not _TENANT.fullmatch(tenant):
        raise ValueError("tenant: 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit")
    if role is Role.PUBLIC:
        raise ValueError("role: inference, operator or admin")
    if len(name) > 100 or not (name == "" or name.isprintable()):
        raise ValueError("name: at most 100 printable characters")
    if expires_in_s is not None and expires_in_s <= 0:
        raise ValueError("expires_in_s: more than 0 seconds")
    key_id, secret = secrets.token_hex(6), secrets.token_hex(20)
    record = ApiKey(
        id=key_id,
        secret_sha256=hash_secret(secret),
        tenant=tenant,
        role=role,
        name=name,
        created_at=now,
        expires_at=None if expires_in_s is None else now + expires_in_s,
    )
    return f"{KEY_PREFIX}_{key_id}_{secret}", record


async def create_key(
    redis: KeyStore,
    shard: str,
    *,
    tenant: str,
    role: Role,
    name: str = "",
    expires_in_s: float | None = None,
) -> tuple[str, ApiKey]:
    """Make and store a key. The text is not kept anywhere: show it once. Gateways know it within 2 seconds."""
    text, record = new_key(tenant=tenant, role=role, name=name, expires_in_s=expires_in_s, now=time.time())
    await redis.hset(Keys(shard).api_keys, record.id, _encode(record))
    return text, record


async def import_key(redis: KeyStore, shard: str, text: str, *, tenant: str, role: Role, name: str = "") -> ApiKey:
    """Store a key whose text was made elsewhere, such as in a secret file; again, and it is the same key.

    Raises ValueError for text that is no key.
    """
    match = _KEY.fullmatch(text)
    if match is None:
        raise ValueError("key: expected ark_, 12 lower-case letters or digits, _ and 40 more")
    _, fresh = new_key(tenant=tenant, role=role, name=name, now=time.time())
    record = replace(fresh, id=match[1], secret_sha256=hash_secret(match[2]))
    await redis.hset(Keys(shard).api_keys, record.id, _encode(record))
    return record


async def list_keys(redis: KeyStore, shard: str) -> list[ApiKey]:
    """All keys, oldest first. A record that cannot be read is left out: it must not lock the others out, nor let
    anyone in.
    """
    found: list[ApiKey] = []
    for raw in (await redis.hgetall(Keys(shard).api_keys)).values():
        try:
            found.append(_decoder.decode(raw))
        except msgspec.MsgspecError:
            continue
    return sorted(found, key=lambda key: (key.created_at, key.id))


async def revoke_key(redis: KeyStore, shard: str, key_id: str) -> bool:
    """Remove a key; False when there is none with that id. Gateways refuse it within 2 seconds."""
    return bool(await redis.hdel(Keys(shard).api_keys, key_id))


class KeyRing:
    """Keys held in memory, to recognise a caller without asking Redis."""

    def __init__(self, keys: list[ApiKey]) -> None:
        self._by_id = {key.id: key for key in keys}

    def __len__(self) -> int:
        return len(self._by_id)

    def knows(self, text: str) -> bool:
        """Whether the text's id is known; says nothing about its secret."""
        match = _KEY.fullmatch(text)
        return match is not None and match[1] in self._by_id

    def recognise(self, text: str, now: float) -> ApiKey | None:
        """The key that `text` is, if it is live. Takes the same steps for an unknown id as for a wrong secret."""
        match = _KEY.fullmatch(text)
        if match is None:
            return None
        key = self._by_id.get(match[1])
        expected = _NOBODY if key is None else key.secret_sha256
        if not hmac.compare_digest(expected, hash_secret(match[2])):
            return None
        # Also keeps out the all-zero stand-in of an unknown id, should a secret ever hash to it.
        return key if key is not None and key.live(now) else None


def well_formed(text: str) -> bool:
    return _KEY.fullmatch(text) is not None


def as_key_store(redis: object) -> KeyStore:
    """redis-py types its asyncio commands as `Awaitable | value`; this is the one place that narrows them."""
    return cast(KeyStore, redis)
