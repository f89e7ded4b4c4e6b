"""One snapshot of everything: all collectors at once, each for itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from monitor.collect.gpu import GpuCollector
from monitor.collect.host import HostCollector
from monitor.collect.ollama import OllamaCollector
from monitor.collect.queue import QueueCollector
from monitor.collect.usage import UsageCollector
from monitor.readings import Snapshot
from shared.background import end_task
from shared.errors import ArrieroError, QueueUnavailable
from shared.queue.client import QueueClient
from shared.resilience.circuit_admin import CircuitAdmin

T = TypeVar("T")
COLLECTORS = ("host", "gpu", "redis", "ollama", "queue", "circuits", "models")


class Part(Generic[T]):
    """One collector. A reading that takes too long is left to end by itself; until then no other is begun."""

    def __init__(self, name: str, read: Callable[[], Awaitable[T]], limit_s: float) -> None:
        self._name, self._read, self._limit_s = name, read, limit_s
        self._running: asyncio.Future[T] | None = None

    async def get(self, errors: dict[str, str], hopeless: str | None = None) -> T | None:
        """The reading; None, and a line in `errors`, if it failed, is not there in time, or is known to be `hopeless`
        for this reason."""
        if hopeless is not None:
            errors[self._name] = hopeless
            return None
        running = self._running or asyncio.ensure_future(self._read())
        done, _ = await asyncio.wait({running}, timeout=self._limit_s)
        self._running = None if done else running
        if not done:
            errors[self._name] = f"no answer within {self._limit_s:g} s"
            return None
        try:
            return running.result()
        except QueueUnavailable:  # its own text is for who wanted to hand in a job
            errors[self._name] = "Redis does not answer"
        except ArrieroError as error:
            errors[self._name] = error.message
        except Exception as error:  # a collector of ours may fail in ways nobody thought of; the rest goes on
            errors[self._name] = f"{type(error).__name__}: {error}"
        return None

    async def stop(self) -> None:
        if self._running is not None:
            await end_task(self._running)


class Sampler:
    """All collectors."""

    def __init__(
        self,
        *,
        host: HostCollector,
        gpu: GpuCollector,
        ollama: OllamaCollector,
        queue: QueueCollector,
        models: UsageCollector,
        client: QueueClient,
        limit_s: float,
    ) -> None:
        """`limit_s`: how long one reading waits for any collector."""
        circuits = CircuitAdmin(client.redis, client.keys)
        self._gpu_collector = gpu
        self._host = Part("host", lambda: asyncio.to_thread(host.read), limit_s)
        self._gpu = Part("gpu", lambda: asyncio.to_thread(gpu.read), limit_s)
        self._redis = Part("redis", client.ping, limit_s)
        self._ollama = Part("ollama", ollama.read, limit_s)
        self._queue = Part("queue", queue.read, limit_s)
        self._circuits = Part("circuits", circuits.circuits, limit_s)
        self._models = Part("models", models.read, limit_s)

    async def sample(self) -> Snapshot:
        """Everything as it is now; what cannot be read is None. Does not raise."""
        errors: dict[str, str] = {}
        # Alone, so that it measures Redis and not how busy we are ourselves.
        latency_s = await self._redis.get(errors)
        redis_is_away = None if latency_s is not None else errors["redis"]
        async with asyncio.TaskGroup() as group:
            host = group.create_task(self._host.get(errors))
            gpus = group.create_task(self._gpu.get(errors))
            ollama = group.create_task(self._ollama.get(errors))
            queue = group.create_task(self._queue.get(errors, redis_is_away))
            circuits = group.create_task(self._circuits.get(errors, redis_is_away))
            models = group.create_task(self._models.get(errors, redis_is_away))
        usage = models.result()
        return Snapshot(
            at=time.time(),
            host=host.result(),
            gpus=gpus.result(),
            redis_latency_s=latency_s,
            ollama=ollama.result() or (),
            queue=queue.result(),
            circuits=circuits.result(),
            models=None if usage is None else usage.models,
            loading_ratio=None if usage is None else usage.loading_ratio,
            usage=() if usage is None else usage.totals,
            errors=errors,
        )

    async def stop(self) -> None:
        parts = (self._host, self._gpu, self._redis, self._ollama, self._queue, self._circuits, self._models)
        for part in parts:
            await part.stop()
        self._gpu_collector.close()
