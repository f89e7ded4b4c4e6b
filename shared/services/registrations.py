"""Services that come and go while the processes run: stored in Redis, read by every process every two seconds.

What is stored names a secret, it never is one, and it names only what the machine's owner set aside for that: variables
that begin with `SERVICE_KEY_`. So whoever may register services cannot have another secret of the process sent to an
address of theirs. Nor can they call somebody else's machine ours: a service is local here only at a local address.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast
from urllib.parse import urlsplit

from pydantic import ValidationError
from redis.asyncio import Redis

from shared.background import Rounds
from shared.egress import LOCAL_NETWORKS, is_within
from shared.errors import BadRequest, Forbidden, ServiceConflict
from shared.queue.connection import within
from shared.queue.keys import Keys
from shared.services.config import ServiceConfig
from shared.services.credentials import with_key
from shared.services.registry import AUTO, Registry, why_off
from shared.telemetry.logging import logger

log = logger("services")

READ_EVERY_S = 2.0
LIMIT_S = 2.0
MOST = 100
KEY_VARIABLE = re.compile(r"SERVICE_KEY_[A-Z0-9_]{1,64}")


class Registrations:
    """Keeps a registry in step with what is stored, and changes what is stored.

    Without `allowed` (ALLOW_SERVICE_REGISTRATION) nothing is read and every change is refused. Changes raise
    QueueUnavailable while Redis is away; what was read last goes on counting then.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        registry: Registry,
        *,
        allowed: bool,
        airgap: bool = False,
        on_change: Callable[[], object] = lambda: None,
    ) -> None:
        """`on_change` is called after the set of services has become another."""
        self._redis = redis
        self._keys = keys
        self._registry = registry
        self._allowed = allowed
        self._airgap = airgap
        self._on_change = on_change
        self._stored: dict[str, ServiceConfig] = {}
        self._rounds = Rounds("services", self.read, READ_EVERY_S, away="services.as_last_read")

    async def start(self) -> None:
        if self._allowed:
            self._rounds.start()

    async def stop(self) -> None:
        await self._rounds.stop()

    @property
    def names(self) -> frozenset[str]:
        """The services that were registered, in force or not."""
        return frozenset(self._stored)

    async def read(self) -> None:
        """Take over what is stored now. Raises RedisError or OSError."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.hgetall(self._keys.services)
        pipe.get(self._keys.default_service)
        rows, default = await pipe.execute()
        before = self._registry.version
        self._stored = _readable(rows)
        self._registry.take(self._stored, default.decode() if default else "")
        if self._registry.version != before:
            names = [service.name for service in self._registry.all()]
            log.info("services.changed", in_force=names, default=self._registry.default_service)
            self._on_change()

    async def register(self, given: Mapping[str, Any]) -> ServiceConfig:
        """Store a service, or change one that was registered before. Returns it as it will be used.

        Raises Forbidden, BadRequest naming the field, ServiceConflict for a name of the settings.
        """
        self._require_allowed()
        if self._registry.is_configured(name := str(given.get("name", "")).lower()):
            raise ServiceConflict(f"The service {name} is in the settings; change it there.", param="name")
        service = _checked(given)
        if reason := why_off(service, airgap=self._airgap):
            raise BadRequest(reason, param="api_key_env_var" if not self._airgap else "name")
        await self._call(self.read)
        if service.name not in self._stored and len(self._stored) >= MOST:
            raise ServiceConflict(f"There are {MOST} registered services, the most there can be. Remove one first.")
        await self._call(lambda: self._hset(service))
        await self._call(self.read)
        return service

    async def unregister(self, name: str) -> bool:
        """Remove a registered service; whether there was one. Calls under way end as they would.

        Raises Forbidden, and ServiceConflict for one of the settings.
        """
        self._require_allowed()
        if self._registry.is_configured(name):
            raise ServiceConflict(f"The service {name} is in the settings; take it out there.", param="name")
        removed = await self._call(lambda: cast("Awaitable[int]", self._redis.hdel(self._keys.services, name)))
        await self._call(self.read)
        return bool(removed)

    async def set_default(self, name: str) -> None:
        """Choose the service that bare names are at; `auto`; empty: what the settings say.

        Raises Forbidden, and BadRequest for a service that is not in force.
        """
        self._require_allowed()
        await self._call(self.read)
        if name and name != AUTO and name not in self._registry:
            raise BadRequest(f"There is no service {name[:64]!r} in force.", param="name")
        if name:
            await self._call(lambda: self._redis.set(self._keys.default_service, name))
        else:
            await self._call(lambda: self._redis.delete(self._keys.default_service))
        await self._call(self.read)

    def _require_allowed(self) -> None:
        if not self._allowed:
            raise Forbidden("Services are not changed at run time here. ALLOW_SERVICE_REGISTRATION=true allows it.")

    async def _hset(self, service: ServiceConfig) -> None:
        await cast("Awaitable[int]", self._redis.hset(self._keys.services, service.name, _stored_form(service)))

    async def _call(self, call: Callable[[], Awaitable[Any]]) -> Any:
        return await within(LIMIT_S, call)


def _checked(described: object) -> ServiceConfig:
    """The service that was described. Raises BadRequest."""
    if not isinstance(described, Mapping):
        raise BadRequest("Describe the service by its name, api_format and urls.")
    given = dict(described)
    for secret in ("api_key", "api_key_file"):
        if given.get(secret):
            raise BadRequest(
                "A key is not stored. Put it into a variable SERVICE_KEY_... of gateways and workers, and name that in "
                "`api_key_env_var`.",
                param=secret,
            )
    variable = str(given.get("api_key_env_var") or "")
    if variable and not KEY_VARIABLE.fullmatch(variable):
        raise BadRequest("Name a variable that begins with SERVICE_KEY_.", param="api_key_env_var")
    # Without this a preset would bring a variable of its own along.
    given["api_key_env_var"] = variable
    service = _parsed(given)
    if service.local and not all(_is_at_home(url) for url in service.urls):
        raise BadRequest(
            "At run time only local addresses, such as http://10.0.0.5:1234, can be registered as ours. "
            "Configure others in SERVICES, or set `local` to false.",
            param="local",
        )
    return service


def _parsed(given: dict[str, Any]) -> ServiceConfig:
    try:
        entry = with_key(given) if given.get("api_key_env_var") else given
        return ServiceConfig.model_validate(entry)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
        field = ".".join(map(str, fault["loc"])) or "services"
        raise BadRequest(fault["msg"].removeprefix("Value error, "), param=field) from None


def _is_at_home(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return is_within(host, LOCAL_NETWORKS)


def _stored_form(service: ServiceConfig) -> str:
    return json.dumps(service.model_dump(mode="json", exclude={"api_key", "api_key_file"}, exclude_unset=True))


def _readable(rows: Mapping[bytes, bytes]) -> dict[str, ServiceConfig]:
    """The stored services. One that cannot be read, or that nobody could have registered, is left out and told of."""
    found: dict[str, ServiceConfig] = {}
    for name, stored in rows.items():
        try:
            service = _checked(json.loads(stored))
        except (ValueError, BadRequest) as error:
            log.warning("services.unreadable", upstream=name.decode(errors="replace"), error=type(error).__name__)
            continue
        found[service.name] = service
    return found
