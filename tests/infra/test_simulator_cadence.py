"""When tokens come."""

from __future__ import annotations

import asyncio
import random
import time
from itertools import pairwise
from statistics import median
from typing import Any

from infra.simulator.pacing import Pace
from tests.infra.conftest import Start
from tests.infra.simulator_api import Api


async def arrivals(api: Api, text: str) -> list[float]:
    body = {"model": "llama3.2", "prompt": text}
    return [at async for at, line in api.timed_lines("/api/generate", body) if not line["done"]]


async def test_lines_come_one_by_one_at_the_configured_rate(start: Start) -> None:
    api = await start(tokens_per_second=200.0)
    await api.chat("warm [tokens=1]")
    at = await arrivals(api, "x [tokens=200]")
    assert len(at) == 200
    assert 0.985 < at[-1] - at[0] < 1.5
    assert 0.003 < median(b - a for a, b in pairwise(at)) < 0.008


async def test_late_wake_ups_do_not_add_up(start: Start) -> None:
    api = await start(tokens_per_second=100.0)
    await api.chat("warm [tokens=1]")
    [runner] = api.simulator.scheduler.loaded()
    pace, started = Pace(api.simulator.settings, runner, random.Random(0)), time.perf_counter()
    for done in range(40):
        await pace.next(done, 40)
        if done % 4 == 0:
            time.sleep(0.02)  # noqa: ASYNC251  # holds up the loop on purpose
    # 39 gaps of 10 ms; gaps counted from each wake-up would make it 0.5 s and more.
    assert 0.385 < time.perf_counter() - started < 0.48


async def test_the_metrics_tell_the_rate(start: Start) -> None:
    api = await start(tokens_per_second=200.0, first_token_seconds=0.1)
    for stream in (True, False):
        final = (await api.generate("x [tokens=60]", stream=stream)).lines[-1]
        assert 0.09e9 < final["prompt_eval_duration"] < 0.3e9
        assert 0.28e9 < final["eval_duration"] < 0.6e9


async def test_streams_share_the_throughput_when_told_so(start: Start) -> None:
    api = await start(tokens_per_second=200.0, slowdown=1.0)
    both = await asyncio.gather(*(arrivals(api, "x [tokens=30]") for _ in range(2)))
    # 29 gaps of 5 ms would be 0.145 s; shared by two they are twice as long.
    assert all(at[-1] - at[0] > 0.23 for at in both)


async def test_jitter_varies_the_gaps_and_keeps_the_mean(start: Start) -> None:
    api = await start(tokens_per_second=100.0, jitter=0.9)
    at = await arrivals(api, "x [tokens=60]")
    gaps = [b - a for a, b in pairwise(at)]
    assert max(gaps) - min(gaps) > 0.008 and 0.4 < at[-1] - at[0] < 1.2


async def test_a_tool_call_is_held_back_until_it_is_whole(start: Start) -> None:
    api = await start(tokens_per_second=100.0)
    await api.chat("warm [tokens=1]")
    tool: dict[str, Any] = {"type": "function", "function": {"name": "ring_bell", "parameters": {}}}
    body = {"model": "llama3.2", "messages": [{"role": "user", "content": "ring_bell"}], "tools": [tool]}
    lines = [(at, line) async for at, line in api.timed_lines("/api/chat", body)]
    hidden = lines[-1][1]["eval_count"]
    assert "tool_calls" in lines[0][1]["message"] and lines[0][0] >= (hidden - 1) * 0.01
