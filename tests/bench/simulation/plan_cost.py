"""What a plan costs the worker that makes it, and a claim with that plan costs Redis."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, cast

from shared.jobs import Kind, NewJob, Priority
from shared.queue.arrivals import Accepted
from shared.queue.client import QueueClient
from shared.queue.lines import line_named, unit_in
from shared.queue.plans import CALL, Place, Plan, Row, WaitingLine
from shared.queue.scripts import Scripts
from shared.settings import BaseServiceSettings
from shared.wire.canonical import ChatRequest, Message
from tests.bench.redis_server import BenchRedis
from worker.scheduling.facts import HostFacts
from worker.scheduling.policy import Knobs, decide

HOSTS, LINES = (4, 20, 50), (10, 50, 100)
ROOM, NOW_MS = 3, 1_000_000
TURNS, CLAIMS = 40, 300
CLASSES: tuple[tuple[Priority, ...], ...] = ((Priority.NORMAL,), tuple(Priority))
"""Of the jobs that wait while claims are measured: a claim looks at its lines in each class that has some."""


@dataclass(slots=True, frozen=True, kw_only=True)
class PlanCost:
    """CPU of one process, microseconds; the plan as a claim carries it, bytes."""

    hosts: int
    lines: int
    decide_us: float
    pack_us: float
    plan_bytes: int


@dataclass(slots=True, frozen=True, kw_only=True)
class ClaimCost:
    """Redis' time for one claim of one job, and for one that starts nothing and brings a view, microseconds.

    `classes`: how many of them have jobs waiting in each line.
    """

    hosts: int
    lines: int
    classes: int
    claim_us: float
    view_us: float
    view_bytes: float


def plan_cost(hosts: int, lines: int) -> PlanCost:
    facts, waiting = _state(hosts, lines)
    knobs, packed = Knobs(), b""
    decide_us: list[float] = []
    pack_us: list[float] = []
    for _ in range(TURNS):
        began = time.thread_time_ns()
        decision = decide(waiting, (), facts, NOW_MS, knobs)
        decided = time.thread_time_ns()
        packed = Plan(decision.hosts, decision.rows).packed()
        pack_us.append((time.thread_time_ns() - decided) / 1000)
        decide_us.append((decided - began) / 1000)
    return PlanCost(
        hosts=hosts, lines=lines, decide_us=median(decide_us), pack_us=median(pack_us), plan_bytes=len(packed)
    )


def _state(hosts: int, lines: int) -> tuple[list[HostFacts], list[WaitingLine]]:
    """Hosts full of models, calls on most; lines of all classes, some of models that no host has."""
    dice = random.Random(hosts * 1000 + lines)
    models = [f"model-{number}" for number in range(max(ROOM + 1, lines * 2 // 3))]
    facts = []
    for number in range(hosts):
        resident = dice.sample(models, ROOM)
        calls = {model: count * CALL for model in resident if (count := dice.randrange(4))}
        facts.append(HostFacts(name=f"host-{number}", resident=dict.fromkeys(resident, 0), calls=calls, room=ROOM))
    keys = dice.sample([(priority, model) for priority in Priority for model in models], lines)
    return facts, [
        WaitingLine(priority, line_named(Kind.CHAT, model), dice.randrange(1, 9), NOW_MS - dice.randrange(8000))
        for priority, model in keys
    ]


async def claim_cost(redis: BenchRedis, hosts: int, lines: int, classes: Sequence[Priority]) -> ClaimCost:
    """Of claims with a plan in which each line has three places."""
    client = await QueueClient.connect(BaseServiceSettings(redis_url=redis.url))
    names = [f"host-{number}" for number in range(hosts)]
    models = [f"model-{number}" for number in range(lines)]
    jobs = [
        _job(models[number % len(models)], priority) for priority in classes for number in range(CLAIMS + 2 * lines)
    ]
    for first in range(0, len(jobs), 100):
        refused = [each for each in await client.enqueue_many(jobs[first : first + 100]) if type(each) is not Accepted]
        if refused:
            raise SystemExit(f"refused: {refused[0]}")
    rows = [_row(line_named(Kind.CHAT, model), names, number) for number, model in enumerate(models)]
    scripts = Scripts(client.redis, client.keys)
    plan, nothing = Plan(dict.fromkeys(names, 10_000), rows).packed(), Plan(dict.fromkeys(names, 10_000), []).packed()
    claim_us, _ = await _time(redis, scripts, plan, "")
    view_us, view_bytes = await _time(redis, scripts, nothing, "1")
    await client.aclose()
    return ClaimCost(
        hosts=hosts, lines=lines, classes=len(classes), claim_us=claim_us, view_us=view_us, view_bytes=view_bytes
    )


def _job(model: str, priority: Priority) -> NewJob:
    request = ChatRequest(model=model, messages=[Message(role="user", content="x" * 256)])
    return NewJob(kind=Kind.CHAT, model=model, priority=priority, request=request, timeout_s=3600.0)


def _row(line: str, hosts: Sequence[str], number: int) -> Row:
    at = [hosts[(number + step) % len(hosts)] for step in range(min(3, len(hosts)))]
    return Row(
        line=line, places=[Place(host=host, unit=unit_in(line), calls=10_000, shared_calls=9_999) for host in at]
    )


async def _time(redis: BenchRedis, scripts: Scripts, plan: bytes, look: str) -> tuple[float, float]:
    """Redis' mean time for one of `CLAIMS` claims, microseconds, and the bytes of its answer."""
    redis.client.config_resetstat()
    for number in range(CLAIMS):
        await scripts.run("claim", "probe", f"{number:024d}", 1, 600_000, 1000, plan, look)
    sent, calls = _info(redis, "stats")["total_net_output_bytes"], _info(redis, "commandstats")["cmdstat_evalsha"]
    return float(calls["usec"]) / float(calls["calls"]), float(sent) / CLAIMS


def _info(redis: BenchRedis, section: str) -> dict[str, Any]:
    # redis-py declares one return type for its blocking and its asynchronous client.
    return cast("dict[str, Any]", redis.client.info(section))


def claim_costs(redis: BenchRedis) -> list[ClaimCost]:
    found = []
    for hosts in HOSTS:
        for lines in LINES[:2]:
            for classes in CLASSES:
                redis.clear()
                found.append(asyncio.run(claim_cost(redis, hosts, lines, classes)))
    return found


def plan_costs() -> list[PlanCost]:
    return [plan_cost(hosts, lines) for hosts in HOSTS for lines in LINES]
