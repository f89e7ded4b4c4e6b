"""The model manager's metrics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import get_args

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily

from manager.inventory import HostInventory
from shared.telemetry.labels import BoundedLabel
from shared.telemetry.metrics import Metrics
from shared.wire.operations import OperationName

LOAD_BUCKETS_S = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
"""Of an operation: an unload takes no time, a download an hour."""


class ModelFacts:
    """What is known of each model now, as gauges. The whole set is replaced at once: a model that is gone leaves no
    sample behind."""

    def __init__(self, model_label: BoundedLabel) -> None:
        self._label = model_label
        self._loaded_bytes: dict[tuple[str, str], float] = {}
        self._scores: dict[str, float] = {}

    def show_hosts(self, hosts: Iterable[HostInventory]) -> None:
        loaded: dict[tuple[str, str], float] = {}
        for host in hosts:
            for model in host.loaded:
                key = host.host, self._label(model.name)
                loaded[key] = loaded.get(key, 0.0) + model.size_bytes
        self._loaded_bytes = loaded

    def show_scores(self, scores: Mapping[str, float]) -> None:
        """Score by model. Models that share the label `other` show the worst of theirs."""
        shown: dict[str, float] = {}
        for model, score in scores.items():
            label = self._label(model)
            shown[label] = min(score, shown.get(label, score))
        self._scores = shown

    def collect(self) -> Iterator[GaugeMetricFamily]:
        loaded = GaugeMetricFamily(
            "arriero_manager_model_loaded_bytes",
            "Memory that a loaded model takes on a host, bytes.",
            labels=["host", "model"],
        )
        for place, size in self._loaded_bytes.items():
            loaded.add_metric(place, size)
        yield loaded
        scores = GaugeMetricFamily(
            "arriero_manager_model_score", "Health score of a model, 0 (bad) to 100 (good).", labels=["model"]
        )
        for model, score in self._scores.items():
            scores.add_metric([model], score)
        yield scores


class ManagerMetrics(Metrics):
    """Models, hosts and operations. Hosts come from the configuration, so the label's values are few; models are
    bounded."""

    def __init__(self) -> None:
        super().__init__()
        r = self.registry
        self.leader = Gauge(
            "arriero_manager_leader", "1 while this manager decides for all of them, else 0.", registry=r
        )
        self.host_up = Gauge(
            "arriero_manager_host_up", "1 while the model server answers, else 0.", ["host"], registry=r
        )
        self.installed = Gauge("arriero_manager_models_installed", "Models on the host's disk.", ["host"], registry=r)
        self.loaded = Gauge("arriero_manager_models_loaded", "Models in the host's memory.", ["host"], registry=r)
        self.loaded_bytes = Gauge(
            "arriero_manager_models_loaded_bytes", "Memory that loaded models take, bytes.", ["host"], registry=r
        )
        self.models = ModelFacts(self.model_label)
        r.register(self.models)
        self.operations = Counter(
            "arriero_manager_operations_total",
            "Runs of model operations by this manager, by how they ended.",
            ["op", "outcome"],
            registry=r,
        )
        self.operation_seconds = Histogram(
            "arriero_manager_operation_seconds",
            "Seconds one run of a model operation took.",
            ["op"],
            buckets=LOAD_BUCKETS_S,
            registry=r,
        )
        # Rare as operations are, their first must show as an increase.
        for op in get_args(OperationName):
            self.operation_seconds.labels(op)
        self.pull_bytes = Counter(
            "arriero_manager_pull_bytes_total", "Bytes of models downloaded by this manager's operations.", registry=r
        )
        self.turns = Counter(
            "arriero_manager_turns_total", "Turns of the leader's loop, by how they ended.", ["outcome"], registry=r
        )

    def update(self, hosts: Iterable[HostInventory]) -> None:
        """Show what the hosts say. One that does not answer has nothing that could be used."""
        known = list(hosts)
        for host in known:
            self.host_up.labels(host.host).set(0 if host.error else 1)
            self.installed.labels(host.host).set(len(host.installed))
            self.loaded.labels(host.host).set(len(host.loaded))
            self.loaded_bytes.labels(host.host).set(sum(model.size_bytes for model in host.loaded))
        self.models.show_hosts(known)
