"""The model manager's metrics."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Gauge

from manager.inventory import HostInventory
from shared.telemetry.metrics import Metrics


class ManagerMetrics(Metrics):
    """Models by host. Hosts come from the configuration, so the label's values are few."""

    def __init__(self) -> None:
        super().__init__()
        r = self.registry
        self.host_up = Gauge(
            "arriero_manager_host_up", "1 while the model server answers, else 0.", ["host"], registry=r
        )
        self.installed = Gauge("arriero_manager_models_installed", "Models on the host's disk.", ["host"], registry=r)
        self.loaded = Gauge("arriero_manager_models_loaded", "Models in the host's memory.", ["host"], registry=r)
        self.loaded_bytes = Gauge(
            "arriero_manager_models_loaded_bytes", "Memory that loaded models take, bytes.", ["host"], registry=r
        )

    def update(self, hosts: Iterable[HostInventory]) -> None:
        for host in hosts:
            self.host_up.labels(host.host).set(0 if host.error else 1)
            self.installed.labels(host.host).set(len(host.installed))
            self.loaded.labels(host.host).set(len(host.loaded))
            self.loaded_bytes.labels(host.host).set(sum(model.size_bytes for model in host.loaded))
