"""Several workers' breakers on one real Redis, under a clock that only the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import redis as blocking
from redis.asyncio import Redis

from shared.queue.keys import Keys
from shared.resilience import scripts
from shared.resilience.breaker import BreakerPolicy, BreakerState
from shared.resilience.breaker_store import Admission, Breakers
from shared.resilience.circuit_admin import CircuitAdmin
from shared.resilience.circuits import CircuitView, host_circuit, model_circuit

KEYS = Keys("gw")
HOST = host_circuit("127.0.0.1:11434")
MODEL = model_circuit("chat", "llama2", "127.0.0.1:11434")
NAMES = (HOST, MODEL)
CLOCK = "test:clock"
_TIME = "redis.call('TIME')"


@contextmanager
def scripts_on_test_clock() -> Iterator[None]:
    """Scripts read the time from the key `CLOCK` instead of the server's clock."""
    real = scripts.source

    def source(name: str) -> str:
        text = real(name)
        assert name == "release" or _TIME in text
        return text.replace(_TIME, f"redis.call('LRANGE', '{CLOCK}', 0, 1)")

    scripts.source = source  # type: ignore[assignment]  # a cached function has more methods than we need
    try:
        yield
    finally:
        scripts.source = real


class FakeFleet:
    """Workers whose clock, and Redis' for our scripts, is `now`."""

    def __init__(self, redis: Redis, clock: blocking.Redis, size: int, policy: BreakerPolicy | None = None) -> None:
        self.redis = redis
        self._clock = clock
        self.policy = policy or BreakerPolicy()
        self.now = 1_000_000.0
        self.workers = [self.worker(index) for index in range(size)]
        self.admin = CircuitAdmin(redis, KEYS)
        self._permits: dict[str, float] = {}

    def worker(self, index: int) -> Breakers:
        return Breakers(self.redis, KEYS, self.policy, worker_id=f"w{index}", clock=lambda: self.now, draw=lambda: 0.0)

    async def wait(self, seconds: float) -> None:
        """Time passes, also for the leases of permits."""
        self.now += seconds
        self.set_clock()
        for key, until in list(self._permits.items()):
            if self.now >= until:
                await self.redis.delete(key)
                del self._permits[key]

    def set_clock(self) -> None:
        """Blocks: were it awaited, workers would meanwhile tell by the old time what happened since."""
        micros = round(self.now * 1e6)
        pipe = self._clock.pipeline()
        pipe.delete(CLOCK)
        pipe.rpush(CLOCK, micros // 1_000_000, micros % 1_000_000)
        pipe.expire(CLOCK, 3600)
        pipe.execute()

    async def admit(self, worker: int, names: tuple[str, ...] = NAMES) -> Admission:
        admission = await self.workers[worker].admit(names)
        for name in admission.permits:
            self._permits[KEYS.circuit_permit(name)] = self.now + self.policy.probe_lease_s
        return admission

    async def tell(self, worker: int) -> None:
        """What that worker had to tell has been told."""
        self.set_clock()
        await self.workers[worker].stop()

    async def settle(self) -> None:
        """What the workers had to tell has been told; what the fleet knows, all of them know."""
        self.set_clock()
        for worker in self.workers:
            await worker.stop()
        for worker in self.workers:
            await worker.refresh()

    async def fleet_state(self, name: str) -> BreakerState:
        found = {view.name: view.state for view in await self.admin.circuits()}
        return found.get(name, BreakerState.CLOSED)


@asynccontextmanager
async def fleet_on(url: str, size: int, policy: BreakerPolicy | None = None) -> AsyncIterator[FakeFleet]:
    async with Redis.from_url(url) as redis:
        await redis.flushdb()
        with scripts_on_test_clock(), blocking.Redis.from_url(url) as clock:
            fleet = FakeFleet(redis, clock, size, policy)
            fleet.set_clock()
            yield fleet
            for worker in fleet.workers:
                await worker.stop()
        await redis.flushdb()


def view_of(breakers: Breakers, name: str) -> CircuitView:
    return next(view for view in breakers.snapshot() if view.name == name)


def state_of(breakers: Breakers, name: str) -> BreakerState:
    found = [view.state for view in breakers.snapshot() if view.name == name]
    return found[0] if found else BreakerState.CLOSED


async def trip(breakers: Breakers, names: tuple[str, ...] = NAMES, *, failures: int = 5) -> None:
    """Let calls fail until the circuits are open, and the others have been told."""
    for _ in range(failures):
        breakers.record(await breakers.admit(names), "failure")
    await asyncio.sleep(0)
