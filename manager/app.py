"""The model manager's composition root: its backends, its pages, its life."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict

from manager.inventory import HostInventory, ask_hosts, by_model
from manager.metrics import ManagerMetrics
from manager.settings import ManagerSettings
from shared.backends.base import Backend
from shared.backends.ollama import OllamaBackend
from shared.lifecycle import StopSignal
from shared.status_server import HEALTHY, StatusServer, now_rfc3339
from shared.telemetry.logging import configure_logging


class Manager:
    """Asks the model servers when it is asked; what they say is never older than the question."""

    def __init__(self, backends: Sequence[Backend], probe_timeout_s: float) -> None:
        self._backends = backends
        self._probe_timeout_s = probe_timeout_s
        self.metrics = ManagerMetrics()

    async def readiness(self) -> dict[str, str]:
        """Ready while at least one model server answers: the others' errors are for /models to show."""
        hosts = await self._ask()
        if any(not host.error for host in hosts):
            return {"ollama": HEALTHY}
        return {"ollama": "; ".join(f"{host.host}: {host.error}" for host in hosts) or "no host is configured"}

    async def refresh(self) -> None:
        self.metrics.update(await self._ask())

    async def models(self) -> dict[str, object]:
        hosts = await self._ask()
        return {
            "timestamp": now_rfc3339(),
            "models": [asdict(model) for model in by_model(hosts)],
            "hosts": [asdict(host) for host in hosts],
        }

    async def _ask(self) -> list[HostInventory]:
        return await ask_hosts(self._backends, self._probe_timeout_s)


async def run(settings: ManagerSettings) -> None:
    """Serve until SIGTERM or SIGINT."""
    configure_logging("manager", settings.log_level, settings.log_format)
    stop = StopSignal()
    stop.install()
    async with AsyncExitStack() as closing:
        backends = [OllamaBackend(url) for url in settings.ollama_base_urls]
        for backend in backends:
            closing.push_async_callback(backend.aclose)
        manager = Manager(backends, settings.healthcheck_timeout)
        server = StatusServer(
            "manager", manager.metrics, manager.readiness, refresh=manager.refresh, routes={"/models": manager.models}
        )
        await server.serve(settings.manager_host, settings.manager_port, stop)
