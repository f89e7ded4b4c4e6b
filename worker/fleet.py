"""Keeps the worker's hosts in step with the services in force: new ones are called, gone ones drained."""

from __future__ import annotations

from shared.backends.factory import build
from shared.services.backends import changes
from shared.services.config import ServiceConfig
from shared.services.registry import Registry
from worker.hosts import Hosts


class Fleet:
    """`follow` is called once before the first job, and after each change of the registry."""

    def __init__(self, registry: Registry, hosts: Hosts, *, pool_size: int) -> None:
        self._registry = registry
        self._hosts = hosts
        self._pool_size = pool_size
        self._services: dict[str, ServiceConfig] = {}

    def follow(self) -> None:
        """Calls under way at a service that is gone, or another thing now, end as they would have."""
        services = self._registry.all()
        step = changes(self._services, services)
        for name in step.gone:
            self._hosts.retire(name)
        for service in step.come:
            self._hosts.put(service, build(service, pool_size=self._pool_size))
        self._services = {service.name: service for service in services}
