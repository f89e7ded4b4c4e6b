"""The models of the services in force, as the catalogue and the operations under way have them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from gateway.catalogue import CLOUD_FRESH_FOR_S
from gateway.routing_errors import Offer, model_missing, models_unknown, service_missing
from shared.backends.base import Backend
from shared.catalogue.record import ModelRecord
from shared.catalogue.states import with_operations
from shared.catalogue.table import FRESH_FOR_S, ModelTable, Place
from shared.model_names import is_allowed, same
from shared.operations.orders import Orders
from shared.services.config import ServiceConfig
from shared.services.names import parse
from shared.services.presets import ServiceCapabilities
from shared.services.registry import Registry
from shared.services.settings import OLLAMA

MANAGED = OLLAMA
"""The service whose models the managers install, load and delete."""
LATEST = 50
"""Changes to models that show in their states."""


class ServiceModels:
    """Reading raises QueueUnavailable while Redis is away. A service that is away keeps the models it had."""

    def __init__(
        self,
        registry: Registry,
        backends_of: Callable[[str], Sequence[Backend]],
        table: ModelTable,
        orders: Orders,
        allowed: Collection[str] = (),
    ) -> None:
        """`allowed`: ALLOWED_MODELS; others are not spoken of."""
        self._registry = registry
        self._backends_of = backends_of
        self._table = table
        self._orders = orders
        self._allowed = allowed

    def service(self, name: str) -> ServiceConfig:
        """The service in force. Raises ServiceNotConfigured, with what would bring it into force."""
        found = self._registry.get(name)
        if found is None:
            known = (service.name for service in self._registry.all())
            # Which field said so, if one did, the caller knows.
            raise service_missing(name, known, self._registry.reasons_off, param=None)
        return found

    def capabilities(self, service: ServiceConfig) -> ServiceCapabilities:
        """What can be asked of it here: nobody changes the models of a service that no manager looks after."""
        if service.name == MANAGED:
            return service.capabilities
        return replace(
            service.capabilities, install=False, import_model=False, update=False, load=False, unload=False,
            delete=False, load_progress=False, load_cancel=False, load_timeout=False,
        )  # fmt: skip

    async def of(self, name: str) -> list[ModelRecord]:
        """Its models by name. Raises ServiceNotConfigured."""
        return await self._read(self.service(name))

    async def all(self) -> list[ModelRecord]:
        """Those of all services, service by service."""
        read = await asyncio.gather(*(self._read(service) for service in self._registry.all()))
        return [record for records in read for record in records]

    async def one(self, service: str, model: str) -> ModelRecord:
        """A service's model, under its name there. Raises ServiceNotConfigured, ModelNotFound, and BackendUnreachable
        while that cannot be told."""
        config = self.service(service)
        if (record := _find(model, await self._read(config))) is not None:
            return record
        # It may have come a moment ago.
        all_answer = await self._table.look(self._place(config))
        records = await self._read(config)
        if (record := _find(model, records)) is not None:
            return record
        if not all_answer:
            raise models_unknown([service], model)
        raise model_missing(
            model, [Offer(service, [known.upstream_name for known in records], takes_pulls=service == MANAGED)]
        )

    async def find(self, name: str) -> ModelRecord:
        """A model by its qualified name, or by its bare one at the default service, then at any. Raises as `one`."""
        wanted = parse(name, self._registry, self._registry.default_service)
        others = [] if wanted.prefixed else [service.name for service in self._registry.all()]
        for service in dict.fromkeys((wanted.service, *others)):
            records = await self._read(self.service(service))
            if (record := _find(wanted.model, records)) is not None:
                return record
        return await self.one(wanted.service, wanted.model)

    async def outdated(self, service: str) -> None:
        """It is another thing now: the next reader asks it anew."""
        await self._table.outdated(service)

    async def _read(self, service: ServiceConfig) -> list[ModelRecord]:
        records = await self._table.of(self._place(service))
        if service.name == MANAGED:
            operations = await self._orders.list(LATEST)
            records = with_operations(service.name, records, operations, now=time.time())
        return [record for record in records if self._is_allowed(record)]

    def _place(self, service: ServiceConfig) -> Place:
        return Place(
            service=service.name,
            backends=self._backends_of(service.name),
            loads=service.capabilities.load,
            limit_s=service.short_timeout_sec,
            fresh_for_s=FRESH_FOR_S if service.local else CLOUD_FRESH_FOR_S,
            listed=service.models,
            asks=service.enable_discovery,
        )

    def _is_allowed(self, record: ModelRecord) -> bool:
        return any(is_allowed(name, self._allowed) for name in (record.upstream_name, record.name))


def _find(model: str, records: Sequence[ModelRecord]) -> ModelRecord | None:
    return next((record for record in records if same(record.upstream_name) == same(model)), None)
