"""Looking into the hosts' memories: one worker looks for all, and leaves what it saw in Redis for every plan."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.backends.base import LoadedModel
from shared.errors import ArrieroError
from shared.model_names import same
from shared.queue.keys import Keys
from shared.queue.sightings import Resident, Sighting, next_sighting, read_sighting
from worker.hosts import Hosts

log = structlog.get_logger()

PERIOD_S = 2.0
IDLE_TURNS = 15
"""While there is no work only every so many periods a look is due."""
KEPT_S = 86_400
UNLISTED_S = 60.0


class Watch:
    """Looks at each host every `PERIOD_S` while there is work, and at once when a host turns out to have another model
    than was seen there last.
    """

    def __init__(
        self, redis: Redis, keys: Keys, hosts: Hosts, *, worker_id: str, limit_s: float, is_busy: Callable[[], bool]
    ) -> None:
        """`limit_s`: longest wait for a host's answer, seconds."""
        self._redis = redis
        self._keys = keys
        self._hosts = hosts
        self._worker_id = worker_id
        self._limit_s = limit_s
        self._is_busy = is_busy
        self._models: dict[str, set[str]] = {}
        """By host, what this worker knows to be in memory."""
        self._unlisted: dict[tuple[str, str], float] = {}
        """Models that answered on a host which does not list them, until when that is believed."""
        self._looks: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="watch hosts")

    async def stop(self) -> None:
        tasks = [task for task in (self._task, *self._looks) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def seen(self, sightings: Mapping[str, Sighting]) -> None:
        """What other workers saw."""
        for host, sighting in sightings.items():
            self._models[host] = {resident.model for resident in sighting.residents}

    def answered(self, host: str, model: str) -> None:
        """The model answers there, so it is in memory."""
        known = self._models.setdefault(host, set())
        if same(model) in known or not self._hosts.loads_models(host):
            return
        known.add(same(model))
        if (host, same(model)) in self._unlisted:
            self._unlisted[host, same(model)] = time.monotonic() + UNLISTED_S
            return
        look = asyncio.create_task(self._look_for(host, same(model)), name=f"look at {host}")
        self._looks.add(look)
        look.add_done_callback(self._looks.discard)

    def unlisted(self, host: str) -> set[str]:
        """Models that the host serves without having them in its list: those of a cloud, and other names of models."""
        now = time.monotonic()
        self._unlisted = {place: until for place, until in self._unlisted.items() if until > now}
        return {model for where, model in self._unlisted if where == host}

    async def _look_for(self, host: str, model: str) -> None:
        sighting = await self._look_safely(host)
        if sighting is not None and all(resident.model != model for resident in sighting.residents):
            self._unlisted[host, model] = time.monotonic() + UNLISTED_S

    async def _run(self) -> None:
        idle_turns = 0
        while True:
            idle_turns = 0 if self._is_busy() else (idle_turns + 1) % IDLE_TURNS
            if not idle_turns:
                hosts = [host for host in self._hosts.names() if self._hosts.loads_models(host)]
                await asyncio.gather(*(self._look_in_turn(host) for host in hosts))
            await asyncio.sleep(PERIOD_S)

    async def _look_in_turn(self, host: str) -> None:
        try:
            # A little less than the period, so that the one who looked last may look again.
            mine = await self._redis.set(self._keys.watch(host), self._worker_id, nx=True, px=int(PERIOD_S * 900))
        except (RedisError, OSError):
            return
        if mine:
            await self._look_safely(host)

    async def _look_safely(self, host: str) -> Sighting | None:
        try:
            return await self._look(host)
        except (RedisError, OSError, ArrieroError, TimeoutError) as error:
            log.debug("watch.host_not_seen", host=host, error=type(error).__name__)
        except Exception:  # such as a client that was closed because its service has left
            log.warning("watch.host_not_seen", host=host, exc_info=True)
        return None

    async def _look(self, host: str) -> Sighting:
        async with asyncio.timeout(self._limit_s):
            loaded = await self._hosts.loaded_on(host)
        pipe: Any = self._redis.pipeline(transaction=False)
        pipe.time()
        pipe.hget(self._keys.hosts, host)
        (seconds, micros), before = await pipe.execute()
        sighting = next_sighting(before and read_sighting(before), seconds + micros / 1e6, residents(loaded))
        self.seen({host: sighting})
        pipe.hset(self._keys.hosts, host, sighting.packed())
        pipe.expire(self._keys.hosts, KEPT_S)
        await pipe.execute()
        return sighting


def residents(loaded: Sequence[LoadedModel]) -> list[Resident]:
    return [
        Resident(model=same(model.name), context=model.context_length, until=_unix_s(model.expires_at))
        for model in loaded
    ]


def _unix_s(text: str) -> float:
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError):
        return 0.0
