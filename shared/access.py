"""Who is calling: API keys held in memory, the `Authorization` header, the Host names a loopback service answers to.

One rule for every service: on loopback, and as long as no key exists, everyone on this machine is trusted. From the
first key on every call needs one, and a service that other machines can reach does not start without.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from multidict import CIMultiDictProxy

from shared.api_keys import KEY_PREFIX, ApiKey, KeyRing, Role, well_formed
from shared.background import end_task
from shared.errors import Forbidden, QueueUnavailable, Unauthenticated
from shared.telemetry.logging import logger

log = logger("auth")

REFRESH_S = 1.5
"""A new, revoked or expired key takes effect within 2 s."""
READ_LIMIT_S = 1.0
LEAST_BETWEEN_READS_S = 0.2
"""However many unknown keys are tried, Redis is asked at most five times a second."""

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
DEFAULT_TENANT = "default"
"""Whose the calls are while no key exists."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a request comes from. `key_id` is empty while no key exists and everyone on this machine is trusted."""

    tenant: str
    role: Role
    key_id: str = ""


ANYONE = Caller(tenant="", role=Role.PUBLIC)
TRUSTED = Caller(tenant=DEFAULT_TENANT, role=Role.ADMIN)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class KeyWatch:
    """The stored keys, at most 2 s old. When Redis does not answer, the last known set goes on serving."""

    def __init__(self, read: Callable[[], Awaitable[list[ApiKey]]]) -> None:
        self._read = read
        self._ring: KeyRing | None = None
        self.none_exist = False
        """Whether it is known that there is no key at all."""
        self._lock = asyncio.Lock()
        self._read_at = float("-inf")
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.refresh()
        self._task = asyncio.create_task(self._watch(), name="api-keys")

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            await end_task(task)

    @property
    def known(self) -> bool:
        """Whether the set was ever read; until then nobody can be let in."""
        return self._ring is not None

    async def refresh(self) -> None:
        """Read the keys, or wait for a reading that began after this call. Never raises: the old set stays then."""
        asked_at = time.monotonic()
        async with self._lock:
            if self._read_at >= asked_at:
                return
            await asyncio.sleep(max(0.0, self._read_at + LEAST_BETWEEN_READS_S - asked_at))
            self._read_at = time.monotonic()
            try:
                async with asyncio.timeout(READ_LIMIT_S):
                    self._ring = KeyRing(await self._read())
                self.none_exist = not len(self._ring)
            except Exception as error:  # any failure of the store means the same here: keep what we have
                log.warning("auth.keys_not_read", error=type(error).__name__)

    async def recognise(self, text: str) -> ApiKey | None:
        """The live key that `text` is. A well-formed key that is not known yet costs one look at Redis."""
        ring = self._ring
        if ring is None or (not ring.knows(text) and well_formed(text)):
            await self.refresh()
            ring = self._ring
            if ring is None:
                raise QueueUnavailable("The API keys cannot be read because Redis does not answer. Try again shortly.")
        return ring.recognise(text, time.time())

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_S)
            await self.refresh()


def bearer_token(headers: CIMultiDictProxy[str]) -> str | None:
    """The key in the `Authorization` header, else in `x-api-key`, where Anthropic's clients have it; None when there is
    none. Raises Unauthenticated for anything unclear.
    """
    given: Sequence[str] = headers.getall("Authorization", ())
    bare: Sequence[str] = headers.getall("x-api-key", ())
    if len(given) > 1 or len(bare) > 1:
        raise Unauthenticated()
    if not given:
        return bare[0] if bare else None
    scheme, _, token = given[0].partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated()
    return token


async def identify(headers: CIMultiDictProxy[str], keys: KeyWatch, *, on_loopback: bool) -> Caller:
    """The caller, from the key alone. Raises Unauthenticated, or QueueUnavailable while no keys could be read yet."""
    if keys.none_exist and on_loopback:
        given = headers.get("Authorization") or headers.get("x-api-key") or ""
        if KEY_PREFIX not in given or (await keys.recognise(given.rpartition(" ")[2]) is None and keys.none_exist):
            return TRUSTED
        # The first key was made a moment ago, and here it is: from now on keys count.
    token = bearer_token(headers)
    key = None if token is None else await keys.recognise(token)
    if key is None:
        if not keys.known:
            raise QueueUnavailable("The API keys cannot be read because Redis does not answer. Try again shortly.")
        raise Unauthenticated()
    return Caller(tenant=key.tenant, role=key.role, key_id=key.id)


def check_host(host: str, allowed: frozenset[str]) -> None:
    """Raise Forbidden for a Host that is not a name of this machine: a web page may have had its name point here."""
    if not _answers_to(host, allowed):
        raise Forbidden("This address answers to local host names only. Add the name to ALLOWED_HOSTS if it is yours.")


@functools.lru_cache(maxsize=256)
def _answers_to(host: str, allowed: frozenset[str]) -> bool:
    name = host.lower()
    name = name.partition("]")[0] + "]" if name.startswith("[") else name.partition(":")[0]
    return name.rstrip(".") in allowed


def allowed_host_names(configured: Sequence[str], listen_host: str) -> frozenset[str]:
    listening = f"[{listen_host}]" if ":" in listen_host else listen_host
    return LOOPBACK_NAMES | {listening.lower()} | {name.lower().rstrip(".") for name in configured}
