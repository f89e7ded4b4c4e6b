"""Who may come in: the limits on what the queue holds, and what a refused caller is told. Pure.

The limits are checked by the script that stores the job (`lua/includes/admission.lua`), so that no two gateways can
both give away the last place. A refusal comes back with the facts, and is put into words here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from shared.errors import (
    DeadlineUnreachable,
    MemoryPressure,
    Overloaded,
    QueueBytesFull,
    QueueTooSlow,
    TenantQueueFull,
)

DEAD_LETTER_TTL_S = 7 * 86400.0
MAX_DEAD_LETTERS = 10_000
MEMORY_PERCENT = 80

UNKNOWN_WAIT_S = 5
"""What a refused caller is told when nothing is known of how fast jobs end."""
STANDSTILL_S = 5.0
"""A queue in which no job has ended for longer than this is expected to stand still for as long again."""
LEAST_WAIT_S, MOST_WAIT_S = 1, 120
"""OpenAI's clients give up at once when told to wait longer than 120 s."""


@dataclass(slots=True, frozen=True, kw_only=True)
class QueueLimits:
    """What the queue may hold; 0: no such limit. Class `low` may use 80 % of depth, bytes and age, `normal` 95 %."""

    depth: int = 0
    """Jobs waiting."""
    tenant_depth: int = 0
    """Unfinished jobs of one tenant."""
    payload_bytes: int = 0
    """Bytes of the requests of all unfinished jobs."""
    oldest_wait_s: float = 0.0
    """Age of the oldest waiting job of the same class."""
    memory_percent: int = 0
    """Share of Redis' maxmemory in use; `low` is refused five points earlier."""
    estimates: bool = False
    """Refuse a job that would, at the present rate, still be in line at its deadline."""
    dead_letters: int = MAX_DEAD_LETTERS
    dead_letter_ttl_s: float = DEAD_LETTER_TTL_S

    def packed(self) -> str:
        """As the scripts take them."""
        numbers = (
            self.depth,
            self.tenant_depth,
            self.payload_bytes,
            int(self.oldest_wait_s * 1000),
            self.memory_percent,
            int(self.estimates),
        )
        return " ".join(map(str, numbers))


_REFUSALS: dict[str, type[Overloaded]] = {
    cls.code: cls
    for cls in (Overloaded, TenantQueueFull, QueueBytesFull, QueueTooSlow, MemoryPressure, DeadlineUnreachable)
}


def refusal(reply: bytes) -> Overloaded:
    """The error for a script's `#<code> <places> <jobs ended a second> <ms since one ended>`."""
    code, places, rate, standstill_ms = reply[1:].decode().split(" ")
    standstill_s = int(standstill_ms) / 1000
    wait_s = retry_after_s(float(places), float(rate), standstill_s=standstill_s)
    refused = _REFUSALS.get(code, Overloaded)(retry_after_s=wait_s)
    if not float(rate) and standstill_s <= STANDSTILL_S:
        refused.ends_needed = float(places)
    return refused


def retry_after_s(places: float, drain_per_s: float, *, standstill_s: float = 0.0) -> int:
    """Whole seconds after which trying again is worth while, 1 to 120.

    `places`: jobs that must end before there is room; 0: it is not jobs that take the room. `drain_per_s`: jobs ended a
    second, measured; 0: unknown. `standstill_s`: how long none has ended although some wait.
    """
    wait_s = places / drain_per_s if places > 0 and drain_per_s > 0 else float(UNKNOWN_WAIT_S)
    if standstill_s > STANDSTILL_S:
        wait_s = max(wait_s, standstill_s)
    return math.ceil(min(MOST_WAIT_S, max(LEAST_WAIT_S, wait_s)))
