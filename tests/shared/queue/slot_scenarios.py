"""Stories about plans and slots: what starts where, and that no slot is lost. Told to scripts and their mutants."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from shared.queue.plans import Place, Plan, Row
from tests.shared.queue.rig import Claimed, settle
from tests.shared.queue.scenarios import LEASE_MS, Stage, same


def place(
    host: str = "a", unit: str = "m", *, calls: int = 9, shared: int = 9, tier: int = 0, weight: float = 1.0
) -> Place:
    return Place(host=host, unit=unit, calls=calls, shared_calls=shared, tier=tier, weight=weight)


def plan(*rows: Row, **hosts: int) -> bytes:
    return Plan(hosts or {"a": 9}, rows).packed()


def row(*places: Place, line: str = "t:m", batch: int = 1, fill_from: int = 0, fill_ms: int = 0) -> Row:
    return Row(line=line, places=places, batch=batch, fill_from=fill_from, fill_ms=fill_ms)


async def shared_calls(on: Stage) -> dict[str, int]:
    """Calls that serve several jobs, each with how many of them run."""
    held: Any = await on.redis.hgetall(on.keys.shared_calls)  # type: ignore[misc]  # redis-py 5 types it as either
    return {name.decode(): int(jobs) for name, jobs in held.items()}


async def move(
    on: Stage, run: Claimed, host: str, *, unit: str = "m", of_unit: int = 2, shared: int = 2, of_host: int = 2,
    token: str = "",
) -> int:  # fmt: skip
    """Move a run's slot to where so many calls at once are allowed."""
    token = token or run.token
    moved: int = await on.scripts.run("take_slot", run.id, token, host, unit, of_unit, shared, of_host)
    return moved


async def a_host_gets_what_it_can_run(on: Stage) -> None:
    for job_id in "123456":
        await on.enqueue(job_id)
    await on.enqueue("n", line="t:n")
    of_unit = plan(row(place(calls=2, shared=2)), a=9)
    first, second = await on.take(9, plan=of_unit)
    same((first.id, first.host), ("1", "a"))
    same(await on.take(9, seed="b", plan=of_unit), [])
    same(await on.calls(), {"a": 2000, "a|m": 2000})
    of_host = plan(row(place(unit="n"), line="t:n"), row(place()), a=3)
    same([run.id for run in await on.take(9, seed="c", plan=of_host)], ["3"])
    same(await on.take(9, seed="d", plan=of_host), [])
    await settle(on.scripts, "1", first.token)
    same(await on.take(9, seed="e", plan=of_unit), [])
    await settle(on.scripts, "2", second.token, "retried", delay_ms=500)
    same([run.id for run in await on.take(9, seed="f", plan=of_unit)], ["4"])
    same(await on.calls(), {"a": 2000, "a|m": 2000})
    await on.after(LEASE_MS + 1)
    await on.sweep()
    same(await on.calls(), {})


async def a_freed_slot_wakes_somebody(on: Stage) -> None:
    for job_id in "12":
        await on.enqueue(job_id)
    one = plan(row(place(calls=1, shared=1)))
    [run] = await on.take(9, plan=one)
    await on.redis.delete(on.keys.wake)
    await settle(on.scripts, "1", run.token)
    same(await on.redis.zcard(on.keys.wake), 1)
    [last] = await on.take(9, seed="b", plan=one)
    await on.redis.delete(on.keys.wake)
    await settle(on.scripts, "2", last.token)
    same(await on.redis.zcard(on.keys.wake), 0)


async def one_slot_is_kept_for_high(on: Stage) -> None:
    for job_id in "123":
        await on.enqueue(job_id, priority="low")
    kept = plan(row(place(calls=2, shared=1)))
    same([run.id for run in await on.take(9, plan=kept)], ["1"])
    await on.enqueue("urgent", priority="high")
    same([run.id for run in await on.take(9, seed="b", plan=kept)], ["urgent"])
    same(await on.take(9, seed="c", plan=kept), [])


async def only_planned_lines_start(on: Stage) -> None:
    await on.enqueue("cold", line="t:cold")
    await on.enqueue("warm", line="t:warm")
    await on.enqueue("again", line="t:warm")
    warm = plan(row(place(unit="warm"), line="t:warm"))
    same([run.id for run in await on.take(9, plan=warm)], ["warm", "again"])
    same(await on.redis.zrange(on.keys.lines("normal"), 0, -1), [b"t:cold"])
    same(await on.take(9, seed="b", plan=plan()), [])
    same([run.id for run in await on.take(9, seed="c")], ["cold"])


async def without_places_a_job_starts_without_a_host(on: Stage) -> None:
    for job_id in "12":
        await on.enqueue(job_id)
    same(
        [(run.id, run.host, run.batch) for run in await on.take(9, plan=plan(row(batch=5)))],
        [("1", "", 0), ("2", "", 0)],
    )
    same(await on.calls(), {})


