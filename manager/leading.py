"""What the leading manager does, round after round: look, decide, order. What is ordered, any manager carries out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from manager.facts import Facts
from manager.inventory import HostInventory
from manager.leader import Term, TermOver
from manager.metrics import ManagerMetrics
from manager.residency import Unload, decide
from manager.settings import ManagerSettings
from manager.snapshot import Snapshot
from shared.background import AWAY
from shared.errors import ArrieroError, BadRequest, OperationConflict
from shared.model_names import same
from shared.operations.orders import Orders
from shared.pins import pack_residents
from shared.queue.keys import Keys
from shared.telemetry.logging import logger
from shared.wire.operations import ModelOperation

log = logger("leading")

BY = "leader"
RETRY_S = 2.0
"""After a round that failed, when the interval is longer."""
REST_S = 600.0
"""For so long nothing is ordered again that has just failed for good: each order is tried several times by itself."""
UNWELL_BELOW = 50.0
"""A score that an operator should hear of."""
RESIDENTS_ROUNDS = 3
"""For how many rounds workers believe that a model is kept in memory."""


class Leading:
    """The work of a leader, for `Leadership.lead`."""

    def __init__(
        self, settings: ManagerSettings, facts: Facts, orders: Orders, keys: Keys, metrics: ManagerMetrics
    ) -> None:
        self._settings = settings
        self._facts = facts
        self._orders = orders
        self._keys = keys
        self._metrics = metrics
        self._unwell: set[str] = set()

    async def work(self, term: Term) -> None:
        """A round every MEMORY_CLEANUP_INTERVAL until the term is over. Raises TermOver."""
        interval_s = self._settings.memory_cleanup_interval
        while not term.is_over:
            pause_s = interval_s
            try:
                await self.turn(term)
                self._metrics.turns.labels("done").inc()
            except (ArrieroError, *AWAY) as error:
                log.warning("leading.round_failed", error=type(error).__name__, reason=str(error))
                self._metrics.turns.labels("failed").inc()
                pause_s = min(RETRY_S, interval_s)
            await asyncio.sleep(pause_s)

    async def turn(self, term: Term) -> None:
        """One round. Raises TermOver, and whatever reading raises."""
        keep_ms = int(RESIDENTS_ROUNDS * max(self._settings.memory_cleanup_interval, RETRY_S) * 1000)
        residents = pack_residents(self._settings.preload_list)
        await term.write("SET", self._keys.residents, residents, "PX", keep_ms)
        snapshot = await self._facts.snapshot()
        await self._watch_health(snapshot)
        for order in (*self._missing(snapshot), *self._residency(snapshot, term.epoch)):
            if await self._orders.has_failed(order, within_s=REST_S, now=snapshot.now):
                continue
            if term.is_over:
                raise TermOver
            try:
                operation = await self._orders.place(order, by=BY)
            except (OperationConflict, BadRequest) as refusal:  # the others are ordered all the same
                log.info("leading.waits", op=order.op, model=order.model, host=order.host, reason=refusal.message)
                continue
            log.info(
                "leading.ordered", operation=operation.record.id, op=order.op, model=order.model, host=order.host,
                reason=order.reason,
            )  # fmt: skip

    async def _watch_health(self, snapshot: Snapshot) -> None:
        """Score every model, and say so when one begins or ceases to be unwell."""
        scores = await self._facts.scores(snapshot.hosts, snapshot.usage)
        self._metrics.models.show_scores({model: health.score for model, health in scores.items()})
        unwell = {model for model, health in scores.items() if health.score < UNWELL_BELOW}
        for model in unwell - self._unwell:
            parts = {part.name: part.detail for part in scores[model].parts if part.value is not None}
            log.warning("model.unwell", model=model, score=scores[model].score, **parts)
        for model in self._unwell - unwell:
            log.info("model.well_again", model=model)
        self._unwell = unwell

    def _missing(self, snapshot: Snapshot) -> Iterator[ModelOperation]:
        if not self._settings.model_pull_missing:
            return
        coming = {(where.model, where.host) for where in snapshot.loading}
        for host in snapshot.hosts:
            for model in missing(self._settings.preload_list, host):
                if (same(model), host.host) not in coming:
                    yield ModelOperation(op="pull", model=model, host=host.host, reason="preload: not installed")

    def _residency(self, snapshot: Snapshot, epoch: int) -> Iterator[ModelOperation]:
        for action in decide(snapshot, self._settings.residency_policy):
            yield ModelOperation(
                op="unload" if isinstance(action, Unload) else "load",
                model=action.model,
                host=action.host,
                reason=f"{action.reason}: {action.detail}",
                epoch=epoch,
            )


def missing(models: Sequence[str], host: HostInventory) -> list[str]:
    """Those of `models` that a host which answers does not have."""
    installed = {same(model.name) for model in host.installed}
    return [] if host.error else [model for model in models if same(model) not in installed]
