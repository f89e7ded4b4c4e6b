"""The model servers: whether they answer, how fast, and which models they have."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from monitor.readings import OllamaReading
from shared.backends.base import Backend
from shared.errors import BackendError


class OllamaCollector:
    """Asks all hosts at once. One that does not answer is part of the reading, not an error."""

    def __init__(self, backends: Sequence[Backend], timeout_s: float) -> None:
        """`timeout_s`: limit on all that one host is asked."""
        self._backends = backends
        self._timeout_s = timeout_s

    async def read(self) -> list[OllamaReading]:
        """One reading a host, in the order of the configuration."""
        return list(await asyncio.gather(*(self._ask(backend) for backend in self._backends)))

    async def _ask(self, backend: Backend) -> OllamaReading:
        try:
            async with asyncio.timeout(self._timeout_s):
                start = time.perf_counter()
                version = await backend.version()
                latency_s = time.perf_counter() - start
                models = await backend.models()
        except TimeoutError:
            return OllamaReading(host=backend.name, error=f"no answer within {self._timeout_s:g} s")
        except BackendError as error:
            return OllamaReading(host=backend.name, error=error.message)
        installed = frozenset(model.name for model in models)
        return OllamaReading(host=backend.name, latency_s=latency_s, version=version, models=installed)
