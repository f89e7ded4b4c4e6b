"""What a worker counts and logs about its jobs."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from functools import cache, partial
from types import TracebackType
from typing import Self
from zlib import crc32

import msgspec
import psutil
import structlog

from shared.errors import ArrieroError, ErrorRecord, JobExpired, ModelNotFound, shown
from shared.queue.running import RunningJob
from shared.resilience.breaker import BreakerState
from shared.resilience.circuits import CircuitView, split_name
from shared.usage.fields import Call
from shared.usage.recorder import UsageRecorder
from shared.usage.sizes import size_of
from shared.wire.canonical import EmbeddingAnswer, Request, TextAnswer, Timings, Usage
from worker.itinerary import Step
from worker.metrics import WorkerMetrics

log = structlog.get_logger()

LOAD_FROM_S = 0.05
"""A load time below this is the server's bookkeeping for a model it has in memory."""
STATUS = {"queued": "released", "scheduled": "retried", "!": "lost"}
"""What a run that did not end its job counts as."""


class Observation:
    """Fills the worker's metrics and the fleet's figures. Called in the hot path: no I/O, no formatting."""

    def __init__(
        self,
        metrics: WorkerMetrics,
        usage: UsageRecorder | None = None,
        *,
        sample_rate: float = 0.0,
        log_prompts: bool = False,
    ) -> None:
        """`sample_rate`: share of jobs, 0 to 1, whose figures are logged though all went well. `log_prompts`: write
        requests and answers into debug lines."""
        self._sample_rate = sample_rate
        self._log_prompts = log_prompts
        self.metrics = metrics
        self.usage = usage
        self._worker = metrics.worker_id
        self._process = psutil.Process()
        self._stale_writes = 0
        self._lost_leases = 0
        # Looked up once for each label: that costs more than to count.
        self._wait = metrics.queue_wait.labels(self._worker)
        self._prompt_tokens = metrics.tokens.labels(self._worker, "prompt")
        self._completion_tokens = metrics.tokens.labels(self._worker, "completion")
        self._first_token_by_model = cache(partial(metrics.time_to_first_token.labels, self._worker))
        self._duration_by_model = cache(partial(metrics.duration.labels, self._worker))
        self._requests_by_model_and_status = cache(partial(metrics.requests.labels, self._worker))

    def claimed(self, job: RunningJob) -> None:
        self._wait.observe(job.queue_wait_s)

    def call(self, job: RunningJob, request: Request) -> ObservedCall:
        """`with observation.call(job, request) as seen:` around one call of what the job's notes name."""
        return ObservedCall(self, job, request)

    def first_token(self, job: RunningJob, seconds: float) -> None:
        self._first_token_by_model(self.metrics.model_label(job.notes.model)).observe(seconds)

    def exchanged(self, request: Request, answer: TextAnswer | EmbeddingAnswer) -> None:
        """What was asked and said, for those who chose to have it in their logs."""
        if self._log_prompts:
            said = answer.content if isinstance(answer, TextAnswer) else f"{len(answer.vectors)} vectors"
            log.debug("job.exchange", request=msgspec.json.encode(request).decode(), answer=said)

    def circuit_changed(self, name: str, state: BreakerState) -> None:
        """This process noticed that a circuit changed its state."""
        circuit, host = split_name(name)
        self.metrics.circuit_changes.labels(self._worker, self.metrics.circuits.label(circuit), host, state).inc()

    def fell_back(self, means: str, asked: Step, served: Step | None = None) -> None:
        """A job was served by other means than asked: another `host`, `model` or `service`, the `cache`."""
        self.metrics.fallbacks.labels(self._worker, means).inc()
        log.info("job.fell_back", means=means, asked=asked.qualified, served=served and served.qualified)

    def answered(self, job: RunningJob, usage: Usage, timings: Timings) -> None:
        job.usage = usage
        self._prompt_tokens.inc(usage.prompt_tokens)
        self._completion_tokens.inc(usage.completion_tokens)
        if timings.load_s >= LOAD_FROM_S:
            model = self.metrics.model_label(job.notes.model)
            self.metrics.model_load.labels(self._worker, model).observe(timings.load_s)

    def settled(self, job: RunningJob, state: str, seconds: float, error: ErrorRecord | None) -> None:
        """The run is over; `state` is the job's state now, or `!`."""
        model = self.metrics.model_label(job.notes.model or "unknown")
        handed_back = state == "scheduled" and not (error is not None and error.code)
        status = "released" if handed_back else STATUS.get(state, _status(state))
        self._requests_by_model_and_status(model, status).inc()
        self._duration_by_model(model).observe(seconds)
        if error is not None and error.code and state not in ("cancelled", "queued"):
            said = error.message if self._log_prompts else shown(error)
            log.warning("job.failed", **_figures(job, state, seconds), code=error.code, error=said)
        elif is_sampled(job.id, self._sample_rate):
            log.info("job.settled", **_figures(job, state, seconds))
        elif log.is_enabled_for(logging.DEBUG):
            log.debug("job.settled", **_figures(job, state, seconds))

    def refresh(
        self,
        *,
        models_loaded: int,
        in_flight: int,
        stale_writes: int,
        lost_leases: int,
        circuits: Sequence[CircuitView],
    ) -> None:
        """Take readings for the metrics page."""
        m, worker = self.metrics, self._worker
        m.models_loaded.labels(worker).set(models_loaded)
        m.in_flight.labels(worker).set(in_flight)
        m.memory_usage.labels(worker).set(self._process.memory_info().rss)
        m.stale_writes.labels(worker).inc(stale_writes - self._stale_writes)
        m.lost_leases.labels(worker).inc(lost_leases - self._lost_leases)
        m.circuits.show((*split_name(circuit.name), circuit.state) for circuit in circuits)
        self._stale_writes, self._lost_leases = stale_writes, lost_leases


