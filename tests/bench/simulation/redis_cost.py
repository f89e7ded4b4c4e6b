"""What a job costs Redis: calls, bytes and CPU time around a drain, and around chats through gateway and worker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tests.bench.processes import Children
from tests.bench.redis_server import BenchRedis, start_redis
from tests.bench.roads import Surroundings, start_arriero, start_stub
from tests.bench.simulation.plan_cost import ClaimCost, claim_costs
from tests.bench.workbench import Bench, Sizes

DRAIN_JOBS, CHATS, STREAMS, STREAM_TOKENS = 20_000, 3_000, 200, 250
QUEUE_CLIENTS, CHAT_CLIENTS = 50, 32
_FROM_OUTSIDE = frozenset({"evalsha", "bzpopmin", "xread"})
"""Commands that come over the network while jobs run; nearly all others are run by scripts."""


@dataclass(slots=True, frozen=True, kw_only=True)
class JobCost:
    """For each job: `scripts` and `waits` (blocking reads) come over the network, `commands` are run by scripts."""

    what: str
    jobs: int
    scripts: float
    waits: float
    commands: float
    bytes_in: float
    bytes_out: float
    cpu_us: float
    """Of all of Redis' threads."""

    @property
    def jobs_per_core_s(self) -> float:
        return 1e6 / self.cpu_us


@dataclass(slots=True, frozen=True)
class Costs:
    redis: str
    jobs: list[JobCost]
    claims: list[ClaimCost]


def measure(scratch: Path, say: Callable[[str], None]) -> Costs:
    """Raises BenchError."""
    with Children(scratch) as children:
        redis = start_redis(children, scratch, append_only=False)
        around = Surroundings(
            children=children, redis_url=redis.url, stub_url=start_stub(children), peers={}, scratch=scratch
        )
        bench = Bench(around, redis, Sizes())
        costs = [
            _cost(redis, "enqueue, 50 callers", DRAIN_JOBS,
                  lambda: bench.ask_queue("arriero", "enqueue", DRAIN_JOBS, QUEUE_CLIENTS)),
            _cost(redis, "claim, run and settle, 500 at once", DRAIN_JOBS,
                  lambda: bench.ask_queue("arriero", "drain", DRAIN_JOBS)),
        ]  # fmt: skip
        redis.clear()
        road = start_arriero(around)
        bench.chat(road, "noop", "--requests", "200", "--clients", "8")  # warm-up
        chats, streams = str(CHATS), str(STREAMS)
        flat, tokens = f"flat-{STREAM_TOKENS}", str(STREAM_TOKENS)
        costs += [
            _cost(redis, "chat, 1 client", CHATS, lambda: bench.chat(road, "noop", "--requests", chats)),
            _cost(redis, "chat, 32 clients", CHATS,
                  lambda: bench.chat(road, "noop", "--requests", chats, "--clients", str(CHAT_CLIENTS))),
            _cost(redis, f"stream of {STREAM_TOKENS} tokens, 16 clients", STREAMS,
                  lambda: bench.chat(road, flat, "--requests", streams, "--clients", "16", "--tokens", tokens,
                                     stream=True)),
        ]  # fmt: skip
        bench.stop(road)
        for cost in costs:
            say(f"{cost.what}: {cost.cpu_us:.0f} us of Redis a job")
        return Costs(redis.version(), costs, claim_costs(redis))


def _cost(redis: BenchRedis, what: str, jobs: int, work: Callable[[], object]) -> JobCost:
    redis.client.config_resetstat()
    cpu_s = _cpu_s(redis)
    work()
    cpu_s = _cpu_s(redis) - cpu_s
    stats, commands = _info(redis, "stats"), _info(redis, "commandstats")
    calls = {name.removeprefix("cmdstat_"): int(each["calls"]) for name, each in commands.items()}
    return JobCost(
        what=what, jobs=jobs, scripts=calls.get("evalsha", 0) / jobs,
        waits=sum(calls.get(name, 0) for name in ("bzpopmin", "xread")) / jobs,
        commands=sum(count for name, count in calls.items() if name not in _FROM_OUTSIDE) / jobs,
        bytes_in=stats["total_net_input_bytes"] / jobs, bytes_out=stats["total_net_output_bytes"] / jobs,
        cpu_us=cpu_s * 1e6 / jobs,
    )  # fmt: skip


def _cpu_s(redis: BenchRedis) -> float:
    info = _info(redis, "cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


def _info(redis: BenchRedis, section: str) -> dict[str, Any]:
    # redis-py declares one return type for its blocking and its asynchronous client.
    return cast("dict[str, Any]", redis.client.info(section))
