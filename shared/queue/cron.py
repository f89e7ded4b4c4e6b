"""arq's schedules on our queue: what is due is enqueued once, however many workers know the schedule.

arq would put such a job where nothing of ours looks. Here it goes through the same door as every other, under an id
made of its kind and the second it was due, so the first worker to notice enqueues it and the others meet a job that is
there already. Schedules are in UTC: workers in several time zones agree, and no hour is missing or double.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from arq.cron import CronJob, cron

from shared.errors import ArrieroError
from shared.jobs import Kind, NewJob
from shared.queue.client import QueueClient
from shared.queue.running import JobFunction

log = structlog.get_logger()

RETENTION_S = 86400.0
"""How long a run's id is remembered, and so how far apart the workers' clocks may be."""


@dataclass(slots=True, frozen=True, kw_only=True)
class CronEntry:
    """A job that comes by the clock, in UTC. None: every hour, every minute. `request` is what the job is given."""

    kind: Kind
    run: JobFunction
    request: object
    hour: int | None = None
    minute: int | None = 0
    second: int | frozenset[int] = 0
    tenant: str = "default"
    timeout_s: float = 3600.0

    def as_arq(self) -> CronJob:
        return cron(
            self.run,  # type: ignore[arg-type]  # arq calls it with ctx alone, our engine with the job as well
            name=self.kind,
            hour=self.hour,
            minute=self.minute,
            second=self.second if isinstance(self.second, int) else set(self.second),
        )


class Schedule:
    """One worker's view of what is due. Turns that were missed, all but the latest, are not made up for."""

    def __init__(self, entries: Sequence[CronEntry], queue: QueueClient) -> None:
        self._queue = queue
        self._entries = [(entry, entry.as_arq()) for entry in entries]

    @property
    def jobs(self) -> list[CronJob]:
        """For arq's own list of functions."""
        return [job for _, job in self._entries]

    async def turn(self, now: datetime) -> None:
        """Enqueue what is due at `now`. What could not be stored is tried again at the next turn."""
        now = now.astimezone(UTC)
        for entry, job in self._entries:
            if job.next_run is None:
                job.calculate_next(now)
            if job.next_run is None or job.next_run > now:
                continue
            due = int(job.next_run.timestamp())
            try:
                accepted = await self._queue.enqueue(
                    NewJob(
                        id=f"cron_{entry.kind}_{due}", kind=entry.kind, model="", request=entry.request,
                        tenant=entry.tenant, timeout_s=entry.timeout_s, retention_s=RETENTION_S,
                    )
                )  # fmt: skip
            except ArrieroError as error:
                log.warning("cron.not_enqueued", kind=entry.kind, error=error.code)
                continue
            log.info("cron.enqueued", kind=entry.kind, due=due, duplicate=accepted.duplicate)
            job.calculate_next(now)
