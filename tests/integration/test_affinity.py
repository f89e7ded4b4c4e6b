"""One host that holds one model, and jobs for four in random order: two workers swap models as rarely as can be."""

from __future__ import annotations

import random

import httpx
import pytest

from tests.integration.processes import eventually
from tests.integration.stack import MODELS, Stack, chat_body, ended, submit

JOBS = 60
CHAT_MODELS = ("llama3.2", "mistral", "llava")
LOAD_S = "0.3"


def loads(stack: Stack) -> int:
    answer = httpx.get(f"{stack.simulator.url}/_sim/calls", params={"event": "load"}, trust_env=False)
    return len(answer.raise_for_status().json()["calls"])


def loads_of_a_backlog(**settings: str) -> int:
    """How often models were loaded for `JOBS` that all wait before the first worker starts."""
    chance = random.Random(7)
    with Stack(simulator=("--max-loaded-models", "1", "--load-seconds", LOAD_S)) as stack:
        stack.gateway()
        stack.wait()
        with stack.http() as client:
            jobs = [
                submit(client, {**chat_body(f"{n} [tokens=5]"), "model": chance.choice(CHAT_MODELS)})
                for n in range(JOBS)
            ]
            for _ in range(2):
                stack.worker(OLLAMA_MAX_LOADED_MODELS="1", **settings)
            stack.wait()
            assert {ended(client, job, 60)["status"] for job in jobs} == {"succeeded"}
        return loads(stack)


@pytest.mark.req("S1-93", "S1-42")
def test_models_are_swapped_rarely_by_all_workers_together() -> None:
    assert set(CHAT_MODELS) < set(MODELS.split(","))
    assert loads_of_a_backlog() == len(CHAT_MODELS)


@pytest.mark.req("S1-93")
def test_without_it_jobs_start_in_the_order_they_came() -> None:
    assert loads_of_a_backlog(ENABLE_GPU_OPTIMIZATION="false") > 3 * len(CHAT_MODELS)


@pytest.mark.req("S1-30")
def test_how_much_a_host_holds_is_found_out() -> None:
    """Told nothing of the memory, workers learn from the first model that is pushed out."""
    with Stack(simulator=("--max-loaded-models", "1", "--load-seconds", LOAD_S)) as stack:
        stack.gateway()
        stack.worker()
        stack.wait()
        with stack.http() as client:
            for model in CHAT_MODELS:
                ended(client, submit(client, {**chat_body("one [tokens=5]"), "model": model}), 30)
            eventually(lambda: loads(stack) >= len(CHAT_MODELS), 10, "each was loaded")
            before = loads(stack)
            chance = random.Random(3)
            order = [chance.choice(CHAT_MODELS) for _ in range(30)]
            jobs = [submit(client, {**chat_body("many [tokens=40]"), "model": model}) for model in order]
            assert {ended(client, job, 60)["status"] for job in jobs} == {"succeeded"}
            assert loads(stack) - before <= 2 * len(CHAT_MODELS)
