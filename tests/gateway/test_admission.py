"""Overload as callers meet it: status, code, when to come back; what is never shed."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import pytest

from tests.gateway.conftest import CHAT, Served, StartGateway
from tests.shared.queue.rig import claim

JOB = {"type": "chat.completion", "request": CHAT}


async def submit(served: Served, **more: Any) -> httpx.Response:
    return await served.http.post("/v1/jobs", json={**JOB, **more})


def check(refused: httpx.Response, status: int, code: str) -> None:
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (status, code)
    assert error["type"] == ("rate_limit_error" if status == 429 else "server_error")
    assert refused.headers["retry-after"].isdigit()
    assert 1 <= int(refused.headers["retry-after"]) <= 120
    assert refused.headers["x-should-retry"] == "true"


async def test_a_full_queue_is_429(start_gateway: StartGateway) -> None:
    served = await start_gateway(max_queue_depth=1)
    assert (await submit(served)).status_code == 202
    check(await submit(served), 429, "queue_full")
    check(await served.chat(), 429, "queue_full")
    check(await served.chat(stream=True), 429, "queue_full")


async def test_a_tenants_own_limit_is_429(start_gateway: StartGateway) -> None:
    served = await start_gateway(max_tenant_queue_depth=1)
    assert (await submit(served, delay_seconds=60)).status_code == 202
    check(await submit(served), 429, "tenant_queue_full")


async def test_what_is_no_callers_doing_is_503(start_gateway: StartGateway) -> None:
    served = await start_gateway(max_queue_wait=1.0)
    assert (await submit(served)).status_code == 202
    queue = served.queue
    await queue.redis.hset(queue.keys.load, mapping={"rate": "0.1", "rated": int(time.time() * 1000)})  # type: ignore[misc]  # redis-py 5 types it as either
    check(await submit(served, deadline_seconds=5), 503, "deadline_unreachable")
    await queue.redis.hset(queue.keys.load, "memory", "80")  # type: ignore[misc]  # redis-py 5 types it as either
    check(await submit(served), 503, "memory_pressure")
    await queue.redis.hset(queue.keys.load, "memory", "10")  # type: ignore[misc]  # redis-py 5 types it as either
    await asyncio.sleep(1.1)
    check(await submit(served), 503, "queue_too_slow")


async def test_bytes_are_503(start_gateway: StartGateway) -> None:
    served = await start_gateway(max_queue_bytes=1024 * 1024)
    long = {**CHAT, "messages": [{"role": "user", "content": "x" * 600_000}]}
    assert (await submit(served, request=long)).status_code == 202
    check(await submit(served, request=long), 503, "queue_bytes_full")
    assert (await submit(served)).status_code == 202


async def test_refusals_are_quick_and_nothing_else_is_shed(start_gateway: StartGateway) -> None:
    served = await start_gateway(max_queue_depth=1)
    await submit(served)
    seconds = []
    for _ in range(100):
        start = time.perf_counter()
        check(await submit(served), 429, "queue_full")
        seconds.append(time.perf_counter() - start)
    assert sorted(seconds)[98] < 0.05
    for path in ("/health/live", "/health", "/admin/queue", "/admin/dead-letters", "/metrics", "/v1/jobs"):
        assert (await served.http.get(path)).status_code == 200, path
    assert (await served.http.post("/admin/queue/clear")).json()["cancelled"] == 1
    assert (await submit(served)).status_code == 202
    page = (await served.http.get("/metrics")).text
    assert "arriero_queue_payload_bytes" in page and "arriero_queue_drain_per_second" in page


async def test_a_repetition_meets_its_job_though_the_queue_is_full(start_gateway: StartGateway) -> None:
    served = await start_gateway(max_queue_depth=1)
    key = {"Idempotency-Key": "k1"}
    first = await served.http.post("/v1/jobs", json=JOB, headers=key)
    again = await served.http.post("/v1/jobs", json=JOB, headers=key)
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    other = await served.http.post("/v1/jobs", json={**JOB, "priority": "high"}, headers=key)
    assert other.status_code == 422


@pytest.mark.req("S1-14")
async def test_low_priority_gives_way(start_gateway: StartGateway) -> None:
    served = await start_gateway(max_queue_depth=5)
    for _ in range(4):
        assert (await submit(served, priority="low")).status_code == 202
    check(await submit(served, priority="low"), 429, "queue_full")
    assert (await submit(served, priority="high")).status_code == 202


async def test_the_settings_reach_the_scripts(start_gateway: StartGateway) -> None:
    served = await start_gateway(dead_letter_ttl=120.0, max_dead_letters=7)
    queue = served.queue
    await queue.redis.delete(f"{queue.keys.root}sweeping")
    await queue.sweep()
    job_id = (await submit(served)).json()["id"]
    [run] = await claim(queue.scripts)
    await queue.scripts.run("settle", run.id, run.token, "dead_lettered", b"@backend_fault", b"", 0, b"")
    assert 110 < await queue.redis.ttl(queue.keys.payload_root + job_id) <= 120
