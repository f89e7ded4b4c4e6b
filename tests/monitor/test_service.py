"""The monitor as a process, on a real Redis."""

from __future__ import annotations

import sys

import httpx
import pytest

from shared.jobs import Kind, NewJob, Priority
from shared.queue.client import QueueClient
from shared.settings import BaseServiceSettings
from shared.wire.canonical import ChatRequest, Message
from tests.arriero.daemon import Daemon
from tests.conftest import WaitUntil
from tests.house.redis_server import RedisServer


@pytest.mark.req("S1-18", "S1-51", "S1-52", "S1-102")
async def test_report_and_metrics(redis_url: str) -> None:
    queue = await QueueClient.connect(BaseServiceSettings.model_validate({"redis_url": redis_url}))
    request = ChatRequest(model="m", messages=[Message(role="user", content="x")])
    for priority in (Priority.HIGH, Priority.LOW, Priority.LOW):
        await queue.enqueue(NewJob(kind=Kind.CHAT, model="m", request=request, priority=priority))
    async with (
        Daemon([sys.executable, "-m", "monitor"], {"MONITOR_PORT": "0", "REDIS_URL": redis_url}) as daemon,
        httpx.AsyncClient(base_url=daemon.url) as http,
    ):
        assert (await http.get("/health/ready")).json()["services"] == {"redis": "healthy"}
        report = (await http.get("/report")).json()
        assert report["queue"]["queued_by_class"] == {"high": 1, "normal": 0, "low": 2}
        assert report["host"]["memory_total_bytes"] > report["host"]["memory_available_bytes"] > 0
        assert 0 <= report["host"]["cpu_percent"] <= 100
        metrics = (await http.get("/metrics")).text
        assert 'arriero_monitor_queue_depth{priority="low"} 2.0' in metrics
        assert "arriero_monitor_workers 0.0" in metrics
        assert "arriero_monitor_redis_up 1.0" in metrics
    assert daemon.status == 0
    await queue.clear()
    await queue.aclose()


async def test_it_outlives_redis(wait_until: WaitUntil) -> None:
    with RedisServer() as server:
        async with (
            Daemon([sys.executable, "-m", "monitor"], {"MONITOR_PORT": "0", "REDIS_URL": server.url}) as daemon,
            httpx.AsyncClient(base_url=daemon.url, timeout=10) as http,
        ):
            assert (await http.get("/health/ready")).status_code == 200
            server.kill()
            away = await http.get("/health/ready")
            assert away.status_code == 503
            assert (await http.get("/health/live")).status_code == 200
            assert (await http.get("/report")).json()["queue"] is None
            assert "arriero_monitor_redis_up 0.0" in (await http.get("/metrics")).text
            server.start()

            async def is_ready() -> bool:
                return (await http.get("/health/ready")).status_code == 200

            await wait_until(is_ready, description="the monitor sees Redis again")
        assert daemon.status == 0
