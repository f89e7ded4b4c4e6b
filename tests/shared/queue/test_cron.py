"""What comes by the clock comes once, however many workers know the schedule."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from redis.asyncio import Redis

from shared.errors import ErrorRecord
from shared.jobs import Kind, State
from shared.queue.client import QueueClient
from shared.queue.cron import CronEntry, Schedule
from shared.queue.engine import QueueWorker
from shared.queue.running import RunningJob
from shared.wire.codec import encode
from shared.wire.operations import Maintenance, MaintenanceAnswer
from tests.conftest import WaitUntil
from tests.house.redis_server import RedisServer
from tests.shared.queue.rig import counter, settings_for, working

NOON = datetime(2026, 3, 29, 12, 0, tzinfo=UTC)


async def _nothing(ctx: dict[str, Any], job: RunningJob) -> bytes:
    return encode(MaintenanceAnswer())


def entry(**fields: Any) -> CronEntry:
    return CronEntry(**{"kind": Kind.MAINTENANCE, "run": _nothing, "request": Maintenance(), "hour": 3, **fields})


async def accepted(client: QueueClient) -> int:
    return await counter(client, "accepted")


async def test_due_once_for_all_who_notice_and_not_before(client: QueueClient) -> None:
    one, other = Schedule([entry()], client), Schedule([entry()], client)
    for schedule in (one, other):
        await schedule.turn(NOON)
    assert await accepted(client) == 0
    due = NOON + timedelta(hours=15, seconds=1)
    for schedule in (one, other, one):
        await schedule.turn(due)
    assert await accepted(client) == 1
    record = await client.get(f"cron_maintenance_{int(datetime(2026, 3, 30, 3, tzinfo=UTC).timestamp())}")
    assert record is not None
    assert (record.kind, record.state) == (Kind.MAINTENANCE, State.QUEUED)
    await one.turn(due + timedelta(days=1))
    assert await accepted(client) == 2


async def test_clocks_and_time_zones_apart_still_mean_the_same_run(client: QueueClient) -> None:
    one, other = Schedule([entry()], client), Schedule([entry()], client)
    away = timezone(timedelta(hours=9))
    await one.turn(NOON)
    await other.turn((NOON + timedelta(minutes=2)).astimezone(away))
    await one.turn(NOON + timedelta(hours=15, minutes=1))
    await other.turn((NOON + timedelta(hours=15, minutes=3)).astimezone(away))
    assert await accepted(client) == 1


async def test_a_long_sleep_is_made_up_for_once(client: QueueClient) -> None:
    schedule = Schedule([entry()], client)
    await schedule.turn(NOON)
    await schedule.turn(NOON + timedelta(days=9))
    await schedule.turn(NOON + timedelta(days=9, seconds=1))
    assert await accepted(client) == 1


async def test_what_could_not_be_stored_is_tried_again() -> None:
    with RedisServer() as server:
        client = await QueueClient.connect(settings_for(server.url))
        try:
            schedule = Schedule([entry()], client)
            await schedule.turn(NOON)
            server.kill()
            await schedule.turn(NOON + timedelta(hours=15, seconds=1))
            server.start()
            await schedule.turn(NOON + timedelta(hours=15, seconds=9))
            assert await accepted(client) == 1
        finally:
            await client.aclose()


@asynccontextmanager
async def clocked_worker(url: str, worker_id: str, ended: list[str]) -> AsyncIterator[QueueWorker]:
    def note(job: RunningJob, state: str, seconds: float, error: ErrorRecord | None) -> None:
        if state == State.SUCCEEDED:
            ended.append(job.id)

    every_second = entry(hour=None, minute=None, second=frozenset(range(60)))
    async with working(url, _nothing, worker_id=worker_id, cron=[every_second], on_settled=note) as worker:
        yield worker


async def test_three_workers_run_each_turn_once(redis_url: str, wait_until: WaitUntil) -> None:
    ended: list[str] = []
    async with AsyncExitStack() as workers:
        for number in range(3):
            await workers.enter_async_context(clocked_worker(redis_url, f"w{number}", ended))
        await wait_until(lambda: len(ended) >= 3, description="three turns of the clock")
    # Begun twice may be what a worker handed back as it left; only the end of a run is final.
    assert len(ended) == len(set(ended))
    async with Redis.from_url(redis_url, decode_responses=True) as redis:
        known = await redis.zrange("gw:{gw}:tenant:default", 0, -1)
        accepted = int(await redis.hget("gw:{gw}:counters", "accepted") or 0)
    assert set(ended) <= set(known)
    assert accepted == len(known)
