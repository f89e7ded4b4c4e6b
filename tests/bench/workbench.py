"""What the scenarios work with: sizes, the server, the running gateways, and programs that measure."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from typing import Any

import psutil

from tests.bench import queue_programs
from tests.bench.processes import Child
from tests.bench.redis_server import BenchRedis
from tests.bench.roads import ROADS, Road, Surroundings

COMMAND_TIMEOUT_S = 600.0
LEAST_JOBS = 5
MESSAGES = [
    {"role": "system", "content": "You answer in one short sentence."},
    {"role": "user", "content": "Why does a mule carry more than its weight in words? " * 4},
]
Figures = dict[str, float]


@dataclass(slots=True, frozen=True, kw_only=True)
class Sizes:
    """How much of everything; `QUICK` is for trying the harness, not for figures."""

    drain_jobs: int = 20_000
    trips_one: int = 500
    trips_many: int = 3_000
    idle_s: float = 5.0
    chats_one: int = 400
    chat_s: float = 3.0
    slices: int = 4
    """How often each side has its turn within one run of the append-only row."""
    slice_jobs: int = 15_000
    slice_s: float = 1.0
    """Of chats and of jobs that are accepted."""
    long_tokens: int = 600
    flat_s: float = 3.0
    embeddings_one: int = 100
    memory_jobs: int = 200_000
    streams: int = 2_000
    streams_s: float = 600.0
    depth_share: float = 1.0
    """Of the jobs that the depth row's queues should hold."""
    depth_rounds: int = 2_000
    affinity_jobs: int = 500
    affinity_speed: float = 7.0
    """So many times as fast as the times that are reported."""


FULL = Sizes()
QUICK = Sizes(
    drain_jobs=2_000, trips_one=100, trips_many=500, idle_s=3.0, chats_one=60, chat_s=1.0, slices=2,
    slice_jobs=2_000, slice_s=0.5, flat_s=1.0, embeddings_one=20, memory_jobs=4_000, streams=50, streams_s=20.0,
    depth_share=0.01, depth_rounds=200, affinity_jobs=60,
)  # fmt: skip


@dataclass(slots=True, frozen=True)
class DeepQueue:
    """A filled server, and what its jobs weigh."""

    redis: BenchRedis
    weight: Figures


@dataclass(slots=True)
class Bench:
    """Gateways are started when first needed and stay up for the turns."""

    around: Surroundings
    redis: BenchRedis
    sizes: Sizes
    deep: dict[str, DeepQueue] = field(default_factory=dict)
    _roads: dict[str, Road] = field(default_factory=dict)

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
        command, env = queue_programs.command(peer, self.around.peers)
        return [*command, *arguments, "--redis", self.redis.url], env

    def ask_queue(self, peer: str, action: str, jobs: int, callers: int = 1) -> Figures:
        """One command of `queues/protocol.md`, for the peer's share of the jobs."""
        share = max(LEAST_JOBS, round(jobs * queue_programs.QUEUES[peer].share))
        command, env = self.queue_command(peer, action, "--jobs", str(share), "--callers", str(callers))
        return self.around.children.answer(f"{peer}-{action}", command, timeout_s=COMMAND_TIMEOUT_S, env=env)

    def program(self, module: str, *arguments: str) -> Figures:
        """Run a module of this package to its end; what its last line says."""
        return self.answer(module, *arguments)

    def answer(self, module: str, *arguments: str) -> dict[str, Any]:
        """`program`, for one that says more than figures."""
        command = [sys.executable, "-m", f"tests.bench.{module}", *arguments]
        return self.around.children.answer(module, command, timeout_s=COMMAND_TIMEOUT_S)

    def load_arguments(self, road: Road, path: str, body: dict[str, object]) -> list[str]:
        """The load client's arguments for one path of a road."""
        where = ["--url", road.base_url + path, "--headers", json.dumps(road.headers)]
        return [*where, "--body", json.dumps(body)]

    def load(self, road: Road, path: str, body: dict[str, object], *arguments: str) -> Figures:
        """Run the load client against one path of a road."""
        return self.program("load_client", *self.load_arguments(road, path, body), *arguments)

    def chat(self, road: Road, model: str, *arguments: str, stream: bool = False) -> Figures:
        return self.load(road, "/v1/chat/completions", chat_body(model, stream=stream), *arguments)


def chat_body(model: str, *, stream: bool = False) -> dict[str, object]:
    return {"model": model, "messages": MESSAGES, "stream": stream}


def cpu_s(child: Child) -> float:
    """CPU seconds a child and its descendants have used."""
    root = psutil.Process(child.process.pid)
    times = [process.cpu_times() for process in (root, *root.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def resident_mb(child: Child) -> float:
    """Resident memory of a child and its descendants, MB."""
    root = psutil.Process(child.process.pid)
    return sum(process.memory_info().rss for process in (root, *root.children(recursive=True))) / 1e6