class ObservedCall:
    """One call of a backend, from its start to its end."""

    __slots__ = (
        "_began",
        "_chars_in",
        "_first_token_s",
        "_is_cut",
        "_job",
        "_observation",
        "_request",
        "_timings",
        "_usage",
    )

    def __init__(self, observation: Observation, job: RunningJob, request: Request) -> None:
        self._observation = observation
        self._job = job
        self._request = request
        self._chars_in = 0
        self._began = 0.0
        self._first_token_s: float | None = None
        self._is_cut = False
        self._usage = Usage()
        self._timings = Timings()

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        return self

    def first_token(self) -> None:
        """The answer has begun."""
        self._first_token_s = time.monotonic() - self._began
        self._observation.first_token(self._job, self._first_token_s)

    def out_of_time(self) -> None:
        """The job's own deadline ends the call, which says nothing against the model or its host."""
        self._is_cut = True

    def answered(self, usage: Usage, timings: Timings) -> None:
        """The answer is whole."""
        self._usage, self._timings = usage, timings
        self._chars_in = size_of(self._request).chars
        self._observation.answered(self._job, usage, timings)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        recorder, notes = self._observation.usage, self._job.notes
        # A host without the model was not used.
        if recorder is None or isinstance(error, ModelNotFound):
            return
        if error is not None and not isinstance(error, ArrieroError):
            recorder.touch(notes.model, notes.backend)  # cancelled: how it would have ended nobody knows
            return
        call = Call(
            kind=self._job.kind,
            seconds=time.monotonic() - self._began,
            error=JobExpired.code if self._is_cut else error.code if error is not None else "",
            first_token_s=self._first_token_s,
            tokens_in=self._usage.prompt_tokens,
            tokens_out=self._usage.completion_tokens,
            chars_in=self._chars_in,
            load_s=self._timings.load_s if self._timings.load_s >= LOAD_FROM_S else 0.0,
        )
        recorder.record(notes.model, notes.backend, call)


def is_sampled(job_id: str, rate: float) -> bool:
    """Whether a job is among the share `rate`, 0 to 1, of all: the same for each of its runs, on every worker."""
    return crc32(job_id.encode()) < rate * 2**32


def _figures(job: RunningJob, state: str, seconds: float) -> dict[str, object]:
    """What a log line says of a run, besides the ids that are bound to it."""
    figures: dict[str, object] = {
        "job_id": job.id, "kind": job.kind, "state": state, "attempt": job.attempt, "model": job.notes.model,
        "backend": job.notes.backend, "queue_wait_s": round(job.queue_wait_s, 3), "seconds": round(seconds, 3),
    }  # fmt: skip
    if job.usage is not None:
        figures |= {"prompt_tokens": job.usage.prompt_tokens, "completion_tokens": job.usage.completion_tokens}
    return figures


def _status(state: str) -> str:
    return "success" if state == "succeeded" else state
