"""What the workers agree on about their circuits, in Redis: one call a script, each with a short time limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from redis.asyncio import Redis

from shared.lua import Field
from shared.queue.keys import Keys
from shared.resilience.breaker import JITTER, BreakerPolicy
from shared.resilience.circuits import CircuitRow
from shared.resilience.scripts import Scripts

log = structlog.get_logger()

LIMIT_S = 0.5
"""How long a call may be held up by a Redis that does not answer."""
LONG_AGO_S = 1e6
"""Longer than any row of failures lasts."""
AWAY_S = 1.0
"""For so long it is then left alone."""


@dataclass(slots=True, frozen=True, eq=False, kw_only=True)
class Conclusion:
    """What a worker tells the others about a circuit: it opened, or a probe of it passed."""

    opened: bool
    token: str = ""
    """The permit of the probe that showed it, empty for none."""
    reason: str = ""
    openings: int = 0
    """How many openings in a row the worker itself has counted."""
    closed_here: bool = False


class Fleet:
    """The circuits of all workers. Calls raise RedisError or OSError when Redis does not answer."""

    def __init__(
        self, redis: Redis, keys: Keys, policy: BreakerPolicy, worker_id: str, clock: Callable[[], float]
    ) -> None:
        self._redis = redis
        self._scripts = Scripts(redis)
        self._keys = keys
        self._policy = policy
        self._worker_id = worker_id
        self._clock = clock
        self._away_until: float | None = None

    @property
    def is_away(self) -> bool:
        """Redis did not answer a moment ago: do not wait for it again yet."""
        return self._away_until is not None and self._clock() < self._away_until

    async def rows(self) -> list[CircuitRow]:
        """Every circuit that has been open of late."""
        found = await self._call("circuits", [self._keys.circuits], self._keys.circuit_root)
        return [CircuitRow.parse(raw) for raw in found]

    async def ask(self, circuits: Sequence[tuple[str, int]], token: str) -> tuple[bool, list[CircuitRow]]:
        """Permits to probe these half-open circuits (name, generation known here): all of them or none."""
        keys = [key for name, _ in circuits for key in (self._keys.circuit(name), self._keys.circuit_permit(name))]
        lease_ms = int(self._policy.probe_lease_s * 1000)
        fields = [field for circuit in circuits for field in circuit]
        given, *found = await self._call("probe", keys, token, lease_ms, *fields)
        return bool(given), [CircuitRow.parse(raw) for raw in found]

    async def release(self, names: Sequence[str], token: str) -> None:
        """Give permits back unused."""
        await self._call("release", [self._keys.circuit_permit(name) for name in names], token)

    async def tell(self, name: str, known: int, conclusion: Conclusion, unit: float) -> CircuitRow:
        """Tell a conclusion; the circuit as it stands afterwards. `known` is the generation it was drawn under."""
        keys = [self._keys.circuit(name), self._keys.circuit_permit(name), self._keys.circuits]
        if conclusion.opened:
            script = "trip"
            args: tuple[Field, ...] = (conclusion.openings, *self._opening(conclusion.reason, unit))
        else:
            script = "passed"
            args = (self._policy.successes_to_close, int(conclusion.closed_here), self._worker_id)
        reply = await self._call(script, keys, self._keys.circuit_news, name, known, conclusion.token, *args)
        return CircuitRow.parse(reply)

    async def failed(
        self,
        name: str,
        known: int,
        count: int,
        *,
        since_first_s: float,
        since_success_s: float,
        telling: int,
        reason: str,
        unit: float,
    ) -> CircuitRow:
        """Add `count` failures in a row, the first of them `since_first_s` ago, to the fleet's.

        The circuit as it stands afterwards: open if that makes `telling` of them with no known success of anybody's in
        between, and twice as many as in the longest row that a success has ended within the window. `known` is the
        generation they happened under.
        """
        keys = [self._keys.circuit(name), self._keys.circuit_failures(name), self._keys.circuits]
        window_ms = int(self._policy.window_s * 1000)
        ages = [int(min(seconds, LONG_AGO_S) * 1000) for seconds in (since_first_s, since_success_s)]
        args = (count, *ages, telling, window_ms, *self._opening(reason, unit))
        return CircuitRow.parse(await self._call("failed", keys, self._keys.circuit_news, name, known, *args))

    async def forget_failures(self, names: Sequence[str]) -> None:
        """Begin the fleet's rows of failures anew. One of a circuit that an operator closed by name ends by itself."""
        async with asyncio.timeout(LIMIT_S):
            await self._redis.delete(*(self._keys.circuit_failures(name) for name in names))

    def _opening(self, reason: str, unit: float) -> tuple[Field, ...]:
        policy = self._policy
        times = [int(seconds * 1000) for seconds in (policy.open_s, policy.open_cap_s, unit * JITTER, policy.quiet_s)]
        return (*times, self._worker_id, reason)

    async def _call(self, script: str, keys: Sequence[str], *args: Field) -> Any:
        async with asyncio.timeout(LIMIT_S):
            reply = await self._scripts.run(script, keys, *args)
        if self._away_until is not None:
            log.info("circuits.shared_again")
            self._away_until = None
        return reply

    def lost(self, exc: BaseException) -> None:
        """Redis did not answer."""
        if self._away_until is None:
            log.warning("circuits.local_only", error=type(exc).__name__, hint="Redis does not answer")
        self._away_until = self._clock() + AWAY_S
