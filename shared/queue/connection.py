"""Redis clients from settings, and the two ways we call Redis: with a limit, or for as long as it takes."""

from __future__ import annotations

import asyncio
import builtins
import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

import hiredis
from arq.connections import ArqRedis
from redis.asyncio import ConnectionPool
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.exceptions import BusyLoadingError, ConnectionError, OutOfMemoryError, ReadOnlyError, TimeoutError

from shared.errors import QueueUnavailable
from shared.queue.keys import Keys
from shared.settings import BaseServiceSettings
from shared.wire.codec import encode

REDIS_GONE = (ConnectionError, TimeoutError, BusyLoadingError, ReadOnlyError, OSError)
"""What a call raises while Redis is away, restarting or failing over. The call may or may not have taken effect."""

_REFUSED_FOR_NOW = ("MISCONF", "NOREPLICAS")
T = TypeVar("T")


def takes_no_writes(error: Exception) -> bool:
    """Whether Redis answered that it stores nothing for now: its disk is full, its memory is, its replicas are gone."""
    return isinstance(error, OutOfMemoryError) or str(error).startswith(_REFUSED_FOR_NOW)


def is_outage(error: Exception) -> bool:
    """Whether it will pass, and the same call will then do: Redis is away, or takes no writes."""
    return isinstance(error, REDIS_GONE) or takes_no_writes(error)


def connect(settings: BaseServiceSettings, *, max_connections: int = 64, socket_timeout_s: float = 5.0) -> ArqRedis:
    """A client on a pool of its own. Nothing is sent before the first command.

    `socket_timeout_s` bounds every reply; a client for blocking commands needs one longer than its block.
    """
    options: dict[str, Any] = {
        "socket_timeout": socket_timeout_s,
        "socket_connect_timeout": 2.0,
        "max_connections": max_connections,
    }
    if not settings.redis_url.startswith("unix:"):
        options["socket_keepalive"] = True
    if settings.redis_ca_file and settings.redis_url.startswith("rediss:"):
        options["ssl_ca_certs"] = settings.redis_ca_file
    if settings.redis_sentinels:
        pool = _sentinel_pool(settings, options)
    else:
        pool = ConnectionPool.from_url(settings.redis_url, **options)
    # Afterwards, because what stands in a URL would win.
    if settings.redis_username:
        pool.connection_kwargs["username"] = settings.redis_username
    if settings.redis_password.get_secret_value():
        pool.connection_kwargs["password"] = settings.redis_password.get_secret_value()
    _improve_connections(pool)
    return ArqRedis(
        pool,
        job_serializer=encode,
        job_deserializer=_refuse,
        default_queue_name=Keys(settings.queue_shard).queue_name,
    )


class _SentinelPool(SentinelConnectionPool):
    """Closed, it also lets go of the Sentinels it asked, which redis-py forgets."""

    async def disconnect(self, inuse_connections: bool = True) -> None:
        await super().disconnect(inuse_connections)
        if inuse_connections:
            for client in self.sentinel_manager.sentinels:
                await client.aclose()


def _sentinel_pool(settings: BaseServiceSettings, options: dict[str, Any]) -> ConnectionPool:
    """Connections to whichever server the Sentinels call the primary; REDIS_URL gives database, user and TLS."""
    addresses = [(host, int(port)) for host, _, port in (entry.rpartition(":") for entry in settings.redis_sentinels)]
    from_url = ConnectionPool.from_url(settings.redis_url).connection_kwargs
    options = {**{name: value for name, value in from_url.items() if name in ("db", "username", "password")}, **options}
    if settings.redis_url.startswith("rediss:"):
        options["ssl"] = True
    sentinel: Any = Sentinel  # untyped in redis-py 5
    primary = sentinel(addresses, sentinel_kwargs={"socket_timeout": 2.0}).master_for(
        settings.redis_sentinel_master, connection_pool_class=_SentinelPool, **options
    )
    return cast("ConnectionPool", primary.connection_pool)


def _improve_connections(pool: ConnectionPool) -> None:
    """Two things redis-py's asyncio connections do too slowly, and one of them wrongly, for our calls."""
    base = pool.connection_class

    class PackedConnection(base):  # type: ignore[misc, valid-type]  # the base depends on the URL's scheme
        async def send_packed_command(self, command: bytes | list[bytes], check_health: bool = True) -> None:
            # redis-py writes through asyncio.wait_for, which before Python 3.12 loses a cancellation that comes while
            # the write is done: a loop told to stop then runs on for ever. It also costs a task a call.
            if not self.is_connected:
                await self.connect()
            elif check_health:
                await self.check_health()
            try:
                self._writer.writelines([command] if isinstance(command, bytes) else command)
                async with asyncio.timeout(self.socket_timeout):
                    await self._writer.drain()
            except builtins.TimeoutError:
                await self.disconnect(nowait=True)
                raise TimeoutError("Timeout writing to socket") from None
            except OSError as exc:
                await self.disconnect(nowait=True)
                raise ConnectionError(f"Error while writing to socket: {exc}") from exc
            except BaseException:
                await self.disconnect(nowait=True)  # half a command may be out
                raise

        async def can_read_destructive(self) -> bool:
            # Asked before every call: is this connection, back from the pool, closed or out of step? redis-py answers
            # by reading with a limit of no time, which takes a quarter of a short call.
            reader = self._reader
            over = reader is None or reader.at_eof() or reader.exception() is not None
            if over or reader._buffer or self._parser._reader.has_data():
                return await super().can_read_destructive()  # type: ignore[no-any-return]
            return False

        # In Python, argument by argument, in redis-py; our calls carry thousands of them.
        def pack_command(self, *args: Any) -> list[bytes]:
            if isinstance(args[0], str) and " " in args[0]:  # CONFIG GET and the like are several words to Redis
                args = (*args[0].split(), *args[1:])
            return [hiredis.pack_command(args)]

    pool.connection_class = PackedConnection


def _refuse(_: bytes) -> dict[str, Any]:
    # arq would fall back to pickle without a deserializer; nothing of ours reads jobs through arq's own path.
    raise TypeError("jobs of this queue are read by shared.wire.codec, not by arq")


async def within(limit_s: float, call: Callable[[], Awaitable[T]]) -> T:
    """The call's answer, tried again while Redis is away, for at most `limit_s`. For calls that may safely repeat.

    Raises QueueUnavailable when the time is up.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + limit_s
    pause_s = 0.02
    while True:
        try:
            async with asyncio.timeout_at(until):
                return await call()
        except REDIS_GONE as exc:
            if loop.time() + pause_s >= until:
                raise QueueUnavailable(retry_after_s=2) from exc
        await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
        pause_s = min(0.25, pause_s * 2)
