"""Stories of the door, of dead letters and of jobs put back: see scenarios.py."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from redis.asyncio import Redis

from tests.shared.queue.rig import settle
from tests.shared.queue.scenarios import Stage, same

WEEK_MS = 7 * 86_400_000


async def _bury(on: Stage, *job_ids: str) -> None:
    """Let jobs that wait fail for good."""
    for run in await on.take(len(job_ids), seed=job_ids[0]):
        same(await settle(on.scripts, run.id, run.token, "dead_lettered", error=b"@backend_fault"), b"dead_lettered")


async def _held(on: Stage) -> tuple[int, int]:
    redis: Redis = on.redis
    held = int(await redis.hget(on.keys.load, "bytes") or 0)  # type: ignore[misc]  # redis-py 5 types it as either
    return held, await redis.hlen(on.keys.unfinished)  # type: ignore[misc]  # redis-py 5 types it as either


async def what_is_refused_is_not_there(on: Stage) -> None:
    same(await on.enqueue("a", limits="1 0 0 0 0 0"), "queued")
    same(await on.enqueue("b", limits="1 0 0 0 0 0"), "#queue_full")
    same(await on.redis.exists(on.keys.record("b"), on.keys.payload_root + "b"), 0)
    same(await on.enqueue("b", limits="0 0 0 0 80 0"), "queued")  # a limit that is not set is none
    same([run.id for run in await on.take(9)], ["a", "b"])


async def a_tenant_has_its_own_limit(on: Stage) -> None:
    for n in range(2):
        same(await on.enqueue(f"a{n}", limits="0 2 0 0 0 0", tenant="a"), "queued")
    same(await on.enqueue("a2", limits="0 2 0 0 0 0", tenant="a"), "#tenant_queue_full")
    same(await on.enqueue("b", limits="0 2 0 0 0 0", tenant="b"), "queued")
    same(await on.enqueue("a3", limits="9 0 0 0 0 0", tenant="a"), "queued")


async def bytes_are_bounded_for_each_class(on: Stage) -> None:
    limits = "0 0 100 0 0 0"
    same(await on.enqueue("a", limits=limits, payload=b"x" * 70), "queued")
    same(await on.enqueue("b", limits=limits, payload=b"x" * 20, priority="low"), "#queue_bytes_full")
    same(await on.enqueue("b", limits=limits, payload=b"x" * 20), "queued")
    same(await on.enqueue("c", limits=limits, payload=b"x" * 10), "#queue_bytes_full")
    same(await on.enqueue("c", limits=limits, payload=b"x" * 10, priority="high"), "queued")
    same(await on.enqueue("d", limits="9 0 0 0 0 0", payload=b"x"), "queued")


async def a_class_that_does_not_move_takes_no_more(on: Stage) -> None:
    limits = "0 0 0 10000 0 0"
    await on.enqueue("old")
    await on.after(9400)
    same(await on.enqueue("b", limits=limits), "queued")
    await on.after(200)
    same(await on.enqueue("c", limits=limits), "#queue_too_slow")
    same(await on.enqueue("d", limits=limits, priority="high"), "queued")
    same(await on.enqueue("e", limits="9 0 0 0 0 0"), "queued")


async def memory_is_kept_for_the_jobs_under_way(on: Stage) -> None:
    limits = "0 0 0 0 80 0"
    full = "#memory_pressure"
    for percent, low, high in ((74, "queued", "queued"), (75, full, "queued"), (80, full, full)):
        await on.redis.hset(on.keys.load, "memory", str(percent))  # type: ignore[misc]  # redis-py 5 types it as either
        same(await on.enqueue(f"low{percent}", limits=limits, priority="low"), low)
        same(await on.enqueue(f"high{percent}", limits=limits, priority="high"), high)
    same(await on.enqueue("unlimited", limits="9 0 0 0 0 0"), "queued")


async def a_deadline_that_cannot_be_met_is_refused(on: Stage) -> None:
    limits = "0 0 0 0 0 1"
    for n in range(10):
        await on.enqueue(f"j{n}")
    same(await on.enqueue("unknown", limits=limits, timeout=1000), "queued")
    load = {"rate": "1", "rated": on.now_us // 1000}
    await on.redis.hset(on.keys.load, mapping=load)  # type: ignore[misc]  # redis-py 5 types it as either
    same(await on.enqueue("late", limits=limits, timeout=5000), "#deadline_unreachable")
    same(await on.enqueue("patient", limits=limits, timeout=60_000), "queued")
    same(await on.enqueue("delayed", limits=limits, timeout=5000, delay=4000), "scheduled")
    same(await on.enqueue("careless", limits="99 0 0 0 0 0", timeout=5000), "queued")
    await on.after(60_001)
    for n in range(10):
        await on.enqueue(f"k{n}")
    same(await on.enqueue("stale", limits=limits, timeout=5000), "queued")


async def only_dead_letters_keep_their_request(on: Stage) -> None:
    for job_id in ("dead", "done"):
        await on.enqueue(job_id)
    await _bury(on, "dead")
    [run] = await on.take(seed="b")
    await settle(on.scripts, run.id, run.token, result=b"R")
    same(await on.redis.get(on.keys.payload_root + "dead"), b"payload")
    same(await on.redis.exists(on.keys.payload_root + "done"), 0)
    same(await on.redis.zrange(on.keys.dead_letters, 0, -1), [b"dead"])
    same(await _held(on), (0, 0))


async def a_dead_letter_is_replayed_once(on: Stage) -> None:
    for job_id in ("dead", "waiting"):
        await on.enqueue(job_id)
    await _bury(on, "dead")

    async def replay(job_id: str, new_id: str, limits: str = "0") -> str:
        [reply] = await on.scripts.run("replay", limits, 1000, 1000, job_id, new_id, "", b"", 0, "", "")
        return str(reply.decode().split(" ")[0])

    await on.after(1)
    same(await replay("waiting", "n1"), "?")
    same(await replay("unknown", "n1"), "?")
    same(await replay("dead", "n1", limits="1 0 0 0 0 0"), "#queue_full")
    same(await on.redis.exists(on.keys.record("n1")), 0)
    same(await replay("dead", "n1"), "queued")
    same(await replay("dead", "n2"), "=n1")
    same(await on.field("n1", "ro"), "dead")
    same([run.id for run in await on.take(9, seed="b")], ["waiting", "n1"])


async def only_the_dead_are_purged(on: Stage) -> None:
    for job_id in ("dead", "waiting"):
        await on.enqueue(job_id)
    await _bury(on, "dead")
    same(await on.scripts.run("purge", "waiting", "dead", "unknown"), 1)
    same(await on.redis.exists(on.keys.record("dead"), on.keys.payload_root + "dead"), 0)
    same([run.id for run in await on.take(9, seed="b")], ["waiting"])


async def dead_letters_are_bounded_in_time_and_number(on: Stage) -> None:
    async def left() -> list[str]:
        return [raw.decode() for raw in await on.redis.zrange(on.keys.dead_letters, 0, -1)]

    names = ["d0", "d1", "d2", "d3"]
    for job_id in names:
        await on.enqueue(job_id)
        await _bury(on, job_id)
        await on.after(1000)
    await on.sweep(WEEK_MS, 4)
    same(await left(), names)
    await on.sweep(WEEK_MS, 3)
    same(await left(), names[1:])
    await on.sweep(2500, 3)
    same(await left(), names[2:])
    await on.redis.delete(on.keys.record("d2"))
    await on.sweep(WEEK_MS, 3)
    same(await left(), ["d3"])


async def what_a_lost_job_held_is_given_back_once_all_is_quiet(on: Stage) -> None:
    await on.enqueue("lost")
    await on.enqueue("there", tenant="u")
    await on.redis.delete(on.keys.record("lost"))
    await on.redis.zrem(on.keys.alarms, "lost")
    await on.sweep()
    same(await _held(on), (14, 2))
    await on.cancel("there")
    await on.sweep()
    same(await _held(on), (0, 0))


async def a_job_put_back_for_later_waits(on: Stage) -> None:
    for job_id in ("later", "now"):
        await on.enqueue(job_id)
    later, now = await on.take(2)
    same(await settle(on.scripts, later.id, later.token, "released", delay_ms=500), b"scheduled")
    same(await settle(on.scripts, now.id, now.token, "released"), b"queued")
    same([run.id for run in await on.take(9, seed="b")], ["now"])
    await on.after(500)
    same([run.id for run in await on.take(9, seed="c")], ["later"])


LIMIT_STORIES: tuple[Callable[[Stage], Awaitable[None]], ...] = (
    what_is_refused_is_not_there,
    a_tenant_has_its_own_limit,
    bytes_are_bounded_for_each_class,
    a_class_that_does_not_move_takes_no_more,
    memory_is_kept_for_the_jobs_under_way,
    a_deadline_that_cannot_be_met_is_refused,
    only_dead_letters_keep_their_request,
    a_dead_letter_is_replayed_once,
    only_the_dead_are_purged,
    dead_letters_are_bounded_in_time_and_number,
    what_a_lost_job_held_is_given_back_once_all_is_quiet,
    a_job_put_back_for_later_waits,
)