async def the_least_busy_place_of_the_best_tier_is_taken(on: Stage) -> None:
    for n in range(9):
        await on.enqueue(f"j{n}")
    places = (
        place("slow", weight=3.0),
        place("fast"),
        place("spare", tier=1),
        place("full", tier=-1, calls=0, shared=0),
    )
    runs = await on.take(9, plan=plan(row(*places), slow=2, fast=3, spare=9, full=9))
    same([run.host for run in runs], ["fast", "fast", "slow", "fast", "slow", *["spare"] * 4])


async def an_old_plan_starts_nothing_on_a_host_that_loads(on: Stage) -> None:
    for n in range(3):
        await on.enqueue(f"warm{n}", line="t:warm")
    await on.enqueue("cold", line="t:cold")
    warm = row(place(unit="warm"), line="t:warm")
    loads = row(replace(place(unit="cold"), is_cold=True), line="t:cold")
    old = plan(warm)
    same([run.id for run in await on.take(1, plan=old)], ["warm0"])
    same([run.id for run in await on.take(1, seed="b", plan=plan(loads))], ["cold"])
    same(await on.take(1, seed="c", plan=old), [])
    same(await on.take(1, seed="d", plan=plan(loads)), [])
    new = Plan({"a": 9}, [warm], {"a": 1}).packed()
    same([run.id for run in await on.take(9, seed="e", plan=new)], ["warm1", "warm2"])


async def the_jobs_of_a_batch_share_a_call(on: Stage) -> None:
    for n in range(8):
        await on.enqueue(f"j{n}", line="e:m")
    batches = plan(row(place(calls=2, shared=2), line="e:m", batch=3))
    runs = await on.take(9, plan=batches)
    same([(run.id, run.batch) for run in runs], [("j0", 1), ("j1", 1), ("j2", 1), ("j3", 2), ("j4", 2), ("j5", 2)])
    same(await on.calls(), {"a": 2000, "a|m": 2000})
    for run in (*runs[:2], *runs[3:5]):
        await settle(on.scripts, run.id, run.token, "cancelled")
    same(await on.calls(), {"a": 2000, "a|m": 2000})
    same(await on.take(9, seed="b", plan=batches), [])
    await settle(on.scripts, runs[2].id, runs[2].token)
    same(await on.calls(), {"a": 1000, "a|m": 1000})
    same([(run.id, run.batch) for run in await on.take(1, seed="c", plan=batches)], [("j6", 1), ("j7", 1)])
    await on.after(LEASE_MS + 1)
    await on.sweep()
    same((await on.calls(), await shared_calls(on)), ({}, {}))


async def only_those_who_start_share_a_call(on: Stage) -> None:
    for job_id in ("lost", "there"):
        await on.enqueue(job_id, line="e:m")
    await on.redis.delete(on.keys.payload_root + "lost")
    [run] = await on.take(9, plan=plan(row(place(), line="e:m", batch=2)))
    same((run.id, await on.calls()), ("there", {"a": 1000, "a|m": 1000}))
    await settle(on.scripts, run.id, run.token)
    same((await on.calls(), await shared_calls(on)), ({}, {}))


async def who_leaves_a_batch_leaves_its_call_to_the_others(on: Stage) -> None:
    for job_id in "123":
        await on.enqueue(job_id, line="e:m")
    first, second, third = await on.take(9, plan=plan(row(place(), line="e:m", batch=3)))
    same(await move(on, first, "b", of_host=0), 0)
    same(list((await shared_calls(on)).values()), [3])
    same(await move(on, first, "b"), 1)
    same(await on.calls(), {"a": 1000, "a|m": 1000, "b": 1000, "b|m": 1000})
    await settle(on.scripts, second.id, second.token)
    same(await on.calls(), {"a": 1000, "a|m": 1000, "b": 1000, "b|m": 1000})
    same(await move(on, third, "c"), 1)
    same(await on.calls(), {"b": 1000, "b|m": 1000, "c": 1000, "c|m": 1000})
    for run in (first, third):
        await settle(on.scripts, run.id, run.token)
    same((await on.calls(), await shared_calls(on)), ({}, {}))


async def a_batch_waits_to_fill_only_behind_others(on: Stage) -> None:
    filling = plan(row(place(), line="e:m", batch=2, fill_from=1, fill_ms=100))
    await on.enqueue("first", line="e:m")
    same([run.id for run in await on.take(9, plan=filling)], ["first"])
    await on.enqueue("second", line="e:m")
    same(await on.take(9, seed="b", plan=filling), [])
    await on.enqueue("third", line="e:m")
    same([run.batch for run in await on.take(9, seed="c", plan=filling)], [1, 1])
    await on.enqueue("fourth", line="e:m")
    await on.after(99)
    same(await on.take(9, seed="d", plan=filling), [])
    await on.after(1)
    same([run.id for run in await on.take(9, seed="e", plan=filling)], ["fourth"])


