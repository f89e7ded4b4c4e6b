"""What a worker counts and logs about its jobs."""

from __future__ import annotations

from collections.abc import Sequence

import psutil
import structlog

from shared.errors import ErrorRecord
from shared.queue.running import RunningJob
from shared.resilience.breaker import BreakerState
from shared.resilience.circuits import CircuitView, split_name
from shared.telemetry.metrics import WorkerMetrics
from shared.wire.canonical import Timings, Usage

log = structlog.get_logger()

LOAD_FROM_S = 0.05
"""A load time below this is the server's bookkeeping for a model it has in memory."""
STATUS = {"queued": "released", "scheduled": "retried", "!": "lost"}
"""What a run that did not end its job counts as."""


class Observation:
    """Fills the worker's metrics. Called in the hot path: no I/O, no formatting."""

    def __init__(self, metrics: WorkerMetrics) -> None:
        self.metrics = metrics
        self._worker = metrics.worker_id
        self._process = psutil.Process()
        self._stale_writes = 0
        self._lost_leases = 0
        self._wait = metrics.queue_wait.labels(self._worker)

    def claimed(self, job: RunningJob) -> None:
        self._wait.observe(job.queue_wait_s)

    def first_token(self, job: RunningJob, seconds: float) -> None:
        model = self.metrics.model_label(job.notes.model)
        self.metrics.time_to_first_token.labels(self._worker, model).observe(seconds)

    def circuit_changed(self, name: str, state: BreakerState) -> None:
        """This process noticed that a circuit changed its state."""
        circuit, host = split_name(name)
        self.metrics.circuit_changes.labels(self._worker, self.metrics.circuits.label(circuit), host, state).inc()

    def fell_back(self, step: str) -> None:
        """A job was served by other means than asked: another `host`, another `model`, the `cache`."""
        self.metrics.fallbacks.labels(self._worker, step).inc()

    def answered(self, job: RunningJob, usage: Usage, timings: Timings) -> None:
        self.metrics.tokens.labels(self._worker, "prompt").inc(usage.prompt_tokens)
        self.metrics.tokens.labels(self._worker, "completion").inc(usage.completion_tokens)
        if timings.load_s >= LOAD_FROM_S:
            model = self.metrics.model_label(job.notes.model)
            self.metrics.model_load.labels(self._worker, model).observe(timings.load_s)

    def settled(self, job: RunningJob, state: str, seconds: float, error: ErrorRecord | None) -> None:
        """The run is over; `state` is the job's state now, or `!`."""
        model = self.metrics.model_label(job.notes.model or "unknown")
        handed_back = state == "scheduled" and not (error is not None and error.code)
        status = "released" if handed_back else STATUS.get(state, _status(state))
        self.metrics.requests.labels(self._worker, model, status).inc()
        self.metrics.duration.labels(self._worker, model).observe(seconds)
        if error is not None and error.code and state not in ("cancelled", "queued"):
            log.warning(
                "job.failed", job_id=job.id, kind=job.kind, state=state, code=error.code, attempt=job.attempt,
                backend=job.notes.backend, seconds=round(seconds, 3), error=error.message,
            )  # fmt: skip
        else:
            log.debug("job.settled", job_id=job.id, state=state, attempt=job.attempt, seconds=round(seconds, 3))

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


def _status(state: str) -> str:
    return "success" if state == "succeeded" else state
