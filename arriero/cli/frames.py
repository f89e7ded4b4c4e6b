"""One moment of the whole fleet, as `arriero top` draws it: read from Redis, the manager and the monitor at once.

What does not answer is missing from the frame and named in `problems`; the rest is shown all the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from arriero.cli.daemons import LOOK_S, Daemon
from arriero.cli.failures import CommandFailed, describe
from arriero.errors import ApiError

if TYPE_CHECKING:
    from shared.queue.stats import QueueStats
    from shared.resilience.circuits import CircuitView

ENDINGS = ("succeeded", "dead_lettered", "expired", "cancelled")


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """`at` in Unix seconds. None: could not be read."""

    at: float
    queue: QueueStats | None = None
    circuits: Sequence[CircuitView] = ()
    models: Mapping[str, Any] | None = None
    """The manager's /models."""
    readings: Mapping[str, Any] | None = None
    """The monitor's /readings."""
    problems: Sequence[str] = field(default_factory=list)


def per_second(frame: Frame, earlier: Frame | None) -> Mapping[str, float] | None:
    """Jobs that ended a second between two frames, by how they ended; None where there is nothing to compare."""
    if earlier is None or earlier.queue is None or frame.queue is None or frame.at <= earlier.at:
        return None
    now, then, passed_s = frame.queue.counters, earlier.queue.counters, frame.at - earlier.at
    # A Redis that came back empty counts anew.
    return {state: max(0, now.get(state, 0) - then.get(state, 0)) / passed_s for state in ENDINGS}


async def read_frame() -> Frame:
    """All at once, so that a daemon that hangs does not make the rest old."""
    problems: list[str] = []
    queue, models, readings = await asyncio.gather(
        _queue(problems),
        asyncio.to_thread(_page, "manager", "/models", problems),
        asyncio.to_thread(_page, "monitor", "/readings", problems),
    )
    stats, circuits = queue
    return Frame(
        at=time.time(), queue=stats, circuits=circuits, models=models, readings=readings, problems=sorted(problems)
    )


async def _queue(problems: list[str]) -> tuple[QueueStats | None, Sequence[CircuitView]]:
    from arriero.cli import redis_access
    from shared.resilience.circuit_admin import CircuitAdmin

    try:
        async with redis_access.queue() as queue:
            return await queue.stats(), await CircuitAdmin(queue.redis, queue.keys).circuits()
    except CommandFailed as exc:
        problems.append(str(exc))
        return None, ()


def _page(service: Literal["manager", "monitor"], path: str, problems: list[str]) -> Mapping[str, Any] | None:
    try:
        with Daemon(service, answer_s=LOOK_S) as daemon:
            return daemon.get(path)
    except CommandFailed as exc:
        problems.append(str(exc))
    except ApiError as exc:
        problems.append(f"the {service}: {describe(exc)[0]}")
    return None
