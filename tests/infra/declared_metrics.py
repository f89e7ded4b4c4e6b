"""Every metric that the four services declare."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from prometheus_client import Metric
from prometheus_client.metrics import MetricWrapperBase

from gateway.metrics import QUEUE_ROWS, GatewayMetrics
from manager.metrics import ManagerMetrics
from monitor.metrics import ROWS, MonitorMetrics
from monitor.rules import rules
from monitor.sampler import COLLECTORS
from monitor.settings import MonitorSettings
from shared.telemetry.metrics import Metrics
from shared.telemetry.tallies import Tally, Timings
from shared.usage.figures import ModelUsage, OperationUsage
from tests.monitor.snapshots import gpu, snapshot
from worker.metrics import WorkerMetrics

PROCESS = "process_"
"""Every process has those of prometheus_client; their names are fixed."""
_SUFFIXES = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_count", "_sum"),
}


@dataclass(frozen=True, slots=True)
class Declared:
    """One metric of one service. `name` is that of its samples, without a histogram's suffixes."""

    service: str
    name: str
    type: str
    help: str

    @property
    def samples(self) -> tuple[str, ...]:
        return tuple(self.name.removesuffix("_total") + suffix for suffix in _SUFFIXES[self.type])


def services() -> dict[str, Metrics]:
    """The metrics of each service, as it makes them."""
    monitor = MonitorMetrics(COLLECTORS, [(rule.name, str(rule.severity)) for rule in rules(MonitorSettings())])
    usage = ModelUsage(model="m", host="a:1", operations={"chat": OperationUsage(calls=1)})
    monitor.show(snapshot(gpus=[gpu()], usage=[usage]))
    return {"gateway": GatewayMetrics(), "worker": WorkerMetrics("w1"), "manager": ManagerMetrics(), "monitor": monitor}


def declared() -> list[Declared]:
    return [
        Declared(service, _name(family), family.type, family.documentation)
        for service, metrics in services().items()
        for family in metrics.registry.collect()
    ]


def _name(family: Metric) -> str:
    return family.name + ("_total" if family.type == "counter" else "")


def sample_names() -> set[str]:
    """What a scrape of all four can bring."""
    return {sample for metric in declared() for sample in metric.samples}


def labels() -> set[str]:
    """All names of labels that are declared."""
    found = {name for _, names in countable() for name in names}
    found |= {row.label for row in QUEUE_ROWS if row.label} | {name for row in ROWS for name in row.labels}
    for metrics in services().values():
        for family in metrics.registry.collect():
            found |= {name for sample in family.samples for name in sample.labels}
    return found


def countable() -> Iterator[tuple[str, Sequence[str]]]:
    """Service and attribute of each metric that its code sets one by one, and the names of its labels."""
    for service, metrics in services().items():
        for attribute, metric in vars(metrics).items():
            if isinstance(metric, MetricWrapperBase):
                yield f"{service}.{attribute}", metric._labelnames
            elif isinstance(metric, Tally | Timings):
                yield f"{service}.{attribute}", metric.labels
