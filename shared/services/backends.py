"""The backends of the services in force, for whoever only asks questions: which models, how well, since when."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared.backends.base import Backend
from shared.backends.factory import build
from shared.services.config import ServiceConfig
from shared.services.registry import Registry
from shared.services.statistics import host_name


@dataclass(frozen=True, slots=True)
class Changes:
    """From one set of services to another: names that are gone or another thing now, and services that came."""

    gone: tuple[str, ...]
    come: tuple[ServiceConfig, ...]


def changes(before: Mapping[str, ServiceConfig], now: Sequence[ServiceConfig]) -> Changes:
    """What has to be taken down, and what built anew."""
    wanted = {service.name: service for service in now}
    return Changes(
        tuple(name for name, service in before.items() if wanted.get(name) != service),
        tuple(service for name, service in wanted.items() if before.get(name) != service),
    )


class ServiceBackends:
    """Backends by service, in step with the registry. Those of a service that is gone are closed at once."""

    def __init__(self, registry: Registry, *, pool_size: int) -> None:
        self._registry = registry
        self._pool_size = pool_size
        self._version = -1
        self._services: dict[str, ServiceConfig] = {}
        self._in_order: tuple[ServiceConfig, ...] = ()
        self._backends: dict[str, Sequence[Backend]] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def services(self) -> tuple[ServiceConfig, ...]:
        """Those in force now, each with backends; the same object as long as they are the same."""
        self._follow()
        return self._in_order

    def of(self, service: str) -> Sequence[Backend]:
        """A service's backends, one a URL; none for one that is not in force."""
        self._follow()
        return self._backends.get(service, ())

    def hosts(self) -> dict[str, str]:
        """Every host's name, as the workers record it, and its service."""
        found: dict[str, str] = {}
        for service in self.services:
            for backend in self._backends[service.name]:
                found[host_name(backend.name, service.name, found)] = service.name
        return found

    def _follow(self) -> None:
        if self._version == self._registry.version:
            return
        self._version = self._registry.version
        services = self._registry.all()
        step = changes(self._services, services)
        for name in step.gone:
            for backend in self._backends.pop(name):
                task = asyncio.create_task(backend.aclose())
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)
        self._backends |= {service.name: build(service, pool_size=self._pool_size) for service in step.come}
        self._services = {service.name: service for service in services}
        self._in_order = services

    async def aclose(self) -> None:
        for backends in self._backends.values():
            for backend in backends:
                await backend.aclose()
        await asyncio.gather(*self._closing)
