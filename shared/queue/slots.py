"""Slots: how many calls a host, and a unit on it, have under way over all workers.

A claim gives a job the slot it starts with; here one is moved when the job is served elsewhere. A slot is part of the
job's record and is given back by whatever ends the run, a lapsed lease included.
"""

from __future__ import annotations

from shared.queue.running import RunningJob
from shared.queue.scripts import Scripts


class Slots:
    """Moves slots of this worker's jobs."""

    def __init__(self, scripts: Scripts) -> None:
        self._scripts = scripts

    async def move(
        self, job: RunningJob, host: str, unit: str, *, unit_calls: int, shared_calls: int, host_calls: int
    ) -> bool:
        """Hold one call there instead. False, and all as before, when so many are under way there already; jobs of
        other classes than high must make do with `shared_calls` of the unit.

        A job whose lease is lost may go on: its end is refused anyway.
        """
        taken = await self._scripts.run(
            "take_slot", job.id, job.token, host, unit, unit_calls, shared_calls, host_calls
        )  # fmt: skip
        if taken == 0:
            return False
        job.host, job.unit = host, unit
        return True
