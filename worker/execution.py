"""One run of a job: choose where, call a backend, publish what it says, shape the answer, or say why not.

A run makes one counted call. What failed before came with the claim, so the next run, on whatever worker, goes on in
the itinerary (`worker.fallback`) where the last one stopped, and one number bounds the calls of a job: the tries.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from shared.backends.base import CallTimeouts
from shared.errors import (
    ArrieroError,
    BackendBusy,
    BackendError,
    BackendRejected,
    BackendTimeout,
    JobExpired,
    ModelLoading,
    revive,
)
from shared.queue.running import HandBack, RetryLater, RunningJob
from shared.resilience.answer_cache import AnswerCache, digest
from shared.resilience.backoff import RetryPolicy
from shared.resilience.budget import EMPTY_RETRY_S
from shared.resilience.response_cache import ResponseCache
from shared.services.registry import Registry
from shared.wire.canonical import (
    ChatRequest,
    CompletionRequest,
    EmbeddingAnswer,
    EmbeddingRequest,
    Request,
    TextAnswer,
)
from shared.wire.codec import decode_error, encode
from worker.batches import EmbeddingBatches, embed
from worker.choice import CallFailed, Choice, NothingFree, NothingInstalled, Trip
from worker.collecting import collect
from worker.fallback import FallbackPolicy, Route, limits, next_try_s, simplified, unsigned
from worker.guards import Guards
from worker.hosts import OUR_OLLAMA, Hosts, Lease
from worker.itineraries import Itineraries
from worker.itinerary import Origin
from worker.observation import Observation, ObservedCall
from worker.places import Places
from worker.scheduling.policy import Knobs

DEADLINE_MARGIN_S = 0.5
"""Kept back from a call's time limit, so that the timeout is still reported before the job expires."""
LEAST_PAUSE_S = 0.05
PAST_DEADLINE_S = 1.0
LOADING_PATIENCE = 10
"""Runs in which a model may say that it is still loading; from then on that counts as a failure."""
LOADING_PAUSE_CAP_S = 30.0
STAY_S = 300.0

Answer = TextAnswer | EmbeddingAnswer


