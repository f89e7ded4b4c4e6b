"""Rows Q: what a queue does by itself."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.bench.processes import wait_for_http, wait_for_line
from tests.bench.queue_programs import QUEUES
from tests.bench.workbench import Bench, Figures, cpu_s
from tests.house.redis_server import free_port

SETTLING_S = 1.5
"""Start-up work that is no part of being idle."""


def throughput(bench: Bench, peer: str) -> Figures:
    bench.redis.clear()
    enqueued = bench.ask_queue(peer, "enqueue", bench.sizes.drain_jobs, 50)
    drained = bench.ask_queue(peer, "drain", bench.sizes.drain_jobs)
    return {"enqueue_per_s": enqueued["per_s"], "drain_per_s": drained["per_s"]}


def roundtrip(bench: Bench, peer: str) -> Figures:
    with worker_up(bench, peer):
        one = bench.ask_queue(peer, "roundtrip", bench.sizes.trips_one)
        figures = {"one_p50_ms": one["p50_ms"], "one_p99_ms": one["p99_ms"]}
        if QUEUES[peer].many_callers:
            figures["many_per_s"] = bench.ask_queue(peer, "roundtrip", bench.sizes.trips_many, 32)["per_s"]
    return figures


@contextmanager
def worker_up(bench: Bench, peer: str) -> Iterator[None]:
    """A worker waits for jobs during the block."""
    bench.redis.clear()
    command, env = bench.queue_command(peer, "work")
    with bench.around.children.running(f"{peer}-work", command, env) as worker:
        wait_for_line(worker, timeout_s=20.0)
        bench.ask_queue(peer, "roundtrip", 50)  # warm caches on both sides
        yield


def idle(bench: Bench, peer: str) -> Figures:
    """A worker with nothing to do: Arriero's is the real service, with its health port and its backend."""
    bench.redis.clear()
    if peer == "arriero":
        port = free_port()
        env = {
            "REDIS_URL": bench.redis.url,
            "OLLAMA_BASE_URL": bench.around.stub_url,
            "WORKER_PORT": str(port),
            "LOG_LEVEL": "WARNING",
        }
        command = [sys.executable, "-m", "worker"]
    else:
        port = 0
        command, env = bench.queue_command(peer, "work")
    with bench.around.children.running(f"{peer}-idle", command, env) as worker:
        if port:
            wait_for_http([worker], f"http://127.0.0.1:{port}/health/live", timeout_s=30.0)
        else:
            wait_for_line(worker, timeout_s=20.0)
        time.sleep(SETTLING_S)
        calls, used_s, began = bench.redis.commands_processed(), cpu_s(worker), time.perf_counter()
        time.sleep(bench.sizes.idle_s)
        took_s = time.perf_counter() - began
        calls, used_s = bench.redis.commands_processed() - calls - 1, cpu_s(worker) - used_s
    return {"calls_per_s": calls / took_s, "cpu_percent": 100 * used_s / took_s}
