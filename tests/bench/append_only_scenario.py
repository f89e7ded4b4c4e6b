"""Row G6: what an append-only file costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from tests.bench.gateway_scenarios import WARM_UP, accept
from tests.bench.queue_scenarios import worker_up
from tests.bench.redis_server import running_redis
from tests.bench.turns import Slice, in_turns
from tests.bench.workbench import Bench, Figures

Sides = Mapping[str, Bench]
PEERS = {"arriero": False, "arriero-aof": True}
"""Who has the file."""
QUEUE = ROAD = "arriero"


def append_only(bench: Bench) -> dict[str, Figures]:
    """Two servers, one of them with the file, each with processes of its own: while one side works, the other idles."""
    bench.stop_roads()
    with ExitStack() as servers:
        sides = {name: servers.enter_context(_side(bench, append_only=with_file)) for name, with_file in PEERS.items()}
        drained = _queue_turns(bench, sides, "drain", bench.sizes.slice_jobs)
        with ExitStack() as workers:
            for side in sides.values():
                workers.enter_context(worker_up(side, QUEUE))
            asked = _queue_turns(bench, sides, "roundtrip", bench.sizes.trips_many)
        roads = _road_turns(sides, bench.sizes.slices)
    return {name: {**drained[name], **asked[name], **roads[name]} for name in sides}


@contextmanager
def _side(bench: Bench, *, append_only: bool) -> Iterator[Bench]:
    """As `bench`, on a server of its own; gateways that were started on it end with it."""
    around = bench.around
    with running_redis(around.children, around.scratch, append_only=append_only) as redis:
        # A rewrite falls into some slices and not into others; it is told of apart.
        redis.client.config_set("auto-aof-rewrite-percentage", "0")
        side = Bench(replace(around, redis_url=redis.url), redis, bench.sizes)
        try:
            yield side
        finally:
            side.stop_roads()


def _queue_turns(bench: Bench, sides: Sides, command: str, jobs: int) -> dict[str, Figures]:
    servers = [argument for side in sides.values() for argument in ("--redis", side.redis.url)]
    arguments = ("--rounds", str(bench.sizes.slices), "--jobs", str(jobs))
    seen = bench.answer("queue_turns", command, *servers, *arguments)
    return {name: seen[side.redis.url] for name, side in sides.items()}


def _road_turns(sides: Sides, rounds: int) -> dict[str, Figures]:
    """Chats, and then jobs that are only accepted: the workers have gone, the gateways stay."""
    for side in sides.values():
        side.redis.clear()
        side.chat(side.road(ROAD), "noop", *WARM_UP)
    chats = in_turns(sides, rounds, {"chats_per_s": _chats})
    for side in sides.values():
        side.around.children.stop(side.road(ROAD).processes.pop("worker"))
        accept(side, side.road(ROAD), *WARM_UP)
    accepted = in_turns(sides, rounds, {"intake_per_s": _intake})
    return {name: {**chats[name], **accepted[name]} for name in sides}


def _chats(side: Bench) -> Slice:
    seconds = str(side.sizes.slice_s)
    return _slice(side, side.chat(side.road(ROAD), "noop", "--clients", "32", "--seconds", seconds))


def _intake(side: Bench) -> Slice:
    seconds = str(side.sizes.slice_s)
    return _slice(side, accept(side, side.road(ROAD), "--clients", "32", "--seconds", seconds))


def _slice(side: Bench, seen: Figures) -> Slice:
    side.redis.sync()
    return Slice(count=seen["requests"], took_s=seen["requests"] / seen["per_s"])
