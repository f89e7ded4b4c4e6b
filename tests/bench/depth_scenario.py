"""Row D1: whether a deep queue is slower than a short one, and what a queued job takes."""

from __future__ import annotations

from tests.bench.redis_server import start_redis
from tests.bench.workbench import Bench, DeepQueue, Figures

LEAST_JOBS = 100
WEIGHED_FROM = 10_000
"""In a shorter queue what it takes itself is more than its jobs."""


def depth(bench: Bench, peer: str) -> Figures:
    """`queued-<N>`: a server of its own with N jobs in it, filled at the first turn; the depth stays during a turn."""
    around = bench.around
    if peer not in bench.deep:
        queued = max(LEAST_JOBS, round(int(peer.removeprefix("queued-")) * bench.sizes.depth_share))
        redis = start_redis(around.children, around.scratch, append_only=False)
        arguments = ("--redis", redis.url, "--jobs", str(queued))
        filled = bench.program("depth_probe", "fill", *arguments)
        bench.deep[peer] = DeepQueue(redis, filled if queued >= WEIGHED_FROM else {})
    deep = bench.deep[peer]
    rounds = str(bench.sizes.depth_rounds)
    return bench.program("depth_probe", "probe", "--redis", deep.redis.url, "--jobs", rounds) | deep.weight
