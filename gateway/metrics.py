"""The gateway's metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from shared.jobs import Kind, Priority
from shared.queue.stats import QueueStats
from shared.telemetry.metrics import LATENCY_BUCKETS_S, Metrics
from shared.telemetry.tallies import Tally, Timings

OUTCOMES = ("accepted", "duplicate", "overloaded", "refused")
"""What becomes of a job at the door."""
EVENTS = (
    *("accepted", "refused", "claimed", "retried", "released", "crashed", "stale_writes", "replayed"),
    *("succeeded", "dead_lettered", "cancelled", "expired", "purged", "trimmed"),
)
"""What the queue's scripts count. All are shown from the start: Prometheus sees no increase in a first value."""


@dataclass(frozen=True, slots=True)
class QueueRow:
    """One metric of the queue. `read` gives its value by the label's, or by "" where `label` is empty; a counter's name
    is given without `_total`."""

    name: str
    help: str
    read: Callable[[QueueStats], Mapping[str, float]]
    label: str = ""
    family: type[GaugeMetricFamily] | type[CounterMetricFamily] = GaugeMetricFamily


QUEUE_ROWS = (
    QueueRow("arriero_queue_jobs", "Unfinished jobs by state.", lambda stats: stats.states, "state"),
    QueueRow("arriero_queue_waiting_jobs", "Queued jobs by class.", lambda stats: stats.queued_by_class, "priority"),
    QueueRow(
        "arriero_queue_oldest_wait_seconds",
        "Seconds the longest waiting job has waited.",
        lambda stats: {"": stats.oldest_wait_s},
    ),
    QueueRow(
        "arriero_queue_payload_bytes",
        "Bytes of the requests of unfinished jobs.",
        lambda stats: {"": stats.payload_bytes},
    ),
    QueueRow(
        "arriero_queue_drain_per_second",
        "Jobs ended a second while jobs waited, smoothed.",
        lambda stats: {"": stats.drain_per_s or 0.0},
    ),
    QueueRow("arriero_dead_letter_jobs", "Dead letters kept.", lambda stats: {"": stats.dead_letters}),
    QueueRow("arriero_queue_workers", "Workers with a live heartbeat.", lambda stats: {"": len(stats.workers)}),
    QueueRow(
        "arriero_queue_events",
        "What happened in the queue since it was created, by event.",
        lambda stats: {event: stats.counters.get(event, 0) for event in EVENTS},
        "event",
        CounterMetricFamily,
    ),
)


class QueueFigures:
    """The queue as Redis has it, the same on every gateway's page. Without samples while Redis does not answer: an old
    figure would pass for one of now."""

    def __init__(self) -> None:
        self._stats: QueueStats | None = None

    def show(self, stats: QueueStats | None) -> None:
        self._stats = stats

    def collect(self) -> Iterator[Metric]:
        stats = self._stats
        for row in QUEUE_ROWS:
            family = row.family(row.name, row.help, labels=[row.label] if row.label else [])
            for label, value in (row.read(stats) if stats is not None else {}).items():
                family.add_metric([label] if row.label else [], value)
            yield family


class GatewayMetrics(Metrics):
    """What a gateway counts, and the queue it stands before."""

    def __init__(self) -> None:
        super().__init__()
        r = self.registry
        self.uptime = Gauge("arriero_gateway_uptime_seconds", "Seconds since the gateway started.", registry=r)
        self.uptime.set_function(lambda: time.time() - self.started_at)
        self.requests = Tally(
            "arriero_gateway_requests", "HTTP requests answered.", ("route", "method", "status"), registry=r
        )
        self.duration = Timings(
            "arriero_gateway_request_duration_seconds",
            "Seconds from a request's head to the end of its answer.",
            "route",
            buckets_s=LATENCY_BUCKETS_S,
            registry=r,
        )
        self.in_flight = Gauge("arriero_gateway_requests_in_flight", "HTTP requests being answered.", registry=r)
        self.connections = Gauge("arriero_gateway_connections", "Open client connections.", registry=r)
        self.connections_refused = Counter(
            "arriero_gateway_connections_refused_total", "Connections refused at MAX_CONNECTIONS.", registry=r
        )
        self.heads_timed_out = Counter(
            "arriero_gateway_heads_timed_out_total", "Connections closed at HEADER_TIMEOUT.", registry=r
        )
        self.streams = Gauge("arriero_gateway_streams_open", "Event streams being served.", registry=r)
        self.jobs = Tally(
            "arriero_gateway_jobs",
            "Jobs handed to the queue.",
            ("kind", "priority", "outcome"),
            known=product(Kind, Priority, OUTCOMES),
            registry=r,
        )
        self.routes = Tally(
            "arriero_routes", "Requests routed, by the first service to try and why.", ("service", "reason"), registry=r
        )
        self.first_chunk = Histogram(
            "arriero_gateway_first_chunk_seconds",
            "Seconds from a streaming request's head to its first chunk.",
            buckets=LATENCY_BUCKETS_S,
            registry=r,
        )
        self.response_cache = Counter(
            "arriero_gateway_response_cache_total", "Look-ups in the response cache.", ["result"], registry=r
        )
        self.abandoned = Counter(
            "arriero_gateway_abandoned_total", "Jobs cancelled because their client went away.", registry=r
        )
        self.queue = QueueFigures()
        r.register(self.queue)
        self.redis_up = Gauge("arriero_redis_up", "1 while Redis answers, else 0.", registry=r)
