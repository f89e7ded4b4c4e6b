"""The queue in numbers."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from shared.jobs import Priority, State
from shared.model_names import same
from shared.queue.fleet import Capacity
from shared.queue.keys import Keys


class Heartbeat(msgspec.Struct):
    """What a worker says of itself every few seconds."""

    id: str
    pid: int
    slots: int
    running: int
    version: str
    started_at: float
    at: float
    host: str = msgspec.field(default_factory=socket.gethostname)
    calls: list[tuple[str, str, int]] = []
    """Model, backend and number of the calls under way, for each. A stand-in's, where one is asked."""
    capacity: Capacity | None = None
    """None: it serves whatever comes, on no host in particular."""


LINES = 64
"""How many lines of a class are looked at, those that are furthest behind first."""
HEADS = 32
"""How far into each line the longest waiting job is looked for: tenants take turns, so it need not be the first."""

_heartbeat = msgspec.msgpack.Decoder(Heartbeat)


@dataclass(slots=True, frozen=True, kw_only=True)
class WorkerInfo:
    id: str
    host: str
    pid: int
    slots: int
    running: int
    seen_s_ago: float
    version: str


@dataclass(slots=True, frozen=True, kw_only=True)
class QueueStats:
    """`states` counts jobs now (scheduled, queued, running); `counters` are totals since the shard began."""

    states: dict[str, int]
    queued_by_class: dict[str, int]
    oldest_wait_s: float
    counters: dict[str, int]
    workers: list[WorkerInfo] = field(default_factory=list)
    redis_used_memory_bytes: int = 0
    redis_version: str = ""
    dead_letters: int = 0
    payload_bytes: int = 0
    """Requests of unfinished jobs."""
    drain_per_s: float | None = None
    """Jobs ended a second while jobs waited, as last measured; None before that."""
    durability: str = "none"
    """aof-always | aof-everysec | aof-no | none: what a crash of Redis itself may cost."""
    takes_writes: bool = True
    """Whether its last write to the append-only file succeeded; a full disk makes Redis refuse ours."""


async def read_stats(redis: Redis, keys: Keys) -> QueueStats:
    """One pipeline, two for the heads of the lines, and one for the heartbeats."""
    pipe = redis.pipeline(transaction=False)
    pipe.time()
    pipe.hgetall(keys.counters)
    pipe.hgetall(keys.depth)
    for priority in Priority:
        pipe.zrange(keys.lines(priority), 0, LINES - 1)
    pipe.zcard(keys.dead_letters)
    pipe.hmget(keys.load, ["bytes", "rate"])
    pipe.zrange(keys.workers, 0, -1)
    pipe.info("memory")
    pipe.info("server")
    pipe.info("persistence")
    (
        (seconds, micros),
        raw,
        depth,
        *by_class,
        dead,
        (held, rate),
        workers,
        memory,
        server,
        persistence,
    ) = await pipe.execute()
    now = seconds + micros / 1e6
    counters = {name.decode(): int(value) for name, value in raw.items()}
    lines = [(p, line.decode()) for p, names in zip(Priority, by_class, strict=True) for line in names]
    live = {State.SCHEDULED, State.QUEUED, State.RUNNING}
    return QueueStats(
        states={state: counters.get(state, 0) for state in live},
        queued_by_class={priority: int(depth.get(priority.encode(), 0)) for priority in Priority},
        oldest_wait_s=await _oldest_wait_s(redis, keys, lines, now),
        counters={name: value for name, value in counters.items() if name not in live},
        workers=await _workers(redis, keys, [w.decode() for w in workers], now),
        redis_used_memory_bytes=memory["used_memory"],
        redis_version=server.get("valkey_version") or server["redis_version"],
        dead_letters=dead,
        payload_bytes=int(held or 0),
        drain_per_s=float(rate) if rate else None,
        durability=await durability(redis, aof=bool(persistence.get("aof_enabled"))),
        takes_writes=persistence.get("aof_last_write_status", "ok") == "ok",
    )


async def _oldest_wait_s(redis: Redis, keys: Keys, lines: Sequence[tuple[str, str]], now: float) -> float:
    if not lines:
        return 0.0
    pipe = redis.pipeline(transaction=False)
    for priority, line in lines:
        pipe.zrange(keys.line(priority, line), 0, HEADS - 1)
    job_ids = [job_id.decode() for heads in await pipe.execute() for job_id in heads]
    pipe = redis.pipeline(transaction=False)
    for job_id in job_ids:
        pipe.hmget(keys.record(job_id), ["qt", "ct"])
    since_ms = [float(moved or created) for moved, created in await pipe.execute() if moved or created]
    return max(0.0, now - min(since_ms, default=now * 1000) / 1000)


async def _workers(redis: Redis, keys: Keys, ids: list[str], now: float) -> list[WorkerInfo]:
    return [
        WorkerInfo(
            id=b.id, host=b.host, pid=b.pid, slots=b.slots, running=b.running, version=b.version,
            seen_s_ago=max(0.0, now - b.at),
        )
        for b in await _heartbeats(redis, keys, ids)
    ]  # fmt: skip


async def _heartbeats(redis: Redis, keys: Keys, ids: list[str]) -> list[Heartbeat]:
    if not ids:
        return []
    return [_heartbeat.decode(raw) for raw in await redis.mget([keys.worker(i) for i in ids]) if raw]


async def read_calls(redis: Redis, keys: Keys) -> dict[tuple[str, str], int]:
    """Calls under way by (model, host), added up over the live workers' heartbeats."""
    found: Counter[tuple[str, str]] = Counter()
    for beat in await _heartbeats(redis, keys, [raw.decode() for raw in await redis.zrange(keys.workers, 0, -1)]):
        for model, host, calls in beat.calls:
            found[same(model), host] += calls
    return dict(found)


async def durability(redis: Redis, *, aof: bool) -> str:
    """What Redis writes to disk: aof-<fsync policy>, or none; plain `aof` where CONFIG is forbidden."""
    if not aof:
        return "none"
    try:
        policy = (await redis.config_get("appendfsync"))["appendfsync"]
    except ResponseError:  # the shipped ACL forbids CONFIG
        return "aof"
    return f"aof-{policy}"
