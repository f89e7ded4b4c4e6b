"""From a validated request to its job's end: the one road every inference route takes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

from aiohttp import web

from gateway.replies import Subscription
from gateway.services import JOB_HEADERS, Services
from shared.errors import ArrieroError, ErrorRecord, JobCancelled, JobExpired, JobNotFound, Overloaded, QueueUnavailable
from shared.jobs import NewJob, State
from shared.queue.client import Accepted
from shared.wire.canonical import EmbeddingAnswer, TextAnswer
from shared.wire.codec import decode_answer
from shared.wire.events import Ended

AFTER_DEADLINE_S = 10.0
"""The queue ends a late job itself; only if even that does not arrive, the gateway gives up on its own."""


class JobFailed(ArrieroError):
    """A job's own failure, passed on as it was recorded."""

    def __init__(self, record: ErrorRecord) -> None:
        super().__init__(record.message, param=record.param, retry_after_s=record.retry_after_s)
        # The worker has tried again as often as it is worth; a client that did the same would multiply the calls.
        self._record = replace(record, retryable=record.retryable and record.retry_after_s is not None)

    def record(self) -> ErrorRecord:
        return self._record


def failure(state: State, error: ErrorRecord | None) -> ErrorRecord:
    """The error of a job that did not succeed; its state says what happened if nothing else was recorded."""
    if error is not None:
        return error
    if state is State.CANCELLED:
        return JobCancelled().record()
    if state is State.EXPIRED:
        return JobExpired().record()
    return ArrieroError("The job failed, and no reason was recorded.").record()


class Ticket:
    """A job someone waits for. `abandonable`: it is cancelled when that someone goes away."""

    def __init__(self, services: Services, job: NewJob, subscription: Subscription, *, abandonable: bool) -> None:
        self.job = job
        self.events = subscription
        self._services = services
        self._abandonable = abandonable

    def abandon(self) -> None:
        """The client is gone."""
        # While draining it is we who left: the job runs on, and its answer stays readable.
        if self._abandonable and not self._services.draining:
            self._services.abandoned.add(self.job.id)

    async def ended(self) -> Ended:
        """Wait for the end. Raises JobExpired long after the deadline."""
        end = await self.events.ended(self.job.timeout_s + AFTER_DEADLINE_S)
        if end is None:
            raise JobExpired()
        return end

    def answer(self, end: Ended) -> TextAnswer | EmbeddingAnswer:
        """The answer in a job's end. Raises JobFailed when there is none."""
        if end.state is not State.SUCCEEDED or end.result is None:
            raise JobFailed(failure(end.state, end.error))
        return decode_answer(self.job.kind, end.result)


@contextlib.asynccontextmanager
async def submitted(services: Services, request: web.Request, job: NewJob, *, keyed: bool) -> AsyncIterator[Ticket]:
    """Put a job in the queue and wait for its events inside the block. A client that leaves the block by going away
    ends the job.

    `keyed`: it has an Idempotency-Key. Then it may be a repetition, which joins the running job; and it is not
    cancelled with its client, which sent the key in order to be able to come back.
    """
    job.reply_to = services.replies.gateway_id
    # Before the job exists, so that no event can be missed.
    subscription = services.replies.expect(job.id)
    ticket = Ticket(services, job, subscription, abandonable=not keyed)
    try:
        if (await enqueue(services, job)).duplicate:
            subscription.close()
            joined = await services.replies.attach(job.id)
            if joined is None:
                raise JobNotFound()
            ticket.events = joined
        request[JOB_HEADERS] = {"x-arriero-job-id": job.id}
        yield ticket
    except (asyncio.CancelledError, ConnectionError, QueueUnavailable):
        # Also when Redis did not answer in time: it may have taken the job all the same, and nobody waits for it.
        ticket.abandon()
        raise
    finally:
        ticket.events.close()


async def enqueue(services: Services, job: NewJob) -> Accepted:
    """Enqueue, and count it. Raises what `QueueClient.enqueue` raises."""
    try:
        accepted = await services.queue.enqueue(job)
    except ArrieroError as error:
        count(services, job, error)
        raise
    count(services, job, accepted)
    return accepted


def count(services: Services, job: NewJob, outcome: Accepted | ArrieroError) -> None:
    """Count what became of a job that was to be enqueued."""
    if isinstance(outcome, Accepted):
        word = "duplicate" if outcome.duplicate else "accepted"
    else:
        word = "overloaded" if isinstance(outcome, Overloaded) else "refused"
    services.meter.enqueued(job.kind, job.priority, word)


def note_end(request: web.Request, job: NewJob, end: Ended, answer: TextAnswer | EmbeddingAnswer | None = None) -> None:
    """Put what is known about the job at its end on the answer's headers."""
    headers = {
        "x-arriero-job-id": job.id,
        "x-arriero-queue-ms": str(end.queue_ms),
        "x-arriero-attempts": str(end.attempts),
    }
    if answer is not None:
        headers["x-arriero-model"] = answer.model
    if isinstance(answer, TextAnswer):
        if answer.fallback_from:
            headers["x-arriero-fallback"] = f"{answer.fallback_from}->{answer.model}"
        if answer.cached:
            headers["x-cache"] = "stale"
    request[JOB_HEADERS] = headers
