"""The advice: which figures lead to which recommendation, and that it names them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from monitor.advice import Advice, Evidence, advise
from tests.monitor.snapshots import GIB, gpu, host, model, ollama, queue, snapshot, worker


def given(means: dict[str, float] | None = None, **parts: Any) -> list[Advice]:
    return list(advise(Evidence(snapshot=snapshot(**parts), means=means or {})))


def test_all_well() -> None:
    assert (
        given({"queue_oldest_wait_s": 0.2, "slots_busy_ratio": 0.5, "cpu_ratio": 0.2, "redis_latency_s": 0.001}) == []
    )


WAITING = {"queue_oldest_wait_s": 14.0, "slots_busy_ratio": 1.0}
BUSY = queue(waiting=20, oldest_wait_s=15, workers=[worker(running=4)])


@pytest.mark.req("S1-65")
@pytest.mark.parametrize(
    ("means", "parts", "topic", "words"),
    [
        ({**WAITING, "cpu_ratio": 0.3}, {"queue": BUSY}, "concurrency", "wait 14 s .* 30% busy: raise WORKER_"),
        ({**WAITING, "gpu_ratio": 0.2, "cpu_ratio": 1}, {"queue": BUSY}, "concurrency", "GPUs are only 20% busy"),
        ({**WAITING, "cpu_ratio": 0.9}, {"queue": BUSY}, "workers", "add workers"),
        ({**WAITING, "cpu_ratio": 0.1}, {"queue": BUSY, "ollama": [ollama("gpu-box:11434")]}, "workers", "add workers"),
        ({**WAITING, "slots_busy_ratio": 0.2}, {"queue": BUSY}, "idle_slots", "only 20% of the workers' 4 slots"),
        ({}, {"queue": queue(waiting=600, drain_per_s=1.0)}, "backlog", "600 waiting jobs take 10 minutes"),
        ({}, {"host": host(swap_bytes=3 * GIB)}, "swap", "3.0 GiB are in swap"),
        ({}, {"host": host(disk=0.85)}, "disk", "85% full, 150.0 GiB are left"),
        ({}, {"gpus": [gpu(memory=0.95)], "models": [model(), model("mistral")]}, "gpu_memory", "95% full with 2"),
        ({}, {"models": [model(failures={"backend_timeout": 7, "x": 1})]}, "failures", "8% .* backend_timeout: allow"),
        ({}, {"models": [model(failures={"backend_timeout": 4, "x": 3, "y": 3})]}, "failures", "backend_timeout: see"),
        ({}, {"queue": queue(redis_limit_bytes=GIB, eviction_policy="allkeys-lru")}, "eviction", "GiB .* allkeys-lru"),
        ({}, {"loading_ratio": 0.25}, "loading", "25% of the time .* pin"),
        ({}, {"queue": queue(durability="none")}, "durability", "appendonly yes"),
        ({"redis_latency_s": 0.02}, {}, "redis_latency", "20 ms"),
        ({}, {"queue": queue(dead_letters=120)}, "dead_letters", "120 jobs"),
        ({}, {"models": [model("nomic", "embedding", calls=400, seconds=0.02)]}, "batch", "400 short embedding calls"),
    ],
)  # fmt: skip
def test_recommendations(means: dict[str, float], parts: dict[str, Any], topic: str, words: str) -> None:
    (advice,) = given(means, **parts)
    assert advice.topic == topic
    assert advice.figures
    assert re.search(words, advice.text), advice.text


@pytest.mark.parametrize(
    ("means", "parts"),
    [
        ({"queue_oldest_wait_s": 4.0, "slots_busy_ratio": 1.0, "cpu_ratio": 0.1}, {"queue": BUSY}),
        ({**WAITING, "slots_busy_ratio": 0.7}, {"queue": BUSY}),
        (WAITING, {"queue": None}),
        ({}, {"gpus": [gpu(memory=0.95)], "models": [model()]}),
        ({}, {"models": [model(calls=9, failures={"backend_timeout": 9})]}),
        ({}, {"models": [model(failures={"backend_rejected": 50})]}),
        ({}, {"queue": queue(eviction_policy="allkeys-lru")}),
        ({}, {"models": [model("nomic", "embedding", calls=400, seconds=2.0)]}),
        ({}, {"host": None, "queue": None, "models": None, "gpus": None}),
    ],
)
def test_no_advice_without_evidence(means: dict[str, float], parts: dict[str, Any]) -> None:
    assert given(means, **parts) == []
