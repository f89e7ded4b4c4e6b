"""The worker's metrics."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily

from shared.telemetry.labels import BoundedLabel
from shared.telemetry.metrics import LATENCY_BUCKETS_S, Metrics

CIRCUIT_LABELS = 500
"""Circuits that get a label of their own, per process; later ones count as `other`."""


class CircuitStates:
    """The gauge of circuit states: for every circuit three samples, of which exactly one is 1.

    The whole set is replaced at once, so that a page never shows a circuit in two states, nor one that is gone.
    """

    STATES = ("closed", "half_open", "open")
    """From good to bad: circuits that share a label show the worst state among them."""

    def __init__(self, worker_id: str) -> None:
        self._worker_id = worker_id
        self._label = BoundedLabel(CIRCUIT_LABELS)
        self._states: dict[tuple[str, str], str] = {}

    def show(self, circuits: Iterable[tuple[str, str, str]]) -> None:
        """`circuits`: circuit such as `chat:llama2`, host, state."""
        states: dict[tuple[str, str], str] = {}
        for circuit, host, state in circuits:
            key = self.label(circuit), host
            states[key] = max(states.get(key, "closed"), state, key=self.STATES.index)
        self._states = states

    def label(self, circuit: str) -> str:
        return self._label(circuit)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily(
            "llm_worker_circuit_breaker_state",
            "1 for the state that the circuit is in, else 0.",
            labels=["worker_id", "circuit", "host", "state"],
        )
        for (circuit, host), current in self._states.items():
            for state in self.STATES:
                family.add_metric([self._worker_id, circuit, host, state], float(state == current))
        yield family


class WorkerMetrics(Metrics):
    """The worker's metrics; the names are fixed by document S1. Every sample carries the worker's id."""

    def __init__(self, worker_id: str) -> None:
        super().__init__()
        self.worker_id = worker_id
        r = self.registry
        self.uptime = Gauge("llm_worker_uptime_seconds", "Seconds since the worker started.", ["worker_id"], registry=r)
        self.uptime.labels(worker_id).set_function(lambda: time.time() - self.started_at)
        self.requests = Counter(
            "llm_worker_requests_total", "Jobs run, by how they ended.", ["worker_id", "model", "status"], registry=r
        )
        self.duration = Histogram(
            "llm_worker_request_duration_seconds",
            "Seconds from the claim of a job to the end of that run.",
            ["worker_id", "model"],
            buckets=LATENCY_BUCKETS_S,
            registry=r,
        )
        self.models_loaded = Gauge(
            "llm_worker_models_loaded", "Models in the backends' memory.", ["worker_id"], registry=r
        )
        self.memory_usage = Gauge(
            "llm_worker_memory_usage_bytes", "Resident memory of the worker process, bytes.", ["worker_id"], registry=r
        )
        self.queue_wait = Histogram(
            "llm_worker_queue_wait_seconds",
            "Seconds a job waited from acceptance to its claim.",
            ["worker_id"],
            buckets=LATENCY_BUCKETS_S,
            registry=r,
        )
        self.time_to_first_token = Histogram(
            "llm_worker_time_to_first_token_seconds",
            "Seconds from the call of the backend to its first token.",
            ["worker_id", "model"],
            buckets=LATENCY_BUCKETS_S,
            registry=r,
        )
        self.tokens = Counter(
            "llm_worker_tokens_total", "Tokens read or written.", ["worker_id", "direction"], registry=r
        )
        self.model_load = Histogram(
            "llm_worker_model_load_seconds",
            "Seconds the backend spent loading the model of a call.",
            ["worker_id", "model"],
            buckets=LATENCY_BUCKETS_S,
            registry=r,
        )
        self.stale_writes = Counter(
            "llm_worker_stale_writes_total",
            "Writes the queue refused because the job had a newer owner.",
            ["worker_id"],
            registry=r,
        )
        self.lost_leases = Counter(
            "llm_worker_lost_leases_total", "Jobs this worker held past their lease.", ["worker_id"], registry=r
        )
        self.fallbacks = Counter(
            "llm_worker_fallbacks_total",
            "Jobs served by another host than first tried, by another model or service, or from the cache.",
            ["worker_id", "step"],
            registry=r,
        )
        self.in_flight = Gauge("llm_worker_jobs_in_flight", "Jobs this worker is running.", ["worker_id"], registry=r)
        self.circuits = CircuitStates(worker_id)
        r.register(self.circuits)
        self.circuit_changes = Counter(
            "llm_worker_circuit_breaker_transitions_total",
            "Changes of a circuit's state that this worker noticed.",
            ["worker_id", "circuit", "host", "to"],
            registry=r,
        )
