"""Circuits as operators see and order them: straight in Redis, for the command and the gateway."""

from __future__ import annotations

import difflib

from redis.asyncio import Redis

from shared.errors import BadRequest, CircuitNotFound
from shared.lua import Field
from shared.queue.connection import within
from shared.queue.keys import Keys
from shared.resilience.circuits import CircuitRow, CircuitView, is_circuit_name
from shared.resilience.scripts import Scripts

ANSWER_WITHIN_S = 2.0
LONGEST_FORCED_S = 7 * 86400.0


class CircuitAdmin:
    """Raises QueueUnavailable when Redis does not answer within `ANSWER_WITHIN_S`."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._scripts = Scripts(redis)

    async def circuits(self) -> list[CircuitView]:
        """Circuits that opened within the last hour or are open still, by name. All others are closed."""
        found = await within(
            ANSWER_WITHIN_S, lambda: self._scripts.run("circuits", [self._keys.circuits], self._keys.circuit_root)
        )
        rows = [CircuitRow.parse(raw) for raw in found]
        return sorted((row.view() for row in rows if row.state), key=lambda view: view.name)

    async def reset(self, name: str | None = None) -> list[CircuitView]:
        """Close a circuit, or all, and forget what was counted; workers obey within a second. The circuits closed.

        Raises CircuitNotFound for a name of which no worker has told anything within the last hour.
        """
        if name is not None:
            await self._require(name)
            return [await self._order(name, "closed", 0.0)]
        closed = [await self._order(view.name, "closed", 0.0) for view in await self.circuits()]
        # For the circuits of workers that opened them while Redis was away.
        await within(ANSWER_WITHIN_S, lambda: self._redis.publish(self._keys.circuit_news, "reset"))
        return closed

    async def force_open(self, name: str, for_s: float) -> CircuitView:
        """Let no call through for `for_s` seconds; then one call probes, as after any opening."""
        if not 0 < for_s <= LONGEST_FORCED_S:
            raise BadRequest(f"A circuit can be held open for up to {LONGEST_FORCED_S:g} seconds.", param="for_seconds")
        return await self._order(name, "open", for_s)

    async def _require(self, name: str) -> None:
        _check(name)
        told = self._keys.circuit(name), self._keys.circuit_failures(name)
        if await within(ANSWER_WITHIN_S, lambda: self._redis.exists(*told)):
            return
        near = difflib.get_close_matches(name, [view.name for view in await self.circuits()])
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise CircuitNotFound(
            f"Nothing to reset: no worker has told of a circuit {name} within the last hour.{hint} "
            "A reset of all also reaches what workers opened while Redis was away.",
            param="name",
        )

    async def _order(self, name: str, state: str, for_s: float) -> CircuitView:
        _check(name)
        keys = [self._keys.circuit(name), self._keys.circuit_permit(name), self._keys.circuits]
        args: tuple[Field, ...] = (self._keys.circuit_news, name, state, int(for_s * 1000))
        raw = await within(ANSWER_WITHIN_S, lambda: self._scripts.run("order", keys, *args))
        return CircuitRow.parse(raw).view()


def _check(name: str) -> None:
    if not is_circuit_name(name):
        raise BadRequest(
            "No circuit can be called so. A host's is `host:<host:port>`, a model's `chat:<model>@<host:port>`.",
            param="name",
        )
