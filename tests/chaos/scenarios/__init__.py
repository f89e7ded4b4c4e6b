"""One module a fault. Each has `run(campaign) -> Outcome`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tests.chaos.campaign import Campaign
from tests.chaos.outcome import Outcome
from tests.chaos.scenarios import (
    clock_jumps,
    cut_tail,
    daemons,
    deep_queue,
    empty_redis,
    flapping,
    full_disk,
    full_memory,
    garbage,
    gateway_kills,
    idle_slot,
    missing_models,
    named_steps,
    one_key,
    overload,
    partition,
    payloads,
    poison,
    races,
    random_failures,
    redis_kills,
    retry_herd,
    rolling_drain,
    sick_upstream,
    slow_redis,
    tenant_flood,
    upgrade,
    vanishing_clients,
    worker_kills,
    zombies,
)

SCENARIOS: dict[str, Callable[[Campaign], Awaitable[Outcome]]] = {
    "F1": worker_kills.run,
    "F2": named_steps.run,
    "F3": zombies.run,
    "F4": partition.run,
    "F5": gateway_kills.run,
    "F6": redis_kills.run,
    "F7": empty_redis.run,
    "F8": cut_tail.run,
    "F9": full_memory.run,
    "F10": sick_upstream.run,
    "F10-FLAP": flapping.run,
    "F11": random_failures.run,
    "F12": garbage.run,
    "F13": vanishing_clients.run,
    "F14": one_key.run,
    "F15": rolling_drain.run,
    "F16": poison.run,
    "F17": overload.run,
    "F18": retry_herd.run,
    "F19": tenant_flood.run,
    "F20": clock_jumps.run,
    "F21": full_disk.run,
    "F22": idle_slot.run,
    "F23": deep_queue.run,
    "F24": payloads.run,
    "F25": slow_redis.run,
    "F26": races.run,
    "F27": missing_models.run,
    "F28": daemons.run,
    "F29": upgrade.run,
}
"""In the order of the fault campaign's list."""
