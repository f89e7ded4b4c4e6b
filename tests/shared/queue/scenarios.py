"""Short stories that decide whether the scripts keep their guards.

Each gets fresh keys and raises when a promise is broken. `test_mutants.py` runs them all on the scripts as they are,
and on every mutant.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from shared.queue.arrivals import Arrival, packed, template
from shared.queue.keys import Keys
from shared.queue.scripts import Scripts
from tests.shared.queue.clocked import START_US, clock_key
from tests.shared.queue.rig import Claimed, claim, publish, renew, settle

LEASE_MS = 8000


@dataclass
class Stage:
    """An empty shard on a clock that stands still unless told."""

    scripts: Scripts
    redis: Redis
    keys: Keys
    now_us: int = START_US

    async def after(self, ms: int) -> None:
        self.now_us += ms * 1000
        await self.redis.set(clock_key(self.keys), self.now_us, px=600_000)

    async def enqueue(
        self, job_id: str, *, priority: str = "normal", body: str = "body", timeout: int = 60_000, delay: int = 0,
        limit: int = 0, limits: str = "", watcher: str = "g1", tenant: str = "t", payload: bytes = b"payload",
        line: str = "t:m", cost: int = 1,
    ) -> str:  # fmt: skip
        """The script's answer; of a refusal the reason only. `limits` as in includes/admission.lua."""
        self.now_us += 1  # two jobs never come in the same microsecond, so their order is known
        await self.after(0)
        common = ("ttl", 3_600_000, "ev", "1", "rt", watcher, "co", cost)
        shared = template(priority, "chat", "m", tenant, timeout, delay, line, cost, common, ("fp",))
        reply = await self.scripts.run("enqueue", limits or limit, *packed([Arrival(shared, (job_id, payload, body))]))
        return str(reply[1].decode().split(" ")[0])

    async def take(self, count: int = 1, *, seed: str = "seed", plan: bytes = b"") -> list[Claimed]:
        return await claim(self.scripts, count, seed=seed, lease_ms=LEASE_MS, plan=plan)

    async def calls(self) -> dict[str, int]:
        """Slots held, in thousandths of a call."""
        held: Any = await self.redis.hgetall(self.keys.slots)  # type: ignore[misc]  # redis-py 5 types it as either
        return {name.decode(): int(calls) for name, calls in held.items()}

    async def sweep(self, *dead_letters: int) -> int:
        """`dead_letters`: how long they are kept (ms) and how many."""
        await self.redis.delete(f"{self.keys.root}sweeping")
        acted: int = await self.scripts.run("sweep", 60_000, *dead_letters)
        return acted

    async def field(self, job_id: str, name: str) -> str:
        value: Any = await self.redis.hget(self.keys.record(job_id), name)  # type: ignore[misc]  # redis-py 5 types it as either
        return value.decode() if value else ""

    async def result(self, job_id: str) -> bytes | None:
        value: bytes | None = await self.redis.get(self.keys.result_root + job_id)
        return value

    async def cancel(self, job_id: str) -> str:
        return str((await self.scripts.run("cancel", job_id)).decode())

    async def lease_lapses(self) -> None:
        await self.after(LEASE_MS + 1)
        await self.sweep()


def same(actual: object, expected: object) -> None:
    # Not `assert`: the stories live outside of a test module, where pytest explains nothing.
    if actual != expected:
        raise AssertionError(f"{actual!r} instead of {expected!r}")


async def a_job_runs_once_and_its_end_stands(on: Stage) -> None:
    same(await on.enqueue("j"), "queued")
    [run] = await on.take(5)
    same(await on.take(5, seed="b"), [])
    same(await publish(on.scripts, run, 1), b"")
    same(await renew(on.scripts, (run.id, run.token)), ([], []))
    same(await settle(on.scripts, "j", run.token, result=b"first"), b"succeeded")
    same(await settle(on.scripts, "j", run.token, "dead_lettered", error=b"@x", result=b"second"), b"=succeeded")
    same(await publish(on.scripts, run, 2), b"!")
    same(await renew(on.scripts, (run.id, run.token)), (["j"], []))
    same(await on.cancel("j"), "succeeded")
    same((await on.field("j", "s"), await on.result("j")), ("succeeded", b"first"))
    same(await on.redis.zcard(on.keys.alarms), 0)


async def the_same_job_is_accepted_once(on: Stage) -> None:
    same(await on.enqueue("j", limit=1), "queued")
    same(await on.enqueue("j", limit=1), "=queued")
    same(await on.enqueue("j", body="other", limit=1), "!")
    same(await on.enqueue("k", limit=1), "#queue_full")
    same(await on.enqueue("k", limit=2), "queued")
    same(await on.enqueue("l"), "queued")
    same([run.id for run in await on.take(9)], ["j", "k", "l"])


