"""Carrying out: what is looked at once more, what is tried again, what a leader of the past may not do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from infra.simulator import Simulator
from infra.simulator.faults import Fault, Match
from manager.answers import operation_body
from manager.app import Manager
from manager.maintenance import Maintenance
from manager.settings import ManagerSettings
from shared.jobs import Kind, NewJob, State
from shared.operations.orders import TENANT
from shared.usage.fields import Call
from shared.usage.recorder import UsageRecorder
from shared.wire.canonical import ChatRequest, Message
from shared.wire.operations import Maintenance as MaintenanceOrder
from shared.wire.operations import ModelOperation
from tests.conftest import WaitUntil
from tests.manager.programs import ManagerProgram, simulator

Settings = Callable[..., ManagerSettings]


@pytest.fixture
def settings(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)  # no .env there
    return lambda *hosts, **fields: ManagerSettings(
        redis_url=redis_url, ollama_base_urls=[host.url for host in hosts], **fields
    )


class Started(Manager):
    """A manager that never leads, and carries nothing out before it is told to `begin`."""

    _working: asyncio.Task[None] | None = None

    def begin(self) -> None:
        self._working = asyncio.create_task(self.engine.async_run())

    async def stop(self) -> None:
        await self.engine.close()
        if self._working is not None:
            with suppress(asyncio.CancelledError):
                await self._working
        for client in (self.jobs, self.queue):
            await client.aclose()
        for backend in self.backends:
            await backend.aclose()


@asynccontextmanager
async def started(settings: ManagerSettings) -> AsyncIterator[Started]:
    manager = Started(settings)
    try:
        yield manager
    finally:
        await manager.stop()


async def carried_out(manager: Manager, operation_id: str) -> dict[str, Any]:
    while True:
        operation = await manager.orders.wait(operation_id, 10)
        if operation.record.state.is_terminal:
            return operation_body(operation)


def in_memory(server: Simulator) -> set[str]:
    return {runner.model.shown for runner in server.scheduler.loaded()}


async def job_for(manager: Manager, model: str) -> str:
    request = ChatRequest(model=model, messages=[Message(role="user", content="hi")])
    return (await manager.jobs.enqueue(NewJob(kind=Kind.CHAT, model=model, request=request))).id


@pytest.mark.parametrize("op", ["unload", "delete"])
async def test_a_model_that_came_into_use_after_the_order_stays(settings: Settings, op: Any) -> None:
    async with simulator() as server, started(settings(server)) as manager:
        await manager.backends[0].load("phi3")
        placed = await manager.orders.place(ModelOperation(op=op, model="phi3"), by="t")
        job_id = await job_for(manager, "phi3:latest")
        manager.begin()
        ended = await carried_out(manager, placed.record.id)
        [host] = ended["result"]["hosts"]
        assert (host["outcome"], host["reason"]) == ("skipped", "1 of its jobs wait or run")
        assert in_memory(server) == {"phi3:latest"}
        assert "phi3:latest" in {model.shown for model in server.catalogue.all()}
        await manager.jobs.cancel(job_id)


async def test_what_a_former_leader_decided_is_not_done(settings: Settings) -> None:
    async with simulator() as server, started(settings(server)) as manager:
        await manager.backends[0].load("phi3")
        await manager.leadership.attempt()
        epoch = manager.leadership.epoch
        stale = ModelOperation(op="unload", model="phi3", epoch=epoch - 1)
        placed = await manager.orders.place(stale, by="leader")
        manager.begin()
        ended = await carried_out(manager, placed.record.id)
        assert ended["result"]["hosts"][0]["reason"] == "decided by a manager that no longer leads"
        assert in_memory(server) == {"phi3:latest"}
        fresh = await manager.orders.place(ModelOperation(op="unload", model="phi3", epoch=epoch), by="leader")
        assert (await carried_out(manager, fresh.record.id))["result"]["hosts"][0]["outcome"] == "done"
        await manager.leadership.stop()


@pytest.mark.req("S4-37")
async def test_a_download_that_breaks_off_is_tried_again(settings: Settings) -> None:
    async with simulator(pull_seconds=0.5) as server, started(settings(server)) as manager:
        server.faults.add(Fault(kind="cut", after_tokens=3, count=1, match=Match(path="/api/pull")))
        placed = await manager.orders.place(ModelOperation(op="pull", model="gemma2"), by="t")
        manager.begin()
        ended = await carried_out(manager, placed.record.id)
        assert (ended["status"], ended["attempts"]) == ("succeeded", 2)


async def test_one_host_of_two_is_enough_and_the_other_is_named(settings: Settings) -> None:
    async with simulator() as good, simulator() as bad, started(settings(good, bad)) as manager:
        bad.faults.add(Fault(kind="status", status=400, count=None, match=Match(path="/api/[ge]*")))
        placed = await manager.orders.place(ModelOperation(op="load", model="phi3"), by="t")
        manager.begin()
        ended = await carried_out(manager, placed.record.id)
        outcomes = [(host["outcome"], bool(host["reason"])) for host in ended["result"]["hosts"]]
        assert outcomes == [("done", False), ("failed", True)]
        assert in_memory(good) == {"phi3:latest"}


@pytest.mark.req("S1-41", "S1-44", "S2-41")
async def test_the_daily_maintenance_does_what_is_switched_on(settings: Settings, wait_until: WaitUntil) -> None:
    on = {"model_auto_update": True, "model_auto_cleanup": True, "model_preload_list": ["phi3"]}
    async with (
        simulator(models=("phi3", "mistral"), pull_seconds=0.1) as server,
        started(settings(server, **on)) as manager,
    ):
        maintenance = Maintenance(manager.settings, manager.facts, manager.orders)
        updates = await maintenance.update("clock")
        assert len(updates) == 2
        manager.begin()
        for operation_id in updates:
            assert (await carried_out(manager, operation_id))["result"]["hosts"][0]["outcome"] == "unchanged"
        await manager.queue.enqueue(
            NewJob(id="cron_x", kind=Kind.MAINTENANCE, model="", request=MaintenanceOrder(), tenant=TENANT)
        )

        async def ran() -> bool:
            record = await manager.queue.get("cron_x")
            return record is not None and record.state is State.SUCCEEDED

        await wait_until(ran, description="the maintenance run")
        await wait_until(lambda: in_memory(server) == {"phi3:latest"}, description="the preload list in memory")
        asked = {operation.op for operation in await manager.orders.list()}
        assert asked == {"update", "load"}  # nothing to delete: no use has been recorded yet


@pytest.mark.req("S1-35", "S1-37", "S1-43")
async def test_a_model_is_scored_by_its_hosts_and_its_recent_calls(settings: Settings) -> None:
    async with simulator() as good, simulator() as bad, started(settings(good, bad)) as manager:
        facts = manager.facts

        async def parts() -> dict[str, float | None]:
            scores = await facts.scores(await facts.hosts(), await facts.usage())
            return {part.name: part.value for part in scores["phi3"].parts}

        before = await parts()
        assert (before["availability"], before["errors"]) == (1.0, None)
        bad.faults.add(Fault(kind="refuse", count=None, match=Match(path="*")))
        recorder = UsageRecorder(manager.jobs.redis, manager.jobs.keys)
        for error in ("", "model_fault", "", "model_fault", "", "", "", "", "", ""):
            recorder.record("phi3:latest", manager.backends[0].name, Call(kind="chat", seconds=0.5, error=error))
        await recorder.flush()
        after = await parts()
        assert after["availability"] == 0.5
        assert after["errors"] == pytest.approx(1 - (2 / 10) / 0.5)
        assert (await facts.scores(await facts.hosts(), await facts.usage()))["phi3"].score < 100


async def test_a_manager_that_leaves_hands_its_download_over_at_no_cost(
    redis_url: str, tmp_path: Path, wait_until: WaitUntil
) -> None:
    async with (
        simulator(pull_seconds=0.3) as server,
        ManagerProgram(tmp_path / "a", redis_url, server.url) as first,
    ):
        ordered = (await first.order("/models/pull", model="slow-coder"))["id"]

        async def begun() -> bool:
            return bool((await first.read(f"/models/operations/{ordered}"))["progress"]["percent"])

        await wait_until(begun, 10.0, description="the download has begun")
        async with ManagerProgram(tmp_path / "b", redis_url, server.url) as second:
            first.stop()
            ended = await second.ended(ordered)
            assert (ended["status"], ended["attempts"]) == ("succeeded", 2)
            await wait_until(second.leads, 5.0, description="a leader that leaves is followed at once")


async def test_an_operation_that_finds_no_host_to_be_done_on_fails(settings: Settings) -> None:
    """A gateway that knows an Ollama may have ordered it."""
    off = {"ollama_enabled": False, "services": {"jan": {}}}
    async with simulator() as server, started(settings(server)) as other, started(settings(server, **off)) as manager:
        placed = await other.orders.place(ModelOperation(op="load", model="phi3"), by="t")
        manager.begin()
        ended = await carried_out(other, placed.record.id)
    assert (ended["status"], ended["error"]["code"]) == ("dead_lettered", "service_unavailable")
