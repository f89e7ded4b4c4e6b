"""The monitor's round: read everything, keep it, hold it against the rules, tell what changed."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence

from monitor.advice import MEANS, Evidence, advise
from monitor.alerts import Alert, AlertState, Book, Rule, evaluate
from monitor.deliver.teller import Look, Teller
from monitor.history import History
from monitor.metrics import MonitorMetrics
from monitor.readings import Snapshot
from monitor.report import Report
from monitor.sampler import Sampler
from monitor.signals import signals
from shared.telemetry.logging import logger

log = logger("monitor")

RECENT = 100
"""Alerts that are over, kept for /alerts."""
ADVICE_OVER_S = 600.0


class Watch:
    """Use `look` once before anything is asked of it, then `run`."""

    def __init__(
        self,
        monitor_id: str,
        sampler: Sampler,
        rules: Sequence[Rule],
        teller: Teller,
        metrics: MonitorMetrics,
        *,
        interval_s: float,
        min_calls: int,
    ) -> None:
        """`min_calls`: with fewer within the window, a model's times and failures count for nothing."""
        self._id = monitor_id
        self._sampler = sampler
        self.rules = rules
        self._teller = teller
        self._metrics = metrics
        self._interval_s = interval_s
        self._min_calls = min_calls
        self.history = History(interval_s)
        self.snapshot = Snapshot(at=time.time())
        self._book: Book = {}
        self._over: deque[Alert] = deque(maxlen=RECENT)

    @property
    def active(self) -> list[Alert]:
        """Alerts that are pending or firing, in the order of the rules."""
        return list(self._book.values())

    @property
    def recent(self) -> list[Alert]:
        """Alerts that are over, the latest first."""
        return list(reversed(self._over))

    def report(self) -> Report:
        since = self.snapshot.at - ADVICE_OVER_S
        # Of several GPUs the first stands for all.
        means = {name: self.history.mean(name, since, "0" if name.startswith("gpu_") else "") for name in MEANS}
        known = {name: mean for name, mean in means.items() if mean is not None}
        evidence = Evidence(snapshot=self.snapshot, means=known, min_calls=self._min_calls)
        return Report(monitor=self._id, snapshot=self.snapshot, alerts=self.active, advice=advise(evidence))

    async def look(self) -> None:
        """One round."""
        snapshot = await self._sampler.sample()
        values = signals(snapshot, min_calls=self._min_calls)
        self.history.record(snapshot.at, values)
        self._book, changed = evaluate(self._book, self.rules, values, snapshot.errors, snapshot.at)
        self._over.extend(alert for alert in changed if alert.state is AlertState.RESOLVED)
        firing = [alert for alert in self._book.values() if alert.state is AlertState.FIRING]
        self._metrics.show(snapshot)
        self._metrics.show_alerts((alert.rule.name, str(alert.rule.severity)) for alert in firing)
        # Last: the page must know of an alert before anyone is told of it.
        self._teller.tell(Look(snapshot.at, changed, firing))
        self.snapshot = snapshot

    async def run(self) -> None:
        """A round every interval, for ever; at once when the one before took longer."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due = max(due + self._interval_s, loop.time())
            await asyncio.sleep(due - loop.time())
            try:
                await self.look()
            except Exception:  # the edge of a loop that must go on
                log.exception("monitor.round_failed")
