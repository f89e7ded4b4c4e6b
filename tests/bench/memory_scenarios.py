"""Rows M: what a gateway and a worker hold, and whether that grows."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil

from tests.bench.processes import Child
from tests.bench.roads import Road, start_arriero
from tests.bench.workbench import Bench, Figures, chat_body, resident_mb
from tests.chaos.resources import slope

WARM_UP_SHARE = 0.2
"""Of the time with open streams: it counts for the peak alone."""
SLOPE_OVER_S = 600.0
STREAM_MODEL, STREAM_TOKENS, STREAM_S = "slow-30", 30, 60.0
"""The streams begin one after the other over the time that one lasts, so that they do not end all at once."""
CHATS_AT_ONCE = 4
LOOK_S = 1.0


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
                now_mb = resident_mb(child)
                figures[f"{name}_growth_mb"] = now_mb - figures.get(f"{name}_mb", now_mb)
                figures[f"{name}_mb"] = now_mb
    finally:
        bench.stop(road)
    return figures


@dataclass(slots=True)
class Watch:
    """What is seen of a road, second by second."""

    road: Road
    points: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """(s, MB) of each process."""
    streams: list[int] = field(default_factory=list)

    def look(self) -> None:
        now = time.monotonic()
        for name, child in self.road.processes.items():
            self.points.setdefault(name, []).append((now, resident_mb(child)))
        self.streams.append(_connections(self.road.processes["gateway"]))

    def figures(self) -> Figures:
        """The peak of each process, and after the warm-up its slope and the fewest streams."""
        first = int(WARM_UP_SHARE * len(self.streams))
        figures: Figures = {"streams": float(min(self.streams[first:]) - CHATS_AT_ONCE)}
        for name, points in self.points.items():
            figures[f"{name}_mb"] = max(mb for _, mb in points)
            figures[f"{name}_slope_mb"] = slope(points[first:]) * SLOPE_OVER_S
        return figures


def streams(bench: Bench, peer: str) -> Figures:
    """Many chats, then many slow streams with chats beside them."""
    bench.stop_roads()
    bench.redis.clear()
    slots = str(bench.sizes.streams + 2 * CHATS_AT_ONCE)
    road = start_arriero(bench.around, settings={"WORKER_CONCURRENCY": slots, "MAX_CONCURRENT_REQUESTS": slots})
    try:
        bench.chat(road, "noop", "--clients", "32", "--requests", str(bench.sizes.memory_jobs))
        with _loads(bench, road) as loads:
            return _watched(bench, road, loads)
    finally:
        bench.stop(road)


@contextmanager
def _loads(bench: Bench, road: Road) -> Iterator[tuple[Child, Child]]:
    """The streams' client and the chats', for the length of the block; all streams are open when it begins."""
    spread_s = min(STREAM_S, bench.sizes.streams_s / 10)
    lasting = ("--seconds", str(STREAM_S + 2 * bench.sizes.streams_s))
    streaming = [
        *("--clients", str(bench.sizes.streams), "--tokens", str(STREAM_TOKENS)),
        *("--spread", str(spread_s), "--timeout", str(3 * STREAM_S), *lasting),
    ]
    chatting = ("--clients", str(CHATS_AT_ONCE), "--pause", "0.05", *lasting)
    running = bench.around.children.running
    with (
        running("load-streams", _load(bench, road, STREAM_MODEL, *streaming, stream=True)) as streams,
        running("load-chats", _load(bench, road, "noop", *chatting)) as chats,
    ):
        time.sleep(spread_s)
        yield streams, chats


def _load(bench: Bench, road: Road, model: str, *arguments: str, stream: bool = False) -> list[str]:
    where = bench.load_arguments(road, "/v1/chat/completions", chat_body(model, stream=stream))
    return [sys.executable, "-m", "tests.bench.load_client", *where, *arguments]


def _watched(bench: Bench, road: Road, loads: Sequence[Child]) -> Figures:
    watch, until = Watch(road), time.monotonic() + bench.sizes.streams_s
    while time.monotonic() < until:
        for child in (*loads, *road.processes.values()):
            child.check()
        watch.look()
        time.sleep(LOOK_S)
    return watch.figures()


def _connections(gateway: Child) -> int:
    """Connections that clients hold to it."""
    connections = psutil.Process(gateway.process.pid).net_connections("tcp")
    ports = {each.laddr.port for each in connections if each.status == psutil.CONN_LISTEN}
    return sum(each.status == psutil.CONN_ESTABLISHED and each.laddr.port in ports for each in connections)
