"""What comes by the clock, once for all managers: newer versions, a clean-up, and what is to be in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from manager.cleanup import CleanupPlan, plan_cleanup
from manager.facts import Facts
from manager.inventory import HostInventory
from manager.settings import ManagerSettings
from shared.errors import ArrieroError
from shared.model_names import is_allowed, same
from shared.operations.orders import Orders
from shared.queue.running import RunningJob
from shared.telemetry.logging import logger
from shared.wire.codec import encode
from shared.wire.operations import MaintenanceAnswer, ModelOperation

log = logger("maintenance")

BY = "clock"


class Maintenance:
    """The job function of `maintenance`, and its tasks one by one, for whoever asks for one."""

    def __init__(self, settings: ManagerSettings, facts: Facts, orders: Orders) -> None:
        self._settings = settings
        self._facts = facts
        self._orders = orders

    async def run(self, ctx: dict[str, Any], job: RunningJob) -> bytes:
        """Whatever is switched on. May be run again: what is under way already is found so."""
        tasks: dict[str, Callable[[str], Awaitable[Sequence[str]]]] = {}
        if self._settings.model_auto_update:
            tasks["update"] = self.update
        if self._settings.model_auto_cleanup:
            tasks["cleanup"] = self._clean_up
        tasks["preload"] = self.preload
        started = {name: list(await task(BY)) for name, task in tasks.items()}
        log.info("maintenance.ordered", **{name: len(ids) for name, ids in started.items()})
        return encode(MaintenanceAnswer(started=started))

    async def update(self, by: str) -> Sequence[str]:
        """Ask for newer versions of every model, where it is installed. Ids of the operations."""
        names = _installed(await self._facts.hosts())
        wanted = [name for name in names if is_allowed(name, self._settings.allowed_models)]
        return await self._place_all([ModelOperation(op="update", model=name) for name in wanted], by)

    async def preload(self, by: str, models: Sequence[str] | None = None) -> Sequence[str]:
        """Load `models`, or MODEL_PRELOAD_LIST, on every host that has them. Ids of the operations."""
        there = {same(name) for name in _installed(await self._facts.hosts())}
        names = self._settings.model_preload_list if models is None else models
        orders = [ModelOperation(op="load", model=name, reason="preload") for name in names if same(name) in there]
        return await self._place_all(orders, by)

    async def keep(self, model: str, by: str) -> Sequence[str]:
        """Have `model` stay wherever it is in memory now. Ids of the operations."""
        hosts = [h.host for h in await self._facts.hosts() if same(model) in {same(m.name) for m in h.loaded}]
        orders = [ModelOperation(op="load", model=model, host=host, reason="pinned") for host in hosts]
        return await self._place_all(orders, by)

    async def plan(self) -> CleanupPlan:
        """What a clean-up would delete now, and what it keeps."""
        snapshot, since = await self._facts.snapshot(), await self._facts.used_since()
        return plan_cleanup(snapshot, self._settings.cleanup_policy, recorded_since=since)

    async def carry_out(self, plan: CleanupPlan, by: str) -> Sequence[str]:
        """Order what the plan removes. Ids of the operations; each looks again for users before it deletes."""
        orders = [
            ModelOperation(op="delete", model=removal.model, host=removal.host, reason=f"clean-up: {removal.reason}")
            for removal in plan.remove
        ]
        return await self._place_all(orders, by)

    async def _clean_up(self, by: str) -> Sequence[str]:
        return await self.carry_out(await self.plan(), by)

    async def _place_all(self, orders: Iterable[ModelOperation], by: str) -> Sequence[str]:
        placed = []
        for order in orders:
            try:
                placed.append((await self._orders.place(order, by=by)).record.id)
            except ArrieroError as error:  # such as one that is at work on it already: the others go on
                log.warning("maintenance.not_ordered", op=order.op, model=order.model, reason=error.message)
        return placed


def _installed(hosts: Iterable[HostInventory]) -> list[str]:
    """Names as the servers spell them, each once."""
    return sorted({same(model.name): model.name for host in hosts for model in host.installed}.values())
