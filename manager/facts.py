"""What the managers know: hosts, use, jobs, pins, operations, each read when it is needed.

A manager keeps only what looking once cannot tell: when models came and went, and the figures of a while ago.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from manager.inventory import HostInventory, ask_hosts
from manager.memory import machine_memory_bytes, memory_limits
from manager.scoring import Evidence, HealthScore, health_score
from manager.settings import ManagerSettings
from manager.snapshot import Busy, Place, Sightings, Snapshot, place
from shared.backends.base import Backend
from shared.backends.ollama_requests import KeepAlive
from shared.model_names import same
from shared.operations.orders import Operation, Orders
from shared.pins import FOR_EVER_S, Pins
from shared.queue.client import ANSWER_WITHIN_S, QueueClient
from shared.queue.connection import within
from shared.resilience.breaker import BreakerState
from shared.resilience.circuit_admin import CircuitAdmin
from shared.resilience.circuits import split_name
from shared.usage.figures import ModelUsage, by_model, difference
from shared.usage.reader import UsageReader
from shared.usage.window import Window

RECENT_S = 900.0
"""What counts as recent in a model's score."""
_BRINGING = frozenset({"pull", "update", "load"})


class Facts:
    """Calls raise QueueUnavailable while Redis is away; a host that is away is part of the answer."""

    def __init__(
        self, settings: ManagerSettings, backends: Sequence[Backend], queue: QueueClient, orders: Orders
    ) -> None:
        self._settings = settings
        self._backends = backends
        self._queue = queue
        self._orders = orders
        self._usage = UsageReader(queue.redis, queue.keys)
        self._circuits = CircuitAdmin(queue.redis, queue.keys)
        self.pins = Pins(queue.redis, queue.keys)
        self._sightings = Sightings()
        self._installed: dict[str, set[str]] = {}
        self._lately: Window[Sequence[ModelUsage]] = Window(RECENT_S)

    # -- readings ---------------------------------------------------------------------------------------------------

    async def hosts(self) -> list[HostInventory]:
        """What every model server has, now."""
        hosts = await ask_hosts(self._backends, self._settings.healthcheck_timeout)
        for host in hosts:
            if not host.error:
                self._installed[host.host] = {same(model.name) for model in host.installed}
        return hosts

    async def usage(self) -> list[ModelUsage]:
        """What was used, since recording began."""
        return await within(ANSWER_WITHIN_S, self._usage.read)

    async def used_since(self) -> float | None:
        return await within(ANSWER_WITHIN_S, self._usage.since)

    async def pinned(self) -> frozenset[str]:
        return await within(ANSWER_WITHIN_S, self.pins.read)

    async def busy(self) -> Busy:
        unfinished, calls = await asyncio.gather(self._queue.unfinished_by_model(), self._queue.calls_by_model())
        return Busy(unfinished=unfinished, calls=calls)

    async def now(self) -> float:
        """Unix seconds by Redis' clock."""
        seconds, micros = await within(ANSWER_WITHIN_S, self._queue.redis.time)
        return float(seconds) + float(micros) / 1e6

    async def snapshot(self) -> Snapshot:
        """One moment, for the decisions."""
        hosts = await self.hosts()
        now, usage, operations = await asyncio.gather(self.now(), self.usage(), self._orders.under_way())
        here_bytes = await asyncio.to_thread(machine_memory_bytes)
        self._sightings = self._sightings.after(hosts, now)
        names = [host.host for host in hosts]
        return Snapshot(
            now=now,
            hosts=hosts,
            usage=usage,
            busy=await self.busy(),
            pins=await self.pinned(),
            limits=memory_limits(names, self._settings.model_memory_limit, here_bytes),
            loading=_places(operations, names),
            sightings=self._sightings,
        )

    # -- scores -----------------------------------------------------------------------------------------------------

    async def scores(self, hosts: Sequence[HostInventory], usage: Sequence[ModelUsage]) -> Mapping[str, HealthScore]:
        """How well each model serves, by name as `shared.model_names.same` has it."""
        now, circuits = await asyncio.gather(self.now(), self._circuits.circuits())
        recent, usual = self._compare(now, usage)
        total = by_model(usage)
        closed_off = [split_name(view.name) for view in circuits if view.state == BreakerState.OPEN]

        def serves(host: HostInventory, model: str) -> bool:
            off = any(where == host.host and _concerns(what, model) for what, where in closed_off)
            return not host.error and model in self._installed.get(host.host, ()) and not off

        found = {}
        for model in sorted(set(total) | {name for names in self._installed.values() for name in names}):
            used_at = total[model].last_used_at if model in total else 0.0
            found[model] = health_score(
                Evidence(
                    hosts=sum(model in names for names in self._installed.values()),
                    serving=sum(serves(host, model) for host in hosts),
                    recent=recent.get(model),
                    usual=usual.get(model),
                    unused_s=max(0.0, now - used_at) if used_at else None,
                    stale_after_s=self._settings.model_cleanup_after,
                )
            )
        return found

    def _compare(self, now: float, usage: Sequence[ModelUsage]) -> tuple[dict[str, ModelUsage], dict[str, ModelUsage]]:
        """(recent, usual) by model: what came since the reading of a while ago, and what that reading had."""
        compared = self._lately.compare(now, usage)
        before = usage if compared is None else compared[1]
        return by_model(difference(usage, before)), by_model(before)

    # -- who needs a model (manager.operations.Users) ---------------------------------------------------------------

    async def why_kept(self, model: str, host: str) -> str:
        """Why the model must stay where it is; empty when nobody needs it there."""
        where = place(model, host)
        if where.model in await self.pinned():
            return "pinned"
        busy = await self.busy()
        if not busy.is_busy(where):
            return ""
        jobs = max(busy.unfinished.get(where.model, 0), busy.calls.get((where.model, host), 0))
        return f"{jobs} of its jobs wait or run"

    async def is_current(self, epoch: int) -> bool:
        """Whether the leader of that term still leads."""
        latest = await within(ANSWER_WITHIN_S, lambda: self._queue.redis.get(self._queue.keys.leader_epoch))
        return int(latest or 0) == epoch

    async def keep_alive(self, model: str) -> KeepAlive:
        """How long the model is to stay in memory, as the workers have it."""
        kept = await self.pinned() | {same(name) for name in self._settings.preload_list}
        return FOR_EVER_S if same(model) in kept else self._settings.model_unload_timeout


def _places(operations: Sequence[Operation], hosts: Sequence[str]) -> frozenset[Place]:
    """Where operations are bringing models to."""
    return frozenset(
        place(operation.record.model, host)
        for operation in operations
        if operation.op in _BRINGING
        for host in ([operation.host] if operation.host else hosts)
    )


def _concerns(circuit: str, model: str) -> bool:
    """`circuit` is `host` or `chat:llama3.2`."""
    return circuit == "host" or same(circuit.partition(":")[2]) == model
