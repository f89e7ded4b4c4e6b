"""F23: a very deep queue costs neither time nor more memory than its jobs; nothing walks through it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from shared.queue.client import QueueClient
from tests.chaos.campaign import Bench, Campaign, bench
from tests.chaos.outcome import Outcome, percentile
from tests.shared.queue.rig import LINE, chat, claim, queue_client, settings_for

SHALLOW, DEEP, DEEPEST = 100, 100_000, 1_000_000
ASKED_FOR = "Why do llamas hum? " * 8
TIMEOUT_S = 3600.0
IN_FLIGHT = 200
SAMPLES = 1000
DEEPER_AT_MOST = 2.0
CLAIM_WITHIN_S = 0.002
BYTES_PER_JOB = 1.2 * 1024
SLOW_US = 10_000
WATCH_S = 4.0
WALKERS = frozenset({"KEYS", "SCAN", "SSCAN", "HSCAN", "ZSCAN", "LRANGE", "SMEMBERS", "HGETALL"})
PER_JOB_KEYS = (":line:", ":alarms", ":tenant:", ":dlq")
"""Keys that grow with the number of jobs."""


async def run(campaign: Campaign) -> Outcome:
    depth = DEEPEST if campaign.deep else campaign.size(DEEP, DEEP // 10)
    outcome = Outcome("F23", f"{depth} jobs wait")
    async with bench(campaign, "F23") as b, _clients(b) as (client, shallow):
        await _fill(campaign, shallow, SHALLOW)
        base = await _used_bytes(b)
        await _fill(campaign, client, depth)
        per_job = (await _used_bytes(b) - base) / depth
        payload = await _payload_bytes(client)
        await b.stack.redis.config_set("slowlog-log-slower-than", SLOW_US)
        await b.stack.redis.slowlog_reset()
        # In turns, so that a busy neighbour on the machine hits both.
        shallow_s, deep_s = await _p99s(lambda: _enqueue(shallow), lambda: _enqueue(client))
        (claim_s,) = await _p99s(lambda: claim(client.scripts))
        seen = await _watched(campaign, b)
        slow = await b.stack.redis.slowlog_get(128)
        outcome.breaches += [f"I8 ended unasked: {process}" for process in b.stack.processes.died_unasked()]
    ours = [entry for entry in slow if not entry["command"].startswith((b"MONITOR", b"INFO"))]
    outcome.breaches += [f"slow: {entry['duration']} us, {entry['command'][:60]!r}" for entry in ours]
    outcome.add(f"enqueue, p99, of that with {SHALLOW} waiting", SAMPLES,
                f"{deep_s * 1e3:.2f} of {shallow_s * 1e3:.2f} ms", f"<= {DEEPER_AT_MOST:g} x",
                deep_s <= DEEPER_AT_MOST * shallow_s)  # fmt: skip
    outcome.add("claim, p99", SAMPLES, f"{claim_s * 1e3:.2f} ms", f"<= {CLAIM_WITHIN_S * 1e3:g} ms",
                claim_s <= CLAIM_WITHIN_S)  # fmt: skip
    outcome.add("memory a job, besides its payload", depth, f"{per_job - payload:.0f} bytes",
                f"<= {BYTES_PER_JOB:.0f} bytes", per_job - payload <= BYTES_PER_JOB)  # fmt: skip
    outcome.none(f"commands over {SLOW_US // 1000} ms", depth, len(ours))
    walks = [command for command in seen if _walks(command)]
    outcome.breaches += [f"walks through the queue: {command}" for command in walks[:5]]
    outcome.some("commands watched, of services at work", len(seen), len(seen))
    outcome.none("of those, ones that walk through keys or queue", len(seen), len(walks))
    return outcome


@asynccontextmanager
async def _clients(b: Bench) -> AsyncIterator[tuple[QueueClient, QueueClient]]:
    """On the shard that gets deep, and on one that stays shallow."""
    url = b.stack.redis_url
    async with queue_client(url) as client:
        shallow = await QueueClient.connect(settings_for(url, queue_shard="shallow"))
        try:
            yield client, shallow
        finally:
            await shallow.aclose()


async def _fill(campaign: Campaign, client: QueueClient, depth: int) -> None:
    """Enqueue until that many wait."""
    left = depth - (await client.stats()).queued_by_class["normal"]
    while left > 0:
        batch = min(IN_FLIGHT, left)
        await asyncio.gather(*(_enqueue(client) for _ in range(batch)))
        left -= batch
        campaign.say(f"{depth - left} of {depth} jobs wait")


async def _enqueue(client: QueueClient) -> None:
    await client.enqueue(chat(ASKED_FOR, timeout_s=TIMEOUT_S))


async def _p99s(*calls: Callable[[], Awaitable[object]]) -> list[float]:
    """The p99 of each call's time, s; the calls take turns."""
    took: list[list[float]] = [[] for _ in calls]
    for _ in range(SAMPLES):
        for call, times in zip(calls, took, strict=True):
            began = time.perf_counter()
            await call()
            times.append(time.perf_counter() - began)
    return [percentile(times, 0.99) for times in took]


async def _used_bytes(b: Bench) -> int:
    return int((await b.stack.redis.info("memory"))["used_memory"])


async def _payload_bytes(client: QueueClient) -> int:
    [last] = await client.redis.zrange(client.keys.line("normal", LINE), -1, -1)
    return int(await client.redis.hget(client.keys.record(last.decode()), "pb"))  # type: ignore[misc]  # redis-py 5


async def _watched(campaign: Campaign, b: Bench) -> list[str]:
    """What Redis is told, scripts' own commands included, while a gateway and a worker have this queue."""
    stack = b.stack
    campaign.say("services at work on the deep queue")
    seen: list[str] = []
    async with stack.redis.monitor() as monitor:

        async def watch() -> None:
            while True:
                seen.append((await monitor.next_command())["command"])

        watching = asyncio.create_task(watch())
        gateway, _ = await asyncio.gather(stack.start_gateway(MAX_QUEUE_DEPTH="10000000"), stack.start_worker())
        for path in ("/health/ready", "/metrics", "/v1/jobs", "/health/live"):
            async with stack.http.get(gateway.url + path) as response:
                response.raise_for_status()
        await asyncio.sleep(WATCH_S)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    return seen


def _walks(command: str) -> bool:
    """Whether its cost grows with the number of jobs or keys."""
    name, *words = command.split(" ")
    name = name.upper()
    if name in ("KEYS", "SCAN"):
        return True
    grows = any(key in words[0] for key in PER_JOB_KEYS) if words else False
    return grows and (name in WALKERS or words[1:3] == ["0", "-1"])