async def a_zombie_writes_nothing(on: Stage) -> None:
    await on.enqueue("j")
    [old] = await on.take(seed="old")
    await on.lease_lapses()
    [new] = await on.take(seed="new")
    same(await publish(on.scripts, old, 1), b"!")
    same(await renew(on.scripts, ("j", old.token)), (["j"], []))
    same(await settle(on.scripts, "j", old.token, result=b"zombie"), b"!")
    same(await on.field("j", "s"), "running")
    same(await settle(on.scripts, "j", new.token, result=b"good"), b"succeeded")
    same(await settle(on.scripts, "j", old.token, "dead_lettered", result=b"zombie"), b"!")
    same(await on.result("j"), b"good")


async def nothing_happens_before_its_time(on: Stage) -> None:
    await on.enqueue("later", delay=1000)
    await on.enqueue("held")
    same([run.id for run in await on.take(5)], ["held"])
    await on.after(999)
    await on.sweep()
    same((await on.field("later", "s"), await on.field("held", "s")), ("scheduled", "running"))
    await on.after(1)
    same([run.id for run in await on.take(5, seed="b")], ["later"])
    same(await on.field("held", "x"), "")


async def a_job_that_kills_its_workers_is_set_aside(on: Stage) -> None:
    await on.enqueue("j")
    for life in range(3):
        same(await on.field("j", "s"), "queued")
        same(len(await on.take(seed=f"life{life}")), 1)
        await on.lease_lapses()
    same((await on.field("j", "s"), await on.field("j", "er")), ("dead_lettered", "@job_poisoned"))


async def a_cancelled_job_does_not_run_again(on: Stage) -> None:
    for job_id in ("crashed", "retried", "released", "disowned", "finished"):
        await on.enqueue(job_id)
    crashed, retried, released = await on.take(3)
    [disowned] = await on.take(1, seed="lost")
    [finished] = await on.take(1, seed="c")
    for run in (crashed, retried, released, disowned, finished):
        same(await on.cancel(run.id), "running")
    same(await settle(on.scripts, retried.id, retried.token, "retried", error=b"@x"), b"cancelled")
    same(await settle(on.scripts, released.id, released.token, "released"), b"cancelled")
    same(await settle(on.scripts, finished.id, finished.token), b"succeeded")
    same(await on.scripts.run("disown", "lost", LEASE_MS), 1)
    await on.lease_lapses()
    same([await on.field(j, "s") for j in ("crashed", "retried", "released", "disowned")], ["cancelled"] * 4)


async def an_uncancelled_job_does_run_again(on: Stage) -> None:
    for job_id in ("crashed", "retried", "released", "disowned"):
        await on.enqueue(job_id)
    _, retried, released = await on.take(3)
    await on.take(1, seed="lost")
    same(await on.scripts.run("disown", "lost", LEASE_MS), 1)
    same(await settle(on.scripts, retried.id, retried.token, "retried", error=b"@x"), b"queued")
    same(await settle(on.scripts, released.id, released.token, "released"), b"queued")
    await on.lease_lapses()
    again = [run.id for run in await on.take(9, seed="again")]
    same(again, ["crashed", "released", "disowned", "retried"])


async def disowning_touches_one_claim_only(on: Stage) -> None:
    for job_id in ("kept", "lost", "waiting", "over"):
        await on.enqueue(job_id, delay=1000 if job_id == "waiting" else 0)
    [kept] = await on.take(seed="aa")
    await on.take(seed="bb")
    [over] = await on.take(seed="cc")
    await settle(on.scripts, over.id, over.token)
    same(await on.scripts.run("disown", "bb", LEASE_MS), 1)
    states = [await on.field(job_id, "s") for job_id in ("kept", "lost", "waiting", "over")]
    same(states, ["running", "queued", "scheduled", "succeeded"])
    same(await settle(on.scripts, kept.id, kept.token), b"succeeded")
    # What a retry left behind is not this claim's any more.
    [again] = await on.take(seed="dd")
    same(await settle(on.scripts, again.id, again.token, "retried", error=b"@x", delay_ms=500), b"scheduled")
    same(await on.scripts.run("disown", "", LEASE_MS), 0)
    same(await on.field("lost", "s"), "scheduled")


async def deadlines_end_what_waits_and_what_crashed(on: Stage) -> None:
    await on.enqueue("crashed", timeout=5000)
    await on.take()
    await on.enqueue("queued", timeout=5000)
    await on.enqueue("delayed", timeout=5000, delay=9000)
    await on.enqueue("patient", timeout=60_000)
    await on.lease_lapses()
    states = [await on.field(job_id, "s") for job_id in ("crashed", "queued", "delayed", "patient")]
    same(states, ["expired", "expired", "expired", "queued"])
    same([run.id for run in await on.take(9, seed="b")], ["patient"])


