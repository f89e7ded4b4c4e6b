"""From a validated request to its job's end: the one road every inference route takes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from msgspec.json import Decoder
from pydantic import BaseModel

from gateway import request_options
from gateway.answers import job_headers, route_headers
from gateway.replies import Subscription
from gateway.request import GatewayRequest
from gateway.routing_inputs import Ask, Wish
from gateway.services import Services
from shared.errors import ArrieroError, ErrorRecord, JobCancelled, JobExpired, JobNotFound, Overloaded, QueueUnavailable
from shared.jobs import Kind, NewJob, State, new_job_id
from shared.queue.arrivals import Accepted
from shared.resilience.response_cache import Hit, is_repeatable, response_name
from shared.routes import Route
from shared.services.names import TILDE
from shared.usage.sizes import size_of
from shared.wire.canonical import EmbeddingAnswer, EmbeddingRequest, Request, TextAnswer
from shared.wire.codec import decode_answer
from shared.wire.events import Ended
from shared.wire.openai_plain import PlainChat

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


NO_WISH = Wish()


@dataclass(frozen=True, slots=True)
class Face:
    """How one inference route reads its body and writes its answer.

    `plain`: reads the body of most calls from its bytes, see `shared.wire.openai_plain`.
    """

    kind: Kind
    body: type[BaseModel]
    to_canonical: Callable[[Any], Request]
    wish: Callable[[Any], Wish] = lambda body: Wish()
    """Where and how privately the body wants to be answered; only bodies of our own faces say."""
    fills_in: bool = True
    """OLLAMA_TEMPERATURE and OLLAMA_MAX_TOKENS hold for requests that say none. Clients of Ollama and Anthropic expect
    what their own servers would do."""
    plain: Decoder[PlainChat] | None = None

    def read(self, body: Any) -> tuple[Request, Wish]:
        """The request in a checked body of either form, and what it wants beside; the plain one has no words for it."""
        if isinstance(body, PlainChat):
            return body.to_canonical(), NO_WISH
        return self.to_canonical(body), self.wish(body)


def as_ask(request: GatewayRequest, canonical: Request, wish: Wish) -> Ask:
    """What routing is asked. Raises BadRequest for headers that cannot be followed."""
    headers, settings = request.headers, request.services.settings
    return Ask(
        name=canonical.model,
        request=canonical,
        service=request_options.provider(headers, wish.service),
        is_private=request_options.is_private(headers, wish.private, settings.private_by_default),
    )


async def routed(request: GatewayRequest, face: Face, body: Any) -> tuple[Request, Route]:
    """The canonical request of a validated body, and where it may go. It asks for the first candidate's model, and has
    the defaults that hold there. Raises what `as_ask` and `decide` raise."""
    services = request.services
    canonical, wish = face.read(body)
    route = await services.router.route(as_ask(request, canonical, wish))
    canonical.model = route.candidates[0].model
    if face.fills_in and not isinstance(canonical, EmbeddingRequest) and services.router.is_local(route):
        services.settings.fill_in(canonical.sampling)
    return canonical, route


async def as_job(request: GatewayRequest, face: Face, body: Any, data: object) -> tuple[NewJob, bool]:
    """The job for a validated body, and whether it carries an Idempotency-Key. Raises what `routed` raises."""
    services = request.services
    settings = services.settings
    tenant = request.caller.tenant
    headers = request.headers
    key = request_options.idempotency_key(headers)
    streams = bool(body.streams)
    comes_back = key is not None or request_options.wants_no_wait(headers)
    canonical, route = await routed(request, face, body)
    job = NewJob(
        id=new_job_id() if key is None else request_options.idempotent_job_id(tenant, key),
        kind=face.kind,
        model=canonical.model,
        request=canonical,
        route=route,
        local_only=route.local_only,
        tenant=tenant,
        cost=services.estimates.current.cost(face.kind, canonical.model, size_of(canonical)),
        timeout_s=request_options.deadline_s(headers, settings.request_timeout, silent=not (streams or comes_back)),
        retention_s=settings.sync_result_ttl if key is None else settings.result_ttl,
        # With a key, a repetition may join in the middle.
        keep_events=streams or (key is not None and face.kind is not Kind.EMBEDDING),
        request_id=request.request_id,
        fingerprint="" if key is None else request_options.fingerprint(face.kind, data),
        no_store=request_options.wants_no_copy(headers),
    )
    if may_cache(settings.response_cache, headers, canonical) and not (job.local_only or job.no_store):
        job.cache_as = response_name(tenant, face.kind, route.candidates[0].service, canonical)
    return job, key is not None


def may_cache(mode: Literal["never", "on_request", "always"], headers: Mapping[str, str], canonical: Request) -> bool:
    """Whether the request may be answered from the response cache, and its answer kept there. `mode`: RESPONSE_CACHE.
    Raises BadRequest for a header that cannot be followed."""
    asked_for = request_options.is_cache_asked_for(headers)
    return mode != "never" and (asked_for or (mode == "always" and is_repeatable(canonical)))


class Ticket:
    """A job someone waits for. `abandonable`: it is cancelled when that someone goes away."""

    def __init__(self, services: Services, job: NewJob, subscription: Subscription, *, abandonable: bool) -> None:
        self.job = job
        self.events = subscription
        self.hit: Hit | None = None
        """The cached answer, and no job."""
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
async def submitted(services: Services, request: GatewayRequest, job: NewJob, *, keyed: bool) -> AsyncIterator[Ticket]:
    """Put a job in the queue and wait for its events inside the block. A client that leaves the block by going away
    ends the job.

    `keyed`: it has an Idempotency-Key. Then it may be a repetition, which joins the running job; and it is not
    cancelled with its client, which sent the key in order to be able to come back. Its answer stands for that one job,
    so it is not taken from the response cache.
    """
    if job.cache_as and not keyed and (hit := await _cached(services, request, job)) is not None:
        with services.replies.expect(job.id) as subscription:
            subscription.feed(Ended(state=State.SUCCEEDED, result=hit.answer))
            ticket = Ticket(services, job, subscription, abandonable=False)
            ticket.hit = hit
            yield ticket
        return
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
        request.job_headers = job_headers(ticket.job)
        yield ticket
    except (asyncio.CancelledError, ConnectionError, QueueUnavailable):
        # Also when Redis did not answer in time: it may have taken the job all the same, and nobody waits for it.
        ticket.abandon()
        raise
    finally:
        ticket.events.close()


async def _cached(services: Services, request: GatewayRequest, job: NewJob) -> Hit | None:
    oldest_s = request_options.oldest_s(request.headers)
    hit = None
    if oldest_s > 0:
        hit = await services.responses.get(job.tenant, job.kind, job.cache_as, oldest_s=oldest_s)
        services.metrics.response_cache.labels("miss" if hit is None else "hit").inc()
    return hit


async def enqueue(services: Services, job: NewJob) -> Accepted:
    """Enqueue, and count it. Raises what `QueueClient.enqueue` raises."""
    try:
        accepted = await services.queue.enqueue(job)
    except ArrieroError as error:
        count(services, job, error)
        if isinstance(error, Overloaded):
            await services.load.put_right(error)
        raise
    count(services, job, accepted)
    return accepted


def count(services: Services, job: NewJob, outcome: Accepted | ArrieroError) -> None:
    """Count what became of a job that was to be enqueued."""
    if isinstance(outcome, Accepted):
        word = "duplicate" if outcome.duplicate else "accepted"
    else:
        word = "overloaded" if isinstance(outcome, Overloaded) else "refused"
    services.metrics.jobs.counts[job.kind, job.priority, word] += 1


def note_end(
    request: GatewayRequest, ticket: Ticket, end: Ended, answer: TextAnswer | EmbeddingAnswer | None = None
) -> None:
    """Put what is known about the job at its end on the answer's headers."""
    if ticket.hit is not None:
        headers = {**route_headers(ticket.job), "x-cache": "hit", "Age": str(int(ticket.hit.age_s))}
    else:
        headers = {
            **job_headers(ticket.job),
            "x-arriero-queue-ms": str(end.queue_ms),
            "x-arriero-attempts": str(end.attempts),
        }
    if answer is not None:
        headers["x-arriero-model"] = answer.model
        if answer.service:
            headers["x-arriero-service"] = answer.service
    if isinstance(answer, TextAnswer):
        if answer.fallback_from:
            used = f"{answer.service}{TILDE}{answer.model}" if TILDE in answer.fallback_from else answer.model
            headers["x-arriero-fallback"] = f"{answer.fallback_from}->{used}"
        if answer.cached:
            headers["x-cache"] = "stale"
    request.job_headers = headers


async def answered(request: GatewayRequest, ticket: Ticket) -> TextAnswer | EmbeddingAnswer:
    """The whole answer, noted on the headers. Raises JobFailed and JobExpired."""
    end = await ticket.ended()
    if end.state is not State.SUCCEEDED:
        note_end(request, ticket, end)
    answer = ticket.answer(end)
    note_end(request, ticket, end, answer)
    return answer
