"""The programs of `queues/`, one a queue: how each is started, and with which settings."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.bench.catalogue import package_of, peer_python

_HERE = Path(__file__).parent / "queues"


@dataclass(slots=True, frozen=True, kw_only=True)
class QueueProgram:
    """`share`: of a run's jobs, less for slow ones. `settings` are for the reader of the results."""

    program: str
    """A Python module of `queues`, or a file for Node."""
    settings: str
    share: float = 1.0
    many_callers: bool = True
    """False: its client blocks, so it has one caller at a time."""


QUEUES: dict[str, QueueProgram] = {
    "arq": QueueProgram(
        program="arq_tuned", settings="1 ms polling, msgpack, 500 jobs at once, uvloop; results looked for every 1 ms"
    ),
    "arq-stock": QueueProgram(
        program="arq_stock", settings="nothing set: polls twice a second, pickle, 10 jobs at once", share=0.03
    ),
    "saq": QueueProgram(
        program="saq_tuned",
        settings="msgpack, 100 jobs at once (the fastest of 20 to 500), 1000 connections, uvloop; results by pub/sub",
        share=0.3,
    ),
    "taskiq": QueueProgram(
        program="taskiq_tuned",
        settings="ListQueueBroker, msgpack, 500 tasks at once and as many fetched ahead, parameters not checked, "
        "uvloop; no acknowledgements; results looked for every 1 ms",
        share=0.3,
    ),
    "celery": QueueProgram(
        program="celery_prefork",
        settings="prefork, one process, msgpack, prefetch 1000, -O fair, no gossip, mingle, heartbeat or rate limits; "
        "one caller",
        share=0.15,
        many_callers=False,
    ),
    "bullmq": QueueProgram(program="bullmq.mjs", settings="Node, concurrency 200; results by QueueEvents"),
    "arriero": QueueProgram(
        program="arriero_queue", settings="leases, fences, records, deadlines; 500 jobs at once, uvloop"
    ),
}
"""In the order in which they take turns."""


def command(name: str, peers: Mapping[str, Path]) -> tuple[list[str], dict[str, str]]:
    """What starts a queue's program, without arguments, and what is added to its environment.

    `peers`: where each peer is installed.
    """
    program, package = QUEUES[name].program, package_of(name)
    if program.endswith(".mjs"):
        return ["node", str(_HERE / program)], {"BENCH_PEER_DIRECTORY": str(peers[package])}
    python = str(peer_python(peers[package])) if package else sys.executable
    return [python, "-m", f"tests.bench.queues.{program}"], {}