async def an_expired_job_is_not_run_however_many_are_due(on: Stage) -> None:
    for n in range(110):  # more than one claim looks at
        await on.enqueue(f"j{n:03d}", timeout=5000)
    await on.after(5001)
    same(await on.take(10), [])
    await on.enqueue("fresh")
    same([run.id for run in await on.take(200, seed="b")], ["fresh"])
    same(await on.field("j109", "s"), "expired")


async def a_tenant_waits_behind_itself(on: Stage) -> None:
    for job in ("a1", "a2", "a3", "a4", "b1"):
        await on.enqueue(job, tenant=job[0])
    same([run.id for run in await on.take(3)], ["a1", "b1", "a2"])
    for job in ("c1", "c2"):
        await on.enqueue(job, tenant=job[0])  # gets no credit for having been away
    same([run.id for run in await on.take(9, seed="b")], ["a3", "c1", "a4", "c2"])


async def what_comes_back_does_not_turn_the_line_back(on: Stage) -> None:
    for job in ("a1", "a2", "a3"):
        await on.enqueue(job, tenant="a")
    first, *_ = await on.take(3)
    await settle(on.scripts, first.id, first.token, "released")
    await on.enqueue("a4", tenant="a")
    same([run.id for run in await on.take(seed="b")], ["a1"])
    await on.enqueue("b1", tenant="b")
    same([run.id for run in await on.take(2, seed="c")], ["a4", "b1"])


async def what_is_not_queued_is_not_claimed(on: Stage) -> None:
    await on.enqueue("gone")
    await on.enqueue("over")
    await on.redis.delete(on.keys.record("gone"))
    await on.redis.hset(on.keys.record("over"), "s", "succeeded")  # type: ignore[misc]  # redis-py 5 types it as either
    same(await on.take(5), [])
    same((await on.field("gone", "s"), await on.field("over", "s")), ("", "succeeded"))


async def what_redis_lost_leaves_nothing_behind(on: Stage) -> None:
    await on.enqueue("gone")
    await on.take()
    of_it = (on.keys.payload_root + "gone", on.keys.events("gone"))
    same(await on.redis.exists(*of_it), 2)
    await on.redis.delete(on.keys.record("gone"))
    await on.lease_lapses()
    same(await on.redis.exists(*of_it, on.keys.alarms), 0)


async def a_retry_ends_at_the_deadline(on: Stage) -> None:
    for job_id in ("early", "late"):
        await on.enqueue(job_id, timeout=5000)
    early, late = await on.take(2)
    same(await settle(on.scripts, early.id, early.token, "retried", error=b"@x", delay_ms=4999), b"scheduled")
    same(await settle(on.scripts, late.id, late.token, "retried", error=b"@x", delay_ms=5000), b"dead_lettered")


async def an_unknown_verdict_changes_no_state(on: Stage) -> None:
    await on.enqueue("j")
    [run] = await on.take()
    await settle(on.scripts, run.id, run.token, "vanished")
    same(await on.field("j", "s"), "running")
    same(await settle(on.scripts, run.id, run.token), b"succeeded")


async def one_gateway_sweeps_at_a_time(on: Stage) -> None:
    same(await on.sweep(), 1)
    same(await on.scripts.run("sweep", 60_000), 0)
    await on.enqueue("j", timeout=1)
    await on.after(5)
    same(await on.scripts.run("sweep", 60_000), 0)
    same(await on.field("j", "s"), "queued")
    same(await on.sweep(), 1)
    same(await on.field("j", "s"), "expired")


async def only_living_gateways_get_events(on: Stage) -> None:
    alive = on.keys.inbox("g1")
    await on.redis.xadd(alive, {"hello": "1"})
    await on.redis.expire(alive, 60)
    await on.enqueue("mine", watcher="g1")
    await on.enqueue("orphan", watcher="dead")
    for run in await on.take(2):
        await publish(on.scripts, run, 1)
        await settle(on.scripts, run.id, run.token)
    kinds = [fields[b"t"] for _, fields in await on.redis.xrange(alive) if b"t" in fields]
    same(kinds, [b"s", b"c", b"e"])
    same(await on.redis.exists(on.keys.inbox("dead")), 0)


STORIES: tuple[Callable[[Stage], Awaitable[None]], ...] = (
    a_job_runs_once_and_its_end_stands,
    the_same_job_is_accepted_once,
    a_zombie_writes_nothing,
    nothing_happens_before_its_time,
    a_job_that_kills_its_workers_is_set_aside,
    a_cancelled_job_does_not_run_again,
    an_uncancelled_job_does_run_again,
    disowning_touches_one_claim_only,
    deadlines_end_what_waits_and_what_crashed,
    a_tenant_waits_behind_itself,
    what_comes_back_does_not_turn_the_line_back,
    what_is_not_queued_is_not_claimed,
    what_redis_lost_leaves_nothing_behind,
    a_retry_ends_at_the_deadline,
    an_unknown_verdict_changes_no_state,
    one_gateway_sweeps_at_a_time,
    only_living_gateways_get_events,
    an_expired_job_is_not_run_however_many_are_due,
)
