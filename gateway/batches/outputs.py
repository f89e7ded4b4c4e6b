"""How far a batch is, and its output, from its jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

from gateway.batches.lines import output_line
from gateway.batches.model import LOST, OUTCOMES, SUCCEEDED, UNFINISHED, Batch, Progress
from gateway.batches.store import BatchStore
from shared.queue.client import QueueClient

AT_A_TIME = 200
"""Jobs looked at with one call."""
ANSWERS_AT_A_TIME = 50


async def advanced(queue: QueueClient, store: BatchStore, batch: Batch, progress: Progress) -> Progress:
    """The progress as it is now. Only jobs that had not ended are looked at; what is new is written down."""
    if progress.is_over:
        return progress
    outcomes, ended_at = list(progress.outcomes), progress.ended_at
    waiting = progress.unfinished
    for start in range(0, len(waiting), AT_A_TIME):
        places = waiting[start : start + AT_A_TIME]
        records = await queue.get_many([batch.job_id(place) for place in places], results=False)
        for place, record in zip(places, records, strict=True):
            outcomes[place] = LOST if record is None else OUTCOMES.get(record.state, UNFINISHED)
            if record is not None and record.ended_at is not None:
                ended_at = max(ended_at, int(record.ended_at))
    now = replace(progress, outcomes="".join(outcomes), ended_at=ended_at or batch.created_at)
    if now.outcomes != progress.outcomes:
        await store.note(batch, now)
    return now


async def output(queue: QueueClient, batch: Batch, progress: Progress, *, errors: bool) -> AsyncIterator[bytes]:
    """The lines of a batch's output, or of its errors, some at a time."""
    places = [
        place
        for place, outcome in enumerate(progress.outcomes)
        if outcome != UNFINISHED and (outcome != SUCCEEDED) is errors
    ]
    for start in range(0, len(places), ANSWERS_AT_A_TIME):
        some = places[start : start + ANSWERS_AT_A_TIME]
        records = await queue.get_many([batch.job_id(place) for place in some])
        yield b"".join(
            output_line(batch, place, record, progress.outcomes[place])
            for place, record in zip(some, records, strict=True)
        )
