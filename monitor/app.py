"""The monitor's composition root: its clients, its pages, its life."""

from __future__ import annotations

from dataclasses import asdict

from monitor import host
from monitor.metrics import MonitorMetrics
from monitor.settings import MonitorSettings
from shared.errors import QueueUnavailable
from shared.lifecycle import StopSignal
from shared.queue.client import QueueClient
from shared.queue.stats import QueueStats
from shared.status_server import HEALTHY, StatusServer, now_rfc3339
from shared.telemetry.logging import configure_logging


class Monitor:
    """Reads the world when it is asked."""

    def __init__(self, queue: QueueClient) -> None:
        self._queue = queue
        self.metrics = MonitorMetrics()

    async def readiness(self) -> dict[str, str]:
        try:
            await self._queue.ping()
        except QueueUnavailable as error:
            return {"redis": error.message}
        return {"redis": HEALTHY}

    async def refresh(self) -> None:
        self.metrics.update(host.snapshot(), await self._queue_stats())

    async def report(self) -> dict[str, object]:
        """Host and queue now; `queue` is null while Redis does not answer."""
        stats = await self._queue_stats()
        return {
            "timestamp": now_rfc3339(),
            "host": asdict(host.snapshot()),
            "queue": None if stats is None else asdict(stats),
        }

    async def _queue_stats(self) -> QueueStats | None:
        try:
            return await self._queue.stats()
        except QueueUnavailable:
            return None


async def run(settings: MonitorSettings) -> None:
    """Serve until SIGTERM or SIGINT."""
    configure_logging("monitor", settings.log_level, settings.log_format)
    stop = StopSignal()
    stop.install()
    queue = await QueueClient.connect(settings)
    try:
        monitor = Monitor(queue)
        # The first reading of processor use has nothing to compare with; take it before anyone asks.
        host.snapshot()
        server = StatusServer(
            "monitor", monitor.metrics, monitor.readiness, refresh=monitor.refresh, routes={"/report": monitor.report}
        )
        await server.serve(settings.monitor_host, settings.monitor_port, stop)
    finally:
        await queue.aclose()
