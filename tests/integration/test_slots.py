"""Fifty slots of workers before one host: it never gets more calls than it may, and no slot is lost."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import accumulate

import pytest
from redis import Redis

from tests.integration.processes import eventually
from tests.integration.stack import Stack, chat_body, ended, submit

WORKERS, EACH = 5, 10
OF_A_MODEL, OF_THE_HOST = 3, 5
JOBS = 120
SLOTS_KEY = "gw:{gw}:slots"


@pytest.fixture
def stack() -> Iterator[Stack]:
    limits = {
        "WORKER_CONCURRENCY": str(EACH), "OLLAMA_NUM_PARALLEL": str(OF_A_MODEL),
        "MAX_CONCURRENT_REQUESTS": str(OF_THE_HOST),
    }  # fmt: skip
    # The host itself would take all of them at once.
    with Stack(simulator=("--parallel", "64", "--max-loaded-models", "8"), **limits) as stack:
        stack.gateway()
        for _ in range(WORKERS):
            stack.worker(**limits)
        stack.wait()
        yield stack


def at_once(calls: list[dict[str, float]]) -> int:
    """The most calls that were under way together."""
    edges = [(call["at"], 1) for call in calls] + [(call["at"] + call["seconds"], -1) for call in calls]
    return max(accumulate(step for _, step in sorted(edges)))


@pytest.mark.req("S1-77", "S1-33", "C13")
def test_a_host_never_gets_more_than_it_may(stack: Stack) -> None:
    chance = random.Random(1)
    with stack.http() as client, Redis.from_url(stack.redis.url) as redis:
        models = [chance.choice(("llama3.2", "mistral", "llava")) for _ in range(JOBS)]
        jobs = [submit(client, {**chat_body(f"{n} [tokens=100]"), "model": model}) for n, model in enumerate(models)]
        eventually(lambda: len(stack.simulator.calls()) > 20, 20, "calls under way")
        for worker in stack.workers[:2]:
            worker.kill()
        records = [ended(client, job) for job in jobs]
        assert {record["status"] for record in records} == {"succeeded"}
        eventually(lambda: not redis.exists(SLOTS_KEY), 10, "every slot is given back")
    calls = stack.simulator.calls()
    # A call's log line begins when the host has read its head, so two edges of one moment may trade places.
    assert at_once(calls) <= OF_THE_HOST
    for model in set(models):
        assert at_once([call for call in calls if call["model"].startswith(model)]) <= OF_A_MODEL
    assert at_once(calls) == OF_THE_HOST, "or the limit was not tried"
    assert len({attempt["worker"] for record in records for attempt in record["attempts"]}) > 1
