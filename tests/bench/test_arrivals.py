"""The jobs of the affinity row."""

from __future__ import annotations

import itertools

import pytest

from tests.bench.affinity_scenario import FIRST_TOKEN_S, TOKENS, TOKENS_PER_S
from tests.bench.arrivals import CLASSES, MODELS, Ended, longest_waits, plan
from tests.bench.rows import AFFINITY_JOB_S


def test_arrivals_keep_their_rate_and_use_every_model_and_class() -> None:
    arrivals = plan(2000, per_second=4.0, seed=7)
    assert arrivals == plan(2000, per_second=4.0, seed=7)
    assert arrivals[-1].at_s == pytest.approx(500.0, rel=0.1)
    assert all(early.at_s <= late.at_s for early, late in itertools.pairwise(arrivals))
    assert {arrival.model for arrival in arrivals} == set(MODELS)
    normal = sum(arrival.priority == "normal" for arrival in arrivals)
    assert normal / 2000 == pytest.approx(CLASSES["normal"] / 10, abs=0.05)


def test_the_longest_wait_of_each_class() -> None:
    jobs = [Ended("high", 1.0, 1.5, 2.0), Ended("high", 2.0, 5.0, 6.0), Ended("low", 0.0, 0.0, 1.0)]
    assert longest_waits(jobs) == {"high_wait_s": 3.0, "normal_wait_s": 0.0, "low_wait_s": 0.0}


def test_a_job_takes_as_long_as_the_row_says() -> None:
    assert pytest.approx(AFFINITY_JOB_S) == FIRST_TOKEN_S + TOKENS / TOKENS_PER_S
