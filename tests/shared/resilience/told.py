"""A fleet's Redis side, spoken to by hand, on a clock that only the test moves."""

from __future__ import annotations

from redis.asyncio import Redis

from shared.resilience.breaker import BreakerPolicy
from shared.resilience.circuit_admin import CircuitAdmin
from shared.resilience.circuit_fleet import Conclusion, Fleet
from shared.resilience.circuits import CircuitRow
from tests.shared.resilience.fleet import CLOCK, HOST, KEYS

POLICY = BreakerPolicy(open_s=0.1, open_cap_s=60, probe_lease_s=20)
TRIP = Conclusion(opened=True, reason="backend_fault", openings=1)
NEVER = float("inf")


class Told:
    """`await ready()` first; the scripts must be on the test's clock (`scripts_on_test_clock`)."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.now_ms = 1_700_000_000_000
        self.fleet = Fleet(redis, KEYS, POLICY, "w1", lambda: self.now_ms / 1000)
        self.admin = CircuitAdmin(redis, KEYS)

    async def ready(self) -> None:
        await self.after(0.0)

    async def after(self, seconds: float) -> None:
        """So much time passes."""
        self.now_ms += round(seconds * 1000)
        await self.redis.delete(CLOCK)
        await self.redis.rpush(CLOCK, self.now_ms // 1000, self.now_ms % 1000 * 1000)  # type: ignore[misc]  # redis-py 5
        await self.redis.expire(CLOCK, 3600)

    async def tell(self, known: int, conclusion: Conclusion = TRIP) -> CircuitRow:
        return await self.fleet.tell(HOST, known, conclusion, 0.0)

    async def failed(
        self,
        known: int = 0,
        count: int = 1,
        *,
        since_first_s: float = 0.0,
        since_success_s: float = NEVER,
        telling: int = 5,
    ) -> CircuitRow:
        """Failures in a row on the host's circuit."""
        return await self.fleet.failed(
            HOST, known, count, since_first_s=since_first_s, since_success_s=since_success_s, telling=telling,
            reason="refused", unit=0.0,
        )  # fmt: skip

    async def pass_(self, known: int, token: str, *, closed_here: bool = False) -> CircuitRow:
        return await self.tell(known, Conclusion(opened=False, token=token, closed_here=closed_here))

    async def half_open(self, token: str = "") -> int:
        """Trip it, let its time pass, take the permit; the generation."""
        row = await self.tell(0)
        await self.after(POLICY.open_s)
        if token:
            given, _ = await self.fleet.ask([(HOST, row.generation)], token)
            assert given
        return row.generation

    async def holder(self) -> str:
        return (await self.redis.get(KEYS.circuit_permit(HOST)) or b"").decode()
