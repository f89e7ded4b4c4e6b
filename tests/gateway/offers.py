"""Services of a test: which there are, and what the hosts of each say of their models."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from shared.backends.base import ModelInfo
from shared.services.config import ServiceConfig

_SECONDS = itertools.count(1)
Read = Callable[[], Awaitable[list[ModelInfo]]]


class _Host:
    def __init__(self, read: Read) -> None:
        self._read = read

    async def models(self) -> list[ModelInfo]:
        return await self._read()


class Offers:
    """What a catalogue is made from. A service is Ollama, unless more is said of it."""

    def __init__(self, *hosts: Read, **services: Sequence[Read]) -> None:
        self._hosts: dict[str, Sequence[Read]] = dict(services) or {"ollama": hosts}
        # Each is another one than before, so that a catalogue forgets what it had read.
        self.services = tuple(service(name, long_timeout_sec=next(_SECONDS)) for name in self._hosts)

    def of(self, service: str) -> Sequence[_Host]:
        return [_Host(read) for read in self._hosts[service]]

    def say(self, name: str, **fields: Any) -> None:
        """Configure one of the services otherwise."""
        self.services = tuple(service(name, **fields) if one.name == name else one for one in self.services)


def service(name: str, **fields: Any) -> ServiceConfig:
    """A service; a cloud one has a key."""
    return ServiceConfig.model_validate({"name": name, "api_key": f"sk-{name}-0123456789abcdef"} | fields)
