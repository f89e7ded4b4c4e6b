"""How the services are: asked every now and then, and on demand. One probe, the cheapest question there is.

Whether a service is used is for the workers' circuits to say; this is what people and dashboards see.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from shared.backends.base import Backend
from shared.background import Rounds
from shared.errors import ArrieroError, BackendTimeout
from shared.services.backends import ServiceBackends
from shared.services.config import ServiceConfig
from shared.telemetry.logging import logger

log = logger("services")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostHealth:
    """One URL of a service. `error` is the code of what went wrong, empty if nothing did."""

    host: str
    latency_s: float
    error: str = ""

    @property
    def is_up(self) -> bool:
        return not self.error


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceHealth:
    """A service as it was at `checked_at`, Unix seconds. It is up as long as one of its hosts answers."""

    service: str
    checked_at: float
    hosts: tuple[HostHealth, ...]

    @property
    def is_up(self) -> bool:
        return any(host.is_up for host in self.hosts)

    @property
    def latency_s(self) -> float | None:
        """Of the quickest host that answers; None when none does."""
        return min((host.latency_s for host in self.hosts if host.is_up), default=None)

    @property
    def error(self) -> str:
        """Why it is down; empty while it is up."""
        return "" if self.is_up else next((host.error for host in self.hosts), "no_hosts")


class ServiceHealths:
    """The latest health of every service in force; empty for one that was not asked yet."""

    def __init__(self, backends: ServiceBackends, *, every_s: float, probe_s: float, automatic: bool = True) -> None:
        """`every_s`: between two rounds by itself, if `automatic`. `probe_s`: limit on one probe, unless the service
        has its own."""
        self._backends = backends
        self._probe_s = probe_s
        self._automatic = automatic
        self._latest: dict[str, ServiceHealth] = {}
        self._rounds = Rounds("service-health", self.check_all, every_s, away="services.health_unknown")

    async def start(self) -> None:
        if self._automatic:
            self._rounds.start()

    async def stop(self) -> None:
        await self._rounds.stop()

    def latest(self, service: str) -> ServiceHealth | None:
        """As last seen; None before the first look."""
        return self._latest.get(service)

    async def check_all(self) -> Sequence[ServiceHealth]:
        """Ask every service in force now, all at the same time."""
        services = self._backends.services
        found = await asyncio.gather(*(self.check(service) for service in services))
        names = {service.name for service in services}
        self._latest = {name: health for name, health in self._latest.items() if name in names}
        return found

    async def check(self, service: ServiceConfig) -> ServiceHealth:
        """Ask one service now."""
        limit_s = service.probe_s(self._probe_s)
        hosts = await asyncio.gather(*(_probe(backend, limit_s) for backend in self._backends.of(service.name)))
        health = ServiceHealth(service=service.name, checked_at=time.time(), hosts=tuple(hosts))
        before = self._latest.get(service.name)
        if before is None or before.is_up != health.is_up:
            event = log.info if health.is_up else log.warning
            event("service.up" if health.is_up else "service.down", upstream=service.name, error=health.error)
        self._latest[service.name] = health
        return health


async def _probe(backend: Backend, limit_s: float) -> HostHealth:
    started = time.monotonic()
    error = ""
    try:
        async with asyncio.timeout(limit_s):
            await backend.version()
    except ArrieroError as failure:
        error = failure.code
    except TimeoutError:
        error = BackendTimeout.code
    return HostHealth(host=backend.name, latency_s=time.monotonic() - started, error=error)
