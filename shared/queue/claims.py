"""Taking jobs from the queue: one call for all free slots, and a way back for what it took when its answer is lost."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
from redis.exceptions import RedisError

from shared.lua import Field
from shared.queue.outbox import Outbox
from shared.queue.plans import Planner, read_view
from shared.queue.records import notes_of
from shared.queue.running import Batch, RunningJob, Verdict
from shared.queue.scripts import Scripts

log = structlog.get_logger()

SUSPECT_PAUSE_MS = 1000
_NOTHING = msgspec.Raw(b"")

Claimed = tuple[RunningJob, bytes]
"""A job and its payload."""


@dataclass(slots=True, frozen=True)
class Taken:
    """What a claim brought. `due_s`: until something in the queue is due; `replanned`: another plan holds now."""

    jobs: Sequence[Claimed]
    due_s: float
    replanned: bool


class Claims:
    """Claims for one worker, by its planner's plan. `running` are the jobs it runs already."""

    def __init__(
        self,
        scripts: Scripts,
        outbox: Outbox,
        planner: Planner,
        running: Mapping[str, RunningJob],
        *,
        worker_id: str,
        lease_ms: int,
    ) -> None:
        self._scripts = scripts
        self._outbox = outbox
        self._planner = planner
        self._running = running
        self._worker_id = worker_id
        self._lease_ms = lease_ms
        self._lost: list[str] = []
        """Seeds of claims whose answer never came."""

    async def take(self, want: int, *, within_s: float) -> Taken:
        """Up to `want` calls' jobs; `within_s` is the longest that the caller will wait for what is due. Raises
        RedisError, OSError."""
        await self.disown_lost()
        seed = secrets.token_hex(8)
        if self._planner.must_look():
            _, view = await self._run(seed, 0, within_s, look=True)
            self._planner.see(read_view(view))
        try:
            due_ms, view, *rows = await self._run(seed, want, within_s, look=self._planner.wants_view())
            jobs = await self._one_suspect(self._read_all(rows))
        except (RedisError, OSError, asyncio.CancelledError):
            self._lost.append(seed)  # it may have happened: those jobs must not wait for their lease to end
            raise
        return Taken(jobs, due_ms / 1000, replanned=bool(view) and self._planner.see(read_view(view)))

    async def _run(self, seed: str, want: int, within_s: float, *, look: bool) -> Any:
        horizon_ms, plan = int(within_s * 1000), self._planner.packed()
        return await self._scripts.run(
            "claim", self._worker_id, seed, want, self._lease_ms, horizon_ms, plan, "1" if look else ""
        )

    async def _one_suspect(self, claimed: Sequence[Claimed]) -> Sequence[Claimed]:
        """What of a claim to run here: a poison job takes the jobs beside it down, and they come back together. So that
        they are not set aside with it, a worker runs one suspect at a time; the others go back, at no cost, before it
        starts.
        """
        if not any(job.is_suspect for job, _ in claimed):
            return claimed
        taken = any(job.is_suspect for job in self._running.values())
        chosen: list[Claimed] = []
        fields: list[Field] = []
        for job, payload in claimed:
            if job.is_suspect and taken:
                fields += (job.id, job.token, Verdict.RELEASED, b"", b"", SUSPECT_PAUSE_MS, b"")
                continue
            taken = taken or job.is_suspect
            chosen.append((job, payload))
        if fields:
            await self._scripts.run("settle", *fields)
        return chosen

    async def disown_lost(self) -> None:
        """Hand back what lost claims took. Raises RedisError, OSError; then they are still to be disowned."""
        while self._lost:
            back = await self._scripts.run("disown", self._lost[-1], self._lease_ms)
            log.info("queue.claim_disowned", jobs=back)
            self._lost.pop()

    def _read_all(self, rows: Sequence[Sequence[Any]]) -> list[Claimed]:
        batches: dict[int, Batch] = {}
        now = asyncio.get_running_loop().time()
        return [self._read(row, batches, now) for row in rows]

    def _read(self, row: Sequence[Any], batches: dict[int, Batch], now: float) -> Claimed:
        """A claim's row, read at `now` in the loop's time; the jobs of one batch get the same object."""
        job_id, token, payload, attempt, failures, created_ms, deadline_ms, now_ms, keeps_events, crashes = row[:10]
        slot, batch, *past = row[10:]
        host, _, unit = slot.partition(b"|")
        job = RunningJob(
            id=job_id.decode(),
            kind="",
            token=token.decode(),
            attempt=attempt,
            failures=failures,
            enqueued_ms=created_ms,
            claimed_ms=now_ms,
            deadline=now + (deadline_ms - now_ms) / 1000,
            keeps_events=keeps_events == b"1",
            restartable=False,
            raw_request=_NOTHING,
            outbox=self._outbox,
            crashes=crashes,
            host=host.decode(),
            unit=unit.decode(),
            batch=batches.setdefault(batch, Batch()) if batch else None,
            past=[notes_of(ended) for ended in past],
        )
        return job, payload
