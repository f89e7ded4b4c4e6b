"""The model server as scenarios make it misbehave, and the circuits that answer to that."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from shared.resilience.breaker import BreakerPolicy, BreakerState
from shared.resilience.circuit_admin import CircuitAdmin
from tests.chaos.proxy import Proxy
from tests.chaos.stack import Stack, Worker

POLICY = BreakerPolicy()
"""The product's defaults."""
TRANSITIONS = re.compile(r"^llm_worker_circuit_breaker_transitions_total\{(?P<labels>.*)\} (?P<count>\S+)$")
LABEL = re.compile(r'(\w+)="([^"]*)"')


async def misbehave(stack: Stack, kind: str, **fields: Any) -> None:
    """From now on every call that matches; `infra/simulator/faults.py` has the kinds and fields."""
    async with stack.http.post(stack.simulator_url + "/_sim/faults", json={"kind": kind, **fields}) as response:
        response.raise_for_status()


async def behave(stack: Stack) -> None:
    """All faults are over."""
    async with stack.http.delete(stack.simulator_url + "/_sim/faults") as response:
        response.raise_for_status()


async def hits(stack: Stack) -> int:
    """How often the faults in force have struck."""
    async with stack.http.get(stack.simulator_url + "/_sim/faults") as response:
        faults: list[Mapping[str, Any]] = (await response.json())["faults"]
    return sum(int(fault["hits"]) for fault in faults)


class Door(Proxy):
    """A way to the model server that can be cut, and shut: to its users the server's process is gone."""

    async def shut(self) -> None:
        """Break every connection, and refuse new ones."""
        self._server.close()
        self.cut()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    def cut(self) -> None:
        """Break every connection there is."""
        for connection in self.connections:
            connection.cancel()


def door(stack: Stack) -> Door:
    """One before the stack's simulator; to be entered, and named to the workers as OLLAMA_BASE_URL."""
    return Door(int(stack.simulator_url.rpartition(":")[2]))


async def calls_between(stack: Stack, began: float, ended: float) -> list[dict[str, Any]]:
    """The simulator's log lines of calls that began in that time, Unix seconds."""
    return [call for call in await stack.call_log() if began <= call["at"] < ended]


async def troubled(stack: Stack) -> list[str]:
    """Names of the circuits that are not closed."""
    views = await CircuitAdmin(stack.redis, stack.keys).circuits()
    return [view.name for view in views if view.state is not BreakerState.CLOSED]


async def opened_since(stack: Stack, began: float) -> list[str]:
    """Names of the circuits that have opened or closed since then, Unix seconds."""
    return [view.name for view in await CircuitAdmin(stack.redis, stack.keys).circuits() if view.changed_at >= began]


async def reset_circuits(stack: Stack) -> None:
    """As an operator does: all closed, earlier openings forgotten."""
    await CircuitAdmin(stack.redis, stack.keys).reset()


async def transitions(stack: Stack, worker: Worker) -> Counter[str]:
    """How often each circuit has changed its state, as this worker saw it."""
    async with stack.http.get(worker.metrics_url) as response:
        lines = (await response.text()).splitlines()
    seen: Counter[str] = Counter()
    for line in lines:
        if found := TRANSITIONS.match(line):
            labels = dict(LABEL.findall(found["labels"]))
            seen[f"{labels['circuit']}@{labels['host']}"] += round(float(found["count"]))
    return seen
