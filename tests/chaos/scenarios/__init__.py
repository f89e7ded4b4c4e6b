"""One module a fault. Each has `run(campaign) -> Outcome`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tests.chaos.campaign import Campaign
from tests.chaos.outcome import Outcome
from tests.chaos.scenarios import (
    daemons,
    gateway_kills,
    idle_slot,
    named_steps,
    redis_kills,
    rolling_drain,
    worker_kills,
    zombies,
)

SCENARIOS: dict[str, Callable[[Campaign], Awaitable[Outcome]]] = {
    "F1": worker_kills.run,
    "F2": named_steps.run,
    "F3": zombies.run,
    "F5": gateway_kills.run,
    "F6": redis_kills.run,
    "F15": rolling_drain.run,
    "F22": idle_slot.run,
    "F28": daemons.run,
}
"""In the order of the fault campaign's list."""