async def a_slot_moves_with_its_job(on: Stage) -> None:
    for job_id in "123":
        await on.enqueue(job_id)
    first, second, third = await on.take(9, plan=plan(row(place())))
    same(await move(on, first, "b"), 1)
    same(await move(on, first, "b"), 1)
    same(await move(on, second, "b", unit="n", of_host=1), 0)
    same(await move(on, second, "b", of_unit=1, shared=1), 0)
    same(await on.calls(), {"a": 2000, "a|m": 2000, "b": 1000, "b|m": 1000})
    same(await move(on, second, "b"), 1)
    same(await move(on, first, "b", of_unit=1, shared=1, of_host=1), 1)  # where it is, it may stay
    same(await move(on, third, "b"), 0)
    same(await move(on, third, "c", token="other"), -1)
    await settle(on.scripts, "3", third.token)
    same(await move(on, third, "c"), -1)
    same(await on.calls(), {"b": 2000, "b|m": 2000})
    await on.enqueue("4")
    [bare] = await on.take(9, seed="b")
    same(await move(on, bare, "c"), 1)
    for run in (first, second, bare):
        await settle(on.scripts, run.id, run.token)
    same(await on.calls(), {})


async def the_slot_kept_for_high_is_not_moved_into_by_others(on: Stage) -> None:
    for job_id, priority in (("1", "normal"), ("2", "normal"), ("3", "low"), ("4", "high")):
        await on.enqueue(job_id, priority=priority)
    urgent, first, second, third = await on.take(9, plan=plan(row(place())))
    same([run.id for run in (urgent, first, second, third)], ["4", "1", "2", "3"])
    same(await move(on, first, "b", shared=1), 1)
    same(await move(on, second, "b", shared=1), 0)
    same(await move(on, third, "b", shared=1), 0)
    same(await move(on, urgent, "b", shared=1), 1)
    same(await on.calls(), {"a": 2000, "a|m": 2000, "b": 2000, "b|m": 2000})


async def jobs_of_a_release_without_lines_go_on(on: Stage) -> None:
    for n, job_id in enumerate(("waits", "over", "runs", "cancelled"), start=1):
        await on.enqueue(job_id, timeout=60_000)
        await on.redis.hdel(on.keys.record(job_id), "l")  # type: ignore[misc]  # redis-py 5 types it as either
        await on.redis.zrem(on.keys.line("normal", "t:m"), job_id)
        if job_id != "runs":
            await on.redis.zadd(f"{on.keys.root}ready:normal", {job_id: n})
    await on.redis.delete(on.keys.lines("normal"), on.keys.depth)
    await on.redis.hset(on.keys.record("runs"), mapping={"s": "running", "tok": "t", "w": "old", "n": 1, "sa": 0})  # type: ignore[misc]  # redis-py 5
    await on.redis.zadd(on.keys.alarms, {"runs": 0})
    await on.redis.hset(on.keys.record("over"), "s", "succeeded")  # type: ignore[misc]  # redis-py 5
    same(await on.cancel("cancelled"), "cancelled")
    await on.sweep()
    same(await on.redis.zcard(on.keys.line("normal", "t:m")), 2)
    same(sorted(run.id for run in await on.take(9)), ["runs", "waits"])
    same(await on.redis.zrange(f"{on.keys.root}ready:normal", 0, -1), [])


async def cost_moves_a_tenant_back(on: Stage) -> None:
    for job_id in "123":
        await on.enqueue(f"big{job_id}", tenant="big", cost=5)
    for n in range(6):
        await on.enqueue(f"small{n}", tenant="small")
    first = [run.id for run in await on.take(6)]
    same(first, ["small0", "small1", "small2", "small3", "big1", "small4"])


SLOT_STORIES = (
    a_host_gets_what_it_can_run,
    a_freed_slot_wakes_somebody,
    one_slot_is_kept_for_high,
    only_planned_lines_start,
    without_places_a_job_starts_without_a_host,
    the_least_busy_place_of_the_best_tier_is_taken,
    an_old_plan_starts_nothing_on_a_host_that_loads,
    the_jobs_of_a_batch_share_a_call,
    only_those_who_start_share_a_call,
    who_leaves_a_batch_leaves_its_call_to_the_others,
    a_batch_waits_to_fill_only_behind_others,
    a_slot_moves_with_its_job,
    the_slot_kept_for_high_is_not_moved_into_by_others,
    jobs_of_a_release_without_lines_go_on,
    cost_moves_a_tenant_back,
)
