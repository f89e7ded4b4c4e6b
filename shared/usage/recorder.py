"""Counting calls in a worker: in memory at once, in Redis every few seconds, each call once."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.resources import files

import msgspec
import structlog
from redis.asyncio import Redis

from shared.background import AWAY, Rounds
from shared.errors import BackendBusy, BackendMisconfigured, BackendUnreachable
from shared.lua import read_script, run_script, script_hash
from shared.model_names import same
from shared.queue.keys import Keys
from shared.usage import fields
from shared.usage.fields import Call, place_of

log = structlog.get_logger()

FLUSH_EVERY_S = 3.0
LIMIT_S = 2.0
TTL_MS = 180 * 86_400_000
"""Figures of a model that nobody has used for half a year go."""
MAX_PLACES = 1000
"""Models on hosts that one worker counts."""
_PROVE_NO_MODEL = frozenset(error.code for error in (BackendUnreachable, BackendBusy, BackendMisconfigured))
_SCRIPT = read_script(files("shared.usage") / "lua", "flush")
_HASH = script_hash(_SCRIPT)


@dataclass(slots=True)
class _Row:
    """What is to be added for one model on one host. `used_at` is in the recorder's own clock."""

    counts: dict[str, int] = field(default_factory=dict)
    used_at: float = 0.0


class UsageRecorder:
    """One worker's count. `record` and `touch` touch only memory; what Redis has not taken is kept and sent again.

    A batch carries a number and is taken once, so that an answer that was lost does not make it count twice.

    Callers may make up names of models. So a name gets figures only from the first call on that shows that the host has
    such a model; no answer, or one that came before the model was looked at, does not.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        *,
        flush_every_s: float = FLUSH_EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._clock = clock
        self._name = secrets.token_hex(8)
        self._known: set[str] = set()
        self._rows: dict[str, _Row] = {}
        self._batch: dict[str, _Row] = {}
        self._number = 0
        self._flushing = Rounds("usage", self.flush, flush_every_s, away="usage.kept_here")

    # -- the hot path -----------------------------------------------------------------------------------------------

    def record(self, model: str, host: str, call: Call) -> None:
        """A call of `model`, spelled anyhow, on the backend named `host` has ended."""
        place = place_of(same(model), host)
        if call.error not in _PROVE_NO_MODEL and len(self._known) < MAX_PLACES:
            self._known.add(place)
        if place in self._known:
            fields.add(self._used(place).counts, call)

    def touch(self, model: str, host: str) -> None:
        """The model was used, but the call says nothing about it: it was cancelled."""
        place = place_of(same(model), host)
        if place in self._known:
            self._used(place)

    def _used(self, place: str) -> _Row:
        row = self._rows.get(place)
        if row is None:
            row = self._rows[place] = _Row()
        row.used_at = self._clock()
        return row

    # -- the way to Redis -------------------------------------------------------------------------------------------

    async def start(self) -> None:
        self._flushing.start()

    async def stop(self) -> None:
        """End the loop. The last figures still go out if Redis answers."""
        if not await self._flushing.stop():
            return
        try:
            # Twice: the first may be a batch whose answer was lost.
            await self.flush()
            await self.flush()
        except AWAY as exc:
            log.warning("usage.lost", error=type(exc).__name__, models=len(self._rows | self._batch))

    async def flush(self) -> None:
        """Send what has been counted. Raises RedisError or OSError, a TimeoutError among them; nothing is lost then."""
        if not self._batch:
            if not self._rows:
                return
            self._batch, self._rows = self._rows, {}
            self._number += 1
        keys = [self._keys.usage_batch(self._name), self._keys.usages, self._keys.usage_since]
        keys += [self._keys.usage(place) for place in self._batch]
        now = self._clock()
        args: list[str | bytes | int] = [self._number, TTL_MS]
        for place, row in self._batch.items():
            ago_ms = max(0, int((now - row.used_at) * 1000))
            args += (place, msgspec.msgpack.encode([ago_ms, row.counts]))
        async with asyncio.timeout(LIMIT_S):
            await run_script(self._redis, _SCRIPT, _HASH, len(keys), *keys, *args)
        self._batch = {}
