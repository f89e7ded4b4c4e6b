"""What the metrics of all services share. Each service declares its own in its `metrics.py`, every one once, with its
unit in the name.

A process makes one `Metrics` subclass and hands it down; there is no global registry, so two services in one test
process do not meet.
"""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

from shared.telemetry.labels import BoundedLabel

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PAGE_LIMIT_S = 0.7
"""For what a page reads when it is asked for; then it goes without. Whoever scrapes must not lose the rest, too."""
METRICS_OFF = "There are no metrics here: METRICS_ENABLED is false."
MODEL_LABELS = 200
"""Models that get a label of their own, per process; later ones count as `other`."""
LATENCY_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)


class Metrics:
    """What every process counts about itself. `render()` gives the text for /metrics."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.started_at = time.time()
        self.model_label = BoundedLabel(MODEL_LABELS)
        ProcessCollector(registry=self.registry)

    def render(self) -> bytes:
        return generate_latest(self.registry)