class Execution:
    """The worker's job functions, one a kind; all share `run`."""

    def __init__(
        self,
        hosts: Hosts,
        *,
        timeouts: CallTimeouts,
        policy: RetryPolicy,
        observation: Observation,
        guards: Guards,
        fallback: FallbackPolicy | None = None,
        cache: AnswerCache | None = None,
        places: Places | None = None,
        responses: ResponseCache | None = None,
        itineraries: Itineraries | None = None,
        stay_s: Callable[[str], float] = lambda model: STAY_S,
    ) -> None:
        """`itineraries`: None for Ollama alone. `stay_s`: how long a model stays in memory after a call, seconds;
        below 0 for ever."""
        self._hosts = hosts
        self._timeouts = timeouts
        self._policy = policy
        self._observe = observation
        self._fallback = fallback or FallbackPolicy()
        self._guards = guards
        self._choice = Choice(hosts, guards, places or Places(None, hosts, Knobs()), tries=policy.tries)
        self._batches = EmbeddingBatches(self._call_one)
        self._cache = cache
        self._responses = responses
        self._itineraries = itineraries or Itineraries(Registry([OUR_OLLAMA]), self._fallback)
        self._stay_s = stay_s

    async def run(self, ctx: dict[str, Any], job: RunningJob) -> bytes:
        """The canonical answer in msgpack. Raises RetryLater, HandBack, or the error that ends the job."""
        self._observe.claimed(job)
        request = job.request()
        trip = Trip(
            job=job, request=request, itinerary=self._itineraries.of(job, request), failed=_failures(job), kind=job.kind
        )
        try:
            if job.batch is not None:
                answer: Answer = await self._batches.answer(trip, job.batch)
            else:
                answer = await self._call_one(trip)
        except NothingFree as nothing:
            cached = await self._cached(trip) if nothing.is_broken else None
            if cached is None:
                raise self._hand_back(trip, nothing.pause_s, nothing.reason) from None
            answer = cached
        except NothingInstalled as nothing:
            cached = await self._cached(trip)
            if cached is None:
                raise nothing.error from None
            answer = cached
        except CallFailed as failed:
            answer = await self._after(failed, trip)
        else:
            if self._responses is not None and trip.is_as_asked:
                self._responses.keep(job, answer)
        self._observe.exchanged(request, answer)
        return encode(answer)

    # -- one call ---------------------------------------------------------------------------------------------------

    async def _call_one(self, trip: Trip) -> Answer:
        """The answer of the first host that takes the call. A host without the model has not taken it."""
        while True:
            route, admission = await self._choice.choose(trip)
            verdict: BaseException | None = None
            try:
                await self._pay(trip, route)
                answer = await self._ask(trip, route)
                self._hosts.served(route.host)
                return answer
            except ArrieroError as error:
                verdict = error
                if self._choice.lacks_model(trip, route, error):
                    continue
                if isinstance(error, BackendBusy):
                    self._hosts.busy(route.host, error.retry_after_s)
                if not isinstance(error, BackendError):
                    raise  # the job's own end, such as its deadline
                raise CallFailed(route, error) from error
            except BaseException as stopped:
                verdict = stopped
                raise
            finally:
                ask = self._hosts.asks_loaded(route) if isinstance(verdict, BackendTimeout) else None
                under_way = self._hosts.under_way(route)
                self._guards.ended(admission, route, verdict, ask=ask, full_wait=trip.full_wait, under_way=under_way)

    async def _pay(self, trip: Trip, route: Route) -> None:
        """A retry is paid for from the budget that all workers share. Raises HandBack when it is spent."""
        if trip.failed and not await self._guards.may_retry(route):
            raise self._hand_back(trip, EMPTY_RETRY_S * random.uniform(0.5, 1.5), "retry budget spent")

    async def _ask(self, trip: Trip, route: Route) -> Answer:
        job, request = trip.job, trip.request
        step = trip.steps[route]
        is_stand_in = step.origin is Origin.STAND_IN
        usual = self._hosts.timeouts(route, self._timeouts)
        left = job.time_left_s
        if left <= 0:
            raise JobExpired
        timeouts = limits(
            usual, left, self._fallback, margin_s=DEADLINE_MARGIN_S, is_fallback=is_stand_in,
            is_last=trip.is_last(route, self._policy.tries),
        )  # fmt: skip
        usual_s = min(usual.total_s, self._fallback.timeout_s) if is_stand_in else usual.total_s
        trip.timeouts, trip.is_cut = timeouts, timeouts.total_s < usual_s
        trip.full_wait = timeouts.first_byte_s >= usual.first_byte_s
        if is_stand_in:
            capabilities = await self._hosts.capabilities(route)
            request = simplified(request, route.model, self._fallback, capabilities)
        if not trip.is_asked(route):
            request = unsigned(request)
        job.notes.backend, job.notes.model = route.host, route.model
        # The manager decides how long models stay, not the caller.
        request = replace(request, model=step.model, keep_alive=self._stay_s(step.model))
        with self._hosts.lease(route, local_only=job.local_only) as lease, self._observe.call(job, request) as seen:
            try:
                answer = await self._call(lease, trip, request, timeouts, seen)
            except BackendTimeout as error:
                if _ran_out_of_time(error, trip):
                    seen.out_of_time()
                raise
        answer.backend, answer.service = route.host, step.service
        asked = trip.itinerary.asked
        if not trip.is_asked(route):
            if isinstance(answer, TextAnswer):
                answer.fallback_from = asked.model if step.service == asked.service else asked.qualified
            self._observe.fell_back("model" if step.service == asked.service else "service", asked, step)
        elif trip.failed and trip.failed[-1].host != route.host:
            self._observe.fell_back("host", asked, step)
        trip.is_as_asked = trip.is_asked(route)
        self._remember(trip, answer)
        return answer

    @staticmethod
    async def _call(lease: Lease, trip: Trip, request: Request, timeouts: CallTimeouts, seen: ObservedCall) -> Answer:
        backend, job = lease.backend, trip.job
        match request:
            case EmbeddingRequest():
                vectors = await embed(backend, request, request_id=trip.request_id or job.id, timeouts=timeouts)
                seen.answered(vectors.usage, vectors.timings)
                return vectors
            case ChatRequest():
                stream = backend.chat(request, request_id=job.id, timeouts=timeouts)
            case CompletionRequest():
                stream = backend.complete(request, request_id=job.id, timeouts=timeouts)
        return await collect(stream, job, request.model, seen, lease.answers)

    # -- after a failure --------------------------------------------------------------------------------------------

    async def _after(self, failed: CallFailed, trip: Trip) -> Answer:
        """The cached answer where nothing else is left. Raises RetryLater, HandBack, or the error that ends the job."""
        job, error = trip.job, failed.error
        # A stream that its client has begun to read is not begun again behind its back, by whatever model.
        repeatable = job.published == 0 or job.restartable
        if isinstance(error, ModelLoading) and repeatable and job.attempt <= LOADING_PATIENCE:
            pause_s = min(LOADING_PAUSE_CAP_S, (error.retry_after_s or 1.0) * 2.0 ** (job.attempt - 1))
            raise self._hand_back(trip, pause_s, "the model is loading") from error
        if _ran_out_of_time(error, trip):
            if (cached := await self._cached(trip)) is not None:
                return cached
            raise self._hand_back(trip, job.time_left_s + PAST_DEADLINE_S, "no time left") from error
        trip.failed.append(failed.route)
        await self._choice.look_elsewhere(trip)
        legs = self._choice.legs(trip, job.attempt + 1)
        delay_s = next_try_s(
            error, trip.failed, legs, self._policy, repeatable=repeatable, unit=random.random(),
            doubted=self._hosts.doubted(),
        )  # fmt: skip
        if delay_s is not None and delay_s < job.time_left_s:
            self._unsay(job)
            raise RetryLater(error, delay_s) from error
        if repeatable and error.retryable and (cached := await self._cached(trip)) is not None:
            return cached
        raise _blamed(error, failed.route, trip) from error

    def _hand_back(self, trip: Trip, delay_s: float, reason: str) -> HandBack:
        """Costs the job nothing. Should its deadline come first, it expires."""
        self._unsay(trip.job)
        return HandBack(delay_s=max(LEAST_PAUSE_S, delay_s), reason=reason)

    @staticmethod
    def _unsay(job: RunningJob) -> None:
        # Deltas that have not left this process yet must not be flushed by the settlement: nobody saw them.
        if job.pending and not job.published:
            job.outbox.forget(job)

    # -- cached answers ---------------------------------------------------------------------------------------------

    def _digest(self, trip: Trip) -> str | None:
        service, job = trip.itinerary.asked.service, trip.job
        return digest(job.tenant, trip.kind, service, trip.request, no_store=job.no_store or job.local_only)

    def _remember(self, trip: Trip, answer: Answer) -> None:
        if self._cache is not None and isinstance(answer, TextAnswer) and (name := self._digest(trip)) is not None:
            self._cache.keep(name, answer)

    async def _cached(self, trip: Trip) -> TextAnswer | None:
        if self._cache is None or not self._fallback.enabled or (name := self._digest(trip)) is None:
            return None
        answer = await self._cache.get(name)
        if answer is not None:
            self._unsay(trip.job)
            self._observe.fell_back("cache", trip.itinerary.asked)
        return answer


def _failures(job: RunningJob) -> list[Route]:
    """Where the earlier tries failed. One without notes still counts as a try."""
    known = [Route(notes.backend, notes.model) for notes in job.past]
    return [*known, *[Route("", "")] * (job.failures - len(known))]


def _ran_out_of_time(error: ArrieroError, trip: Trip) -> bool:
    """Whether the job's own deadline ended the call: then the job expires, which says more than a failed backend."""
    limits = trip.timeouts
    if not (isinstance(error, BackendTimeout) and limits is not None and trip.is_cut):
        return False
    return error.limit == "total" or limits.first_byte_s >= limits.total_s


def _blamed(error: ArrieroError, route: Route, trip: Trip) -> ArrieroError:
    """What ends the job. A fallback model's refusal says nothing about the caller's request: its first failure does."""
    if isinstance(error, BackendRejected) and not trip.is_asked(route):
        for notes in trip.job.past:
            record = decode_error(notes.error)
            if record is not None:
                return revive(record)
    return error
