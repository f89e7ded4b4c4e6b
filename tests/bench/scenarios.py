"""The scenarios: what is done once, for one peer, to get figures. The runner repeats them in turns."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.bench.catalogue import peer_python
from tests.bench.processes import Child, wait_for_http, wait_for_line
from tests.bench.redis_server import BenchRedis
from tests.bench.roads import ROADS, Road, Surroundings, start_arriero, start_bare
from tests.house.redis_server import free_port

COMMAND_TIMEOUT_S = 180.0
MESSAGES = [
    {"role": "system", "content": "You answer in one short sentence."},
    {"role": "user", "content": "Why does a mule carry more than its weight in words? " * 4},
]
_HERE = Path(__file__).parent


@dataclass(slots=True, frozen=True, kw_only=True)
class Sizes:
    """How much of everything; `QUICK` is for trying the harness, not for figures."""

    drain_jobs: int = 20_000
    trips_one: int = 500
    trips_many: int = 3_000
    idle_s: float = 10.0
    chats_one: int = 400
    chat_s: float = 3.0
    long_tokens: int = 600
    flat_s: float = 3.0
    memory_jobs: int = 200_000


FULL = Sizes()
QUICK = Sizes(
    drain_jobs=2_000, trips_one=100, trips_many=500, idle_s=3.0, chats_one=60, chat_s=1.0, flat_s=1.0, memory_jobs=4_000
)


class Bench:
    """What the scenarios work with. Gateways are started when first needed and stay up for the turns."""

    def __init__(self, around: Surroundings, redis: BenchRedis, sizes: Sizes) -> None:
        self.around = around
        self.redis = redis
        self.sizes = sizes
        self._roads: dict[str, Road] = {}

    def road(self, name: str) -> Road:
        if name not in self._roads:
            self._roads[name] = ROADS[name](self.around)
        return self._roads[name]

    def stop_roads(self) -> None:
        for road in self._roads.values():
            self.stop(road)
        self._roads.clear()

    def stop(self, road: Road) -> None:
        for child in road.processes.values():
            self.around.children.stop(child)

    def queue_command(self, peer: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
        """The program of `queues/` for this peer, and what it needs in its environment."""
        redis = ["--redis", self.redis.url]
        if peer == "arriero":
            return [sys.executable, "-m", "tests.bench.queues.arriero_queue", *arguments, *redis], {}
        directory = self.around.peers[peer]
        if peer == "bullmq":
            program = ["node", str(_HERE / "queues" / "bullmq.mjs")]
            return [*program, *arguments, *redis], {"BENCH_PEER_DIRECTORY": str(directory)}
        return [str(peer_python(directory)), "-m", "tests.bench.queues.arq_tuned", *arguments, *redis], {}

    def ask_queue(self, peer: str, *arguments: str) -> dict[str, float]:
        command, env = self.queue_command(peer, *arguments)
        return self.around.children.answer(f"{peer}-{arguments[0]}", command, timeout_s=COMMAND_TIMEOUT_S, env=env)

    def load(self, road: Road, path: str, body: dict[str, object], *arguments: str) -> dict[str, float]:
        """Run the load client against one path of a road."""
        command = [sys.executable, "-m", "tests.bench.load_client", "--url", road.base_url + path]
        command += ["--headers", json.dumps(road.headers), "--body", json.dumps(body), *arguments]
        return self.around.children.answer(f"load-{road.name}", command, timeout_s=COMMAND_TIMEOUT_S)

    def chat(self, road: Road, model: str, *arguments: str, stream: bool = False) -> dict[str, float]:
        body: dict[str, object] = {"model": model, "messages": MESSAGES, "stream": stream}
        return self.load(road, "/v1/chat/completions", body, *arguments)


Figures = dict[str, float]


def throughput(bench: Bench, peer: str) -> Figures:
    bench.redis.clear()
    jobs = str(bench.sizes.drain_jobs)
    enqueued = bench.ask_queue(peer, "enqueue", "--jobs", jobs, "--callers", "50")
    drained = bench.ask_queue(peer, "drain", "--jobs", jobs)
    return {"enqueue_per_s": enqueued["per_s"], "drain_per_s": drained["per_s"]}


def roundtrip(bench: Bench, peer: str) -> Figures:
    bench.redis.clear()
    command, env = bench.queue_command(peer, "work")
    with bench.around.children.running(f"{peer}-work", command, env) as worker:
        wait_for_line(worker, timeout_s=20.0)
        bench.ask_queue(peer, "roundtrip", "--jobs", "50", "--callers", "1")  # warm caches on both sides
        one = bench.ask_queue(peer, "roundtrip", "--jobs", str(bench.sizes.trips_one), "--callers", "1")
        many = bench.ask_queue(peer, "roundtrip", "--jobs", str(bench.sizes.trips_many), "--callers", "32")
    return {"one_p50_ms": one["p50_ms"], "one_p99_ms": one["p99_ms"], "many_per_s": many["per_s"]}


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
        time.sleep(2.0)  # past the start-up work
        calls, cpu_s, began = bench.redis.commands_processed(), _cpu_s(worker), time.perf_counter()
        time.sleep(bench.sizes.idle_s)
        took_s = time.perf_counter() - began
        calls, cpu_s = bench.redis.commands_processed() - calls - 1, _cpu_s(worker) - cpu_s
    return {"calls_per_s": calls / took_s, "cpu_percent": 100 * cpu_s / took_s}


def _cpu_s(child: Child) -> float:
    """CPU seconds a child and its descendants have used."""
    root = psutil.Process(child.process.pid)
    times = [process.cpu_times() for process in (root, *root.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def chat(bench: Bench, peer: str) -> Figures:
    road = bench.road(peer)
    bench.chat(road, "noop", "--clients", "8", "--seconds", "0.5")  # warm-up
    one = bench.chat(road, "noop", "--requests", str(bench.sizes.chats_one))
    many = bench.chat(road, "noop", "--clients", "32", "--seconds", str(bench.sizes.chat_s))
    return {"one_p50_ms": one["p50_ms"], "one_p99_ms": one["p99_ms"], "many_per_s": many["per_s"]}


def stream(bench: Bench, peer: str) -> Figures:
    """Six waves of short streams for the first chunk, one wave of long ones for the rate; each wave starts at once."""
    road = bench.road(peer)
    clients = ("--clients", "16")
    bench.chat(road, "paced-20", *clients, "--requests", "16", "--tokens", "20", stream=True)  # warm-up
    short = bench.chat(road, "paced-20", *clients, "--requests", "96", "--tokens", "20", stream=True)
    tokens = str(bench.sizes.long_tokens)
    long = bench.chat(road, f"paced-{tokens}", *clients, "--requests", "16", "--tokens", tokens, stream=True)
    return {
        "first_p50_ms": short["first_p50_ms"],
        "first_p99_ms": short["first_p99_ms"],
        "paced_tokens_per_s": long["tokens_per_s"],
    }


def flat(bench: Bench, peer: str) -> Figures:
    arguments = ("--clients", "16", "--tokens", "250", "--seconds", str(bench.sizes.flat_s))
    return {"tokens_per_s": bench.chat(bench.road(peer), "flat-250", *arguments, stream=True)["tokens_per_s"]}


def intake(bench: Bench, peer: str) -> Figures:
    """Jobs are only accepted: no worker takes the processor from the one gateway process."""
    bench.stop_roads()
    bench.redis.clear()
    road = start_arriero(bench.around, worker=False) if peer == "arriero" else start_bare(bench.around, peer[5:])
    body: dict[str, object] = {"type": "chat.completion", "request": {"model": "noop", "messages": MESSAGES}}
    arguments = ("--expect", "202", "--tokens", "0", "--clients", "32")
    try:
        bench.load(road, "/v1/jobs", body, *arguments, "--seconds", "0.5")  # warm-up
        return {"per_s": bench.load(road, "/v1/jobs", body, *arguments, "--seconds", str(bench.sizes.chat_s))["per_s"]}
    finally:
        bench.stop(road)


def append_only(bench: Bench, peer: str) -> Figures:
    """The same three figures with and without the append-only file, in turns."""
    bench.stop_roads()
    bench.redis.set_append_only(peer == "arriero-aof")
    try:
        return {**throughput(bench, "arriero"), "intake_per_s": intake(bench, "arriero")["per_s"]}
    finally:
        bench.redis.set_append_only(False)


def memory(bench: Bench, peer: str) -> Figures:
    """Resident memory of a fresh gateway and worker halfway through and at the end."""
    bench.stop_roads()
    bench.redis.clear()
    road = start_arriero(bench.around)
    half = str(bench.sizes.memory_jobs // 2)
    figures: Figures = {}
    try:
        for _ in range(2):
            bench.chat(road, "noop", "--clients", "32", "--requests", half)
            for name, child in road.processes.items():
                now_mb = _resident_mb(child)
                figures[f"{name}_growth_mb"] = now_mb - figures.get(f"{name}_mb", now_mb)
                figures[f"{name}_mb"] = now_mb
    finally:
        bench.stop(road)
    return figures


def _resident_mb(child: Child) -> float:
    root = psutil.Process(child.process.pid)
    return sum(process.memory_info().rss for process in (root, *root.children(recursive=True))) / 1e6


@dataclass(slots=True, frozen=True, kw_only=True)
class Scenario:
    """Peers take their turns in this order. `once`: too long to repeat."""

    peers: tuple[str, ...]
    measure: Callable[[Bench, str], Figures]
    once: bool = False


SCENARIOS: dict[str, Scenario] = {
    "throughput": Scenario(peers=("arq", "bullmq", "arriero"), measure=throughput),
    "roundtrip": Scenario(peers=("arq", "bullmq", "arriero"), measure=roundtrip),
    "idle": Scenario(peers=("arq", "bullmq", "arriero"), measure=idle),
    "chat": Scenario(peers=("direct", "bare-proxy", "litellm", "portkey", "arriero"), measure=chat),
    # Portkey 1.15.2 answers streams with an error on Node 20.
    "stream": Scenario(peers=("direct", "bare-proxy", "litellm", "arriero"), measure=stream),
    "flat": Scenario(peers=("direct", "bare-proxy", "litellm", "arriero"), measure=flat),
    "intake": Scenario(peers=("bare-parse", "bare-arq", "arriero"), measure=intake),
    "append-only": Scenario(peers=("arriero", "arriero-aof"), measure=append_only),
    "memory": Scenario(peers=("arriero",), measure=memory, once=True),
}
"""In the order they are run: those that clear Redis under a gateway's feet stop the gateways first."""
