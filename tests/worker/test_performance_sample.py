"""PERFORMANCE_SAMPLE_RATE: which jobs that end well are logged with their figures."""

from __future__ import annotations

import logging
import secrets
from unittest.mock import create_autospec

import pytest
import structlog
from structlog.testing import LogCapture

from shared.errors import BackendTimeout
from shared.jobs import Kind, new_job_id
from shared.queue.records import AttemptNotes
from shared.queue.running import RunningJob
from shared.wire.canonical import Usage
from worker.metrics import WorkerMetrics
from worker.observation import Observation, is_sampled
from worker.settings import WorkerSettings


@pytest.mark.req("S1-96")
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 1.0])
def test_the_share_is_kept_and_a_job_stays_in_or_out(rate: float) -> None:
    ids = [new_job_id() for _ in range(5000)]
    sampled = [job_id for job_id in ids if is_sampled(job_id, rate)]
    assert len(sampled) / len(ids) == pytest.approx(rate, abs=0.05)
    assert [job_id for job_id in ids if is_sampled(job_id, rate)] == sampled
    assert all(is_sampled(job_id, min(1.0, rate + 0.1)) for job_id in sampled)


def job() -> RunningJob:
    stub = create_autospec(RunningJob, instance=True)
    stub.id, stub.kind, stub.attempt, stub.queue_wait_s = f"job_{secrets.token_hex(16)}", Kind.CHAT, 1, 0.25
    stub.notes, stub.usage = AttemptNotes(model="llama3.2", backend="a:1"), Usage(prompt_tokens=3, completion_tokens=5)
    running: RunningJob = stub
    return running


@pytest.mark.req("S1-96")
def test_what_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    captured = LogCapture()
    at_info = structlog.make_filtering_bound_logger(logging.INFO)
    monkeypatch.setattr(
        "worker.observation.log", structlog.wrap_logger(None, processors=[captured], wrapper_class=at_info)
    )
    Observation(WorkerMetrics("w"), sample_rate=1.0).settled(job(), "succeeded", 1.5, None)
    Observation(WorkerMetrics("w"), sample_rate=0.0).settled(job(), "succeeded", 1.5, None)
    Observation(WorkerMetrics("w"), sample_rate=0.0).settled(job(), "dead_lettered", 1.5, BackendTimeout().record())
    settled, failed = captured.entries
    assert (settled["event"], settled["log_level"]) == ("job.settled", "info")
    figures = ("seconds", "queue_wait_s", "prompt_tokens", "completion_tokens")
    assert [settled[name] for name in figures] == [1.5, 0.25, 3, 5]
    assert failed["event"] == "job.failed"


@pytest.mark.req("S1-96")
def test_the_default_is_a_tenth() -> None:
    assert WorkerSettings().performance_sample_rate == 0.1
