"""The gauge of circuit states."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from worker.metrics import CIRCUIT_LABELS, WorkerMetrics

NAME = "llm_worker_circuit_breaker_state"


def shown(metrics: WorkerMetrics) -> dict[tuple[str, str], dict[str, float]]:
    """(circuit, host) -> state -> value."""
    families = {family.name: family for family in text_string_to_metric_families(metrics.render().decode())}
    found: dict[tuple[str, str], dict[str, float]] = {}
    for sample in families[NAME].samples:
        assert sample.labels["worker_id"] == "w1"
        found.setdefault((sample.labels["circuit"], sample.labels["host"]), {})[sample.labels["state"]] = sample.value
    return found


@pytest.mark.req("S1-28", "S1-29", "S1-50", "C33")
def test_each_circuit_is_in_exactly_one_of_three_states() -> None:
    metrics = WorkerMetrics("w1")
    metrics.circuits.show(
        [("chat:llama2", "h:1", "open"), ("host", "h:1", "half_open"), ("chat:llama2", "h:2", "closed")]
    )
    found = shown(metrics)
    assert set(found) == {("chat:llama2", "h:1"), ("host", "h:1"), ("chat:llama2", "h:2")}
    assert found["chat:llama2", "h:1"] == {"closed": 0, "half_open": 0, "open": 1}
    assert found["host", "h:1"] == {"closed": 0, "half_open": 1, "open": 0}
    # No stale series: neither of a state that was left, nor of a circuit that is gone.
    metrics.circuits.show([("chat:llama2", "h:1", "closed")])
    assert shown(metrics) == {("chat:llama2", "h:1"): {"closed": 1, "half_open": 0, "open": 0}}


def test_circuits_beyond_the_bound_share_a_label_that_shows_the_worst() -> None:
    metrics = WorkerMetrics("w1")
    many = [(f"chat:m{number}", "h:1", "closed") for number in range(CIRCUIT_LABELS)]
    metrics.circuits.show(
        [*many, ("chat:x", "h:1", "open"), ("chat:y", "h:1", "half_open"), ("chat:z", "h:1", "closed")]
    )
    found = shown(metrics)
    assert len(found) == CIRCUIT_LABELS + 1
    assert found["other", "h:1"] == {"closed": 0, "half_open": 0, "open": 1}
