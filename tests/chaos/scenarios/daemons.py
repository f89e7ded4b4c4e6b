"""F28: managers are killed in the middle of downloads, monitors too, and at last there are none."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import aiohttp

from shared.queue.keys import Keys
from shared.wire.codec import decode_progress
from tests.chaos.campaign import Campaign, bench
from tests.chaos.checker import check, read_record
from tests.chaos.client import Sent, ask
from tests.chaos.outcome import Outcome
from tests.chaos.stack import Daemon, Stack, until

KILLS = 4
WITHOUT_DAEMONS = 40
DOWNLOAD_S = 6.0
KILL_AT_PERCENT = 20.0
TAKEOVER_WITHIN_S = 15.0
LOOK_EVERY_S = 0.1
OPERATIONS = Keys("gw-models")


class Leaders:
    """Asks every manager again and again whether it leads. Use as an async context manager."""

    def __init__(self, stack: Stack, managers: list[Daemon]) -> None:
        self._stack = stack
        self._managers = managers
        self.looks = 0
        self.doubles = 0
        """Looks at which more than one said so."""
        self.current: Daemon | None = None

    async def __aenter__(self) -> Leaders:
        self._looking = asyncio.create_task(self._look())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._looking.cancel()
        await asyncio.gather(self._looking, return_exceptions=True)

    def somebody_but(self, gone: Daemon | None) -> Callable[[], Awaitable[bool]]:
        async def found() -> bool:
            return self.current is not None and self.current is not gone

        return found

    async def _look(self) -> None:
        while True:
            running = [manager for manager in self._managers if manager.process.is_running]
            leading = [
                m for m, yes in zip(running, await asyncio.gather(*map(self._leads, running)), strict=True) if yes
            ]
            self.looks += 1
            self.doubles += len(leading) > 1
            self.current = leading[0] if leading else None
            await asyncio.sleep(LOOK_EVERY_S)

    async def _leads(self, manager: Daemon) -> bool:
        try:
            async with self._stack.http.get(manager.url + "/leader") as response:
                return response.status == 200 and bool((await response.json())["is_me"])
        except aiohttp.ClientError:
            return False


async def run(campaign: Campaign) -> Outcome:
    outcome = Outcome("F28", "kill -9 of managers mid-download and of the leader; then no daemons")
    kills = campaign.size(KILLS, 1)
    options = ("--pull-seconds", str(DOWNLOAD_S / 10))  # ten times that for the models pulled here
    async with bench(campaign, "F28", simulator_options=options) as b:
        stack = b.stack
        gateway, *_ = await asyncio.gather(stack.start_gateway(), stack.start_workers(2))
        managers = list(await asyncio.gather(*(_manager(stack) for _ in range(2))))
        monitors = list(await asyncio.gather(*(stack.start_daemon("monitor") for _ in range(2))))
        takeovers: list[float] = []
        resumed = finished = 0
        async with Leaders(stack, managers) as leaders, b.load(campaign.size(20, 8)):
            await until(leaders.somebody_but(None), 20.0, "a manager leads")
            for number in range(kills):
                campaign.say(f"download {number + 1} of {kills}, its manager about to die")
                at_kill = await _kill_mid_download(stack, managers, f"slow-{number}")
                leader, killed_at = leaders.current, time.monotonic()
                if leader is not None and leader.process.is_running:
                    leader.process.kill()  # the download was the other one's; now neither is left
                managers += await asyncio.gather(*(_manager(stack) for _ in range(2 - _running(managers))))
                await until(leaders.somebody_but(leader), 40.0, "a new leader")
                takeovers.append(time.monotonic() - killed_at)
                ended, again_from = await _ended(stack, managers[-1], f"slow-{number}")
                finished += ended
                resumed += again_from >= at_kill
            deleted = await _delete_twice(stack, managers, [f"slow-{number}" for number in range(kills)])
            monitors[0].process.kill()
            answers = await _status(stack, monitors[1].url + "/health/ready")
        for daemon in (*managers, *monitors):
            if daemon.process.is_running:
                daemon.process.kill()
        campaign.say("no manager and no monitor left")
        alone = [Sent(form="job", prompt=f"F28 alone {n} about rivers [tokens=20]") for n in range(WITHOUT_DAEMONS)]
        b.sent += alone
        await asyncio.gather(*(ask(stack.http, gateway.url, one) for one in alone))
        report = await check(stack, b.sent, b.sampler, b.oracle, gateway_url=gateway.url)
    outcome.add("downloads finished by another manager", kills, finished, str(kills), finished == kills)
    outcome.add("went on where they stopped", kills, resumed, str(kills), resumed == kills)
    outcome.within("a new leader, slowest", len(takeovers), max(takeovers, default=0.0), TAKEOVER_WITHIN_S)
    outcome.none("looks that saw two leaders", leaders.looks, leaders.doubles)
    twice = sum(count > 1 for count in deleted.values())
    outcome.add("models deleted, asked twice at once", kills, len(deleted), str(kills), len(deleted) == kills)
    outcome.none("deleted twice", kills, twice)
    outcome.add("the other monitor answers", 1, answers, "200", answers == 200)
    succeeded = sum(report.records[one.job_id].state == "succeeded" for one in alone if one.job_id in report.records)
    outcome.add("jobs served without any daemon", len(alone), succeeded, str(len(alone)), succeeded == len(alone))
    outcome.add_report(report)
    return outcome


def _running(managers: Sequence[Daemon]) -> int:
    return sum(manager.process.is_running for manager in managers)


async def _manager(stack: Stack) -> Daemon:
    return await stack.start_daemon("manager", MEMORY_CLEANUP_INTERVAL="2")


async def _call(stack: Stack, manager: Daemon, path: str, body: dict[str, Any]) -> dict[str, Any]:
    async with stack.http.post(manager.url + path, json=body) as response:
        answer: dict[str, Any] = await response.json()
        return answer


async def _status(stack: Stack, url: str) -> int:
    async with stack.http.get(url) as response:
        return response.status


async def _operation(stack: Stack, manager: Daemon, operation_id: str) -> dict[str, Any]:
    async with stack.http.get(f"{manager.url}/models/operations/{operation_id}") as response:
        answer: dict[str, Any] = await response.json()
        return answer


def _alive(managers: Sequence[Daemon]) -> Daemon:
    return next(manager for manager in managers if manager.process.is_running)


async def _kill_mid_download(stack: Stack, managers: Sequence[Daemon], model: str) -> int:
    """Kill the manager that downloads. The bytes it had told of by then."""
    manager = _alive(managers)
    operation = await _call(stack, manager, "/models/pull", {"model": model})
    seen = operation

    async def far_enough() -> bool:
        nonlocal seen
        seen = await _operation(stack, manager, operation["id"])
        return bool((seen["progress"]["percent"] or 0.0) >= KILL_AT_PERCENT)

    await until(far_enough, 40.0, "some of the download")
    fields = await stack.redis.hgetall(OPERATIONS.record(operation["id"]))  # type: ignore[misc]  # redis-py 5
    pid = int(read_record(operation["id"], fields).attempts[-1][0].rsplit(".", 2)[1])
    [runs_it] = [manager for manager in managers if manager.process.pid == pid]
    runs_it.process.kill()
    return int(seen["progress"]["completed"])


async def _ended(stack: Stack, manager: Daemon, model: str) -> tuple[bool, int]:
    """(whether another run finished the download, the bytes that run found there at its beginning)."""
    # The same order again is the same operation, as long as it has not ended.
    operation = await _call(stack, manager, "/models/pull", {"model": model})

    async def over() -> bool:
        return (await _operation(stack, manager, operation["id"]))["finished_at"] is not None

    await until(over, 60.0, "the end of the download")
    ended = await _operation(stack, manager, operation["id"])

    log = await stack.redis.xrange(OPERATIONS.events(operation["id"]), "2-0", "2-9")
    chunks = [step for _, fields in log if b"d" in fields for step in decode_progress(fields[b"d"])]
    sizes = [step.completed_bytes for step in chunks if step.total_bytes]
    return ended["status"] == "succeeded" and ended["attempts"] == 2, sizes[0] if sizes else 0


async def _delete_twice(stack: Stack, managers: Sequence[Daemon], models: Sequence[str]) -> Counter[str]:
    """Ask two managers at once to delete each model. How often the model server was asked, by model."""
    alive = [manager for manager in managers if manager.process.is_running][:2]
    for model in models:
        answers = await asyncio.gather(*(_call(stack, m, "/models/delete", {"model": model}) for m in alive))

        async def over(ids: frozenset[str] = frozenset(answer["id"] for answer in answers if "id" in answer)) -> bool:
            seen = [await _operation(stack, alive[0], one) for one in ids]
            return all(one["finished_at"] is not None for one in seen)

        await until(over, 20.0, "the deletions")
    async with stack.http.get(stack.simulator_url + "/_sim/calls", params={"path": "/api/delete"}) as response:
        calls = (await response.json())["calls"]
    return Counter(call["model"] for call in calls if call["event"] == "call")
