"""Arriero's queue on several servers that take turns. One process serves them all, as two are never equally fast.

    python -m tests.bench.queue_turns drain --redis URL --redis URL --rounds R --jobs N
        -> {URL: {"enqueue_per_s", "drain_per_s"}}; a slice is N jobs
    python -m tests.bench.queue_turns roundtrip ...
        -> {URL: {"many_per_s"}}; the workers run elsewhere

It prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import uvloop

from tests.bench.queues.arriero_queue import ArrieroQueue
from tests.bench.queues.command_line import Options, parse
from tests.bench.redis_server import BenchRedis
from tests.bench.turns import Slice, in_turns

WARM_UP_JOBS = 500
Action = Callable[[Options], Coroutine[Any, Any, dict[str, float]]]
Step = Callable[[BenchRedis], Slice]


def steps(command: str, jobs: int) -> Mapping[str, Step]:
    """What a server does in its slices, by figure."""
    queue = ArrieroQueue()

    def enqueue(server: BenchRedis) -> Slice:
        server.clear()
        return _slice(queue.enqueue, server, "enqueue", jobs, callers=50)

    def drain(server: BenchRedis) -> Slice:
        return _slice(queue.drain, server, "drain", jobs)

    def roundtrip(server: BenchRedis) -> Slice:
        return _slice(queue.roundtrip, server, "roundtrip", jobs, callers=32)

    return {"many_per_s": roundtrip} if command == "roundtrip" else {"enqueue_per_s": enqueue, "drain_per_s": drain}


def _slice(action: Action, server: BenchRedis, command: str, jobs: int, callers: int = 1) -> Slice:
    options = parse((command, "--redis", server.url, "--jobs", str(jobs), "--callers", str(callers)))
    per_s = uvloop.run(action(options))["per_s"]
    server.sync()
    return Slice(count=jobs, took_s=jobs / per_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("drain", "roundtrip"))
    parser.add_argument("--redis", action="append", required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--jobs", type=int, required=True, help="of a slice")
    given = parser.parse_args()
    servers = {url: BenchRedis(url) for url in given.redis}
    in_turns(servers, 1, steps(given.command, WARM_UP_JOBS))
    print(json.dumps(in_turns(servers, given.rounds, steps(given.command, given.jobs))))


if __name__ == "__main__":
    main()
