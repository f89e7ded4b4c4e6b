"""The monitor as a process, on a real Redis and the simulator: what its pages show, and what it tells of."""

from __future__ import annotations

from base64 import b64decode, b64encode
from hashlib import sha256
from hmac import digest
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from monitor.signals import METRICS
from shared.jobs import Priority
from shared.queue.client import QueueClient
from shared.services.settings import NO_OLLAMA
from shared.usage.fields import Call
from shared.usage.recorder import UsageRecorder
from tests.conftest import WaitUntil
from tests.house.redis_server import RedisServer
from tests.monitor.receiver import Posted, Receiver
from tests.monitor.running import active, enqueue, get, monitor, simulator

SECRET = "whsec_" + b64encode(b"k" * 32).decode()


@pytest.mark.req("S1-18", "S1-51", "S1-52", "S1-54", "S1-55", "S1-58", "S1-66", "S1-102")
async def test_pages(redis_url: str, queue: QueueClient, wait_until: WaitUntil) -> None:
    await enqueue(queue, priority=Priority.HIGH)
    await enqueue(queue, 2)
    async with simulator() as ollama, monitor(redis_url, OLLAMA_BASE_URL=ollama) as http:
        ready = await get(http, "/health/ready")
        assert ready["services"] == {"redis": "healthy"}
        report = await get(http, "/report")
        assert report["queue"]["queued_by_class"] == {"high": 1, "normal": 0, "low": 2}
        assert report["queue"]["unfinished_by_model"] == {"mistral": 3}
        assert report["host"]["memory"]["total_bytes"] > report["host"]["memory"]["used_bytes"] > 0
        assert report["ollama"][0]["models"] == ["mistral:latest"] and report["ollama"][0]["latency_s"] > 0
        assert report["redis"]["latency_s"] > 0
        assert report["errors"] == {}

        text = await http.get("/report", headers={"Accept": "text/plain"})
        assert text.headers["Content-Type"].startswith("text/plain") and "Queue     3 waiting" in text.text
        assert (await http.get("/report?format=text")).text.splitlines()[2:] != []
        assert (await http.get("/report?format=xml")).status_code == 400

        async def has_history() -> bool:
            series = (await get(http, "/history?metric=queue_waiting&since=15m"))["series"]
            return bool(series) and len(series[0]["points"]) >= 3

        await wait_until(has_history, description="three readings")
        assert 0 <= (await get(http, "/readings"))["host"]["cpu"]["used_ratio"] <= 1
        by_minute = await get(http, "/history?metric=disk_ratio&since=20h")
        assert by_minute["resolution_s"] == 60 and by_minute["series"][0]["about"] == "/"
        wrong = await http.get("/history?metric=nonsense")
        assert wrong.status_code == 400 and METRICS[0] in wrong.json()["error"]["message"]
        assert (await http.get("/history?metric=cpu_ratio&since=yesterday")).status_code == 400
        assert (await http.get("/history?metric=cpu_ratio&since=-5")).status_code == 400

        metrics = (await http.get("/metrics")).text
        list(text_string_to_metric_families(metrics))
        assert 'arriero_monitor_queue_depth{priority="low"} 2.0' in metrics
        assert "arriero_monitor_workers 0.0" in metrics
        assert "arriero_monitor_redis_up 1.0" in metrics
        assert f'arriero_ollama_host_up{{host="{ollama.removeprefix("http://")}"}} 1.0' in metrics


@pytest.mark.req("S1-56", "S1-57", "S1-59", "S1-60", "S1-62")
async def test_performance_by_model(redis_url: str, queue: QueueClient, wait_until: WaitUntil) -> None:
    recorder = UsageRecorder(queue.redis, queue.keys)
    recorder.record("mistral", "a:1", Call(kind="chat", seconds=1.0))
    await recorder.flush()
    async with monitor(redis_url, ERROR_RATE_ALERT_THRESHOLD="30", ALERT_MIN_CALLS="4") as http:
        for index in range(10):
            error = "backend_timeout" if index < 4 else ""
            recorder.record("mistral", f"{'ab'[index % 2]}:1", Call(kind="chat", seconds=2.0, error=error))
        await recorder.flush()

        async def is_seen() -> bool:
            return bool((await get(http, "/readings"))["models"])

        await wait_until(is_seen, description="the calls are seen")
        (chat,) = (await get(http, "/readings"))["models"]
        # The call from before the monitor's time is not among them.
        assert (chat["model"], chat["operation"], chat["requests"]) == ("mistral", "chat", 10)
        assert chat["mean_s"] == pytest.approx(2.0) and 1 < chat["p95_s"] <= 2.5 and chat["requests_per_min"] > 0
        assert chat["failures_by_code"] == {"backend_timeout": 4}

        async def fires() -> bool:
            return (await active(http)).get("model_failing") == "firing"

        await wait_until(fires, description="the alert of the failing model")
        report = await get(http, "/report")
        assert "failures" in {advice["topic"] for advice in report["advice"]}
        metrics = (await http.get("/metrics")).text
        assert 'arriero_model_requests_total{model="mistral",operation="chat"} 11.0' in metrics
        assert 'arriero_alert_active{alert="model_failing",severity="critical"} 1.0' in metrics


async def test_it_outlives_redis(wait_until: WaitUntil) -> None:
    with RedisServer() as server:
        async with monitor(server.url) as http:
            assert (await http.get("/health/ready")).status_code == 200
            server.kill()

            async def redis_is_down() -> bool:
                return (await active(http)).get("redis_down") == "firing"

            await wait_until(redis_is_down, 20, description="the alert that Redis is down")
            assert (await http.get("/health/ready")).status_code == 503
            assert (await http.get("/health/live")).status_code == 200
            report = await get(http, "/report")
            assert (report["verdict"], report["queue"], report["host"] is None) == ("critical", None, False)
            assert report["errors"]["queue"] == "Redis does not answer"
            assert "arriero_monitor_redis_up 0.0" in (await http.get("/metrics")).text
            server.start()

            async def is_over() -> bool:
                alerts = await get(http, "/alerts")
                return [alert["alert"] for alert in alerts["recent"]].count(
                    "redis_down"
                ) == 1  # a busy machine has others

            await wait_until(is_over, 40, description="the end of that alert")
            assert (await get(http, "/report"))["queue"] is not None


async def test_redis_that_is_all_but_full(wait_until: WaitUntil) -> None:
    with RedisServer() as server:
        async with monitor(server.url) as http, Redis.from_url(server.url) as redis:
            await redis.config_set("maxmemory", int((await redis.info("memory"))["used_memory"] / 0.97))

            async def is_told() -> bool:
                return (await active(http)).get("redis_memory") == "firing"

            await wait_until(is_told, description="the alert that Redis is nearly full")
            queue = (await get(http, "/readings"))["queue"]
            assert queue["redis_memory_ratio"] > 0.8 and queue["eviction_policy"] == "noeviction"


def checked(posted: Posted) -> Any:
    """The message, if its signature is right."""
    signed = f"{posted.headers['webhook-id']}.{posted.headers['webhook-timestamp']}.".encode() + posted.body
    expected = "v1," + b64encode(digest(b64decode(SECRET.removeprefix("whsec_")), signed, sha256)).decode()
    assert posted.headers["webhook-signature"] == expected
    return posted.json


@pytest.mark.req("S1-64", "S1-61")
async def test_a_backlog_is_told_once_by_two_monitors_and_its_end_too(
    redis_url: str, queue: QueueClient, wait_until: WaitUntil
) -> None:
    async with Receiver() as receiver:
        settings = {
            "QUEUE_BACKLOG_ALERT_THRESHOLD": "5",
            "ALERT_WEBHOOK_URL": receiver.url + "/hook",
            "ALERT_WEBHOOK_SECRET": SECRET,
            "ALERTMANAGER_URL": receiver.url,
        }
        async with (
            monitor(redis_url, MONITOR_ID="a", **settings) as a,
            monitor(redis_url, MONITOR_ID="b", **settings) as b,
        ):
            await enqueue(queue, 6)

            async def both(state: str | None) -> bool:
                seen = [(await active(http)).get("queue_backlog") for http in (a, b)]
                return seen == [state, state]

            await wait_until(lambda: both("firing"), description="both see the backlog")
            await queue.clear()
            await wait_until(lambda: both(None), description="both see its end")

            def told() -> list[tuple[str, str]]:
                hooks = [checked(posted) for posted in receiver.posted if posted.path == "/hook"]
                return [
                    (hook["type"], hook["data"]["alert"]) for hook in hooks if hook["data"]["alert"] == "queue_backlog"
                ]

            await wait_until(lambda: len(told()) == 2, description="beginning and end are told")
            assert told() == [("alert.firing", "queue_backlog"), ("alert.resolved", "queue_backlog")]
            for http in (a, b):
                over = [alert["alert"] for alert in (await get(http, "/alerts"))["recent"]]
                assert over.count("queue_backlog") == 1
        names = {
            alert["labels"]["alertname"]
            for posted in receiver.posted
            if posted.path != "/hook"
            for alert in posted.json
        }
        assert "arriero_queue_backlog" in names


@pytest.mark.req("S1-63")
async def test_a_model_that_jobs_want_and_nobody_has(redis_url: str, queue: QueueClient, wait_until: WaitUntil) -> None:
    async with simulator() as ollama, monitor(redis_url, OLLAMA_BASE_URL=ollama) as http:
        await enqueue(queue, model="mistral:latest")
        await enqueue(queue, model="llava")

        async def is_missed() -> bool:
            alerts = (await get(http, "/alerts"))["active"]
            return [alert["about"] for alert in alerts if alert["alert"] == "model_missing"] == ["llava"]

        await wait_until(is_missed, description="llava is missed")
        async with httpx.AsyncClient(base_url=ollama, trust_env=False) as server:
            (await server.post("/api/pull", json={"model": "llava", "stream": False}, timeout=20)).raise_for_status()

        async def is_over() -> bool:
            return "model_missing" not in await active(http)

        await wait_until(is_over, description="llava is there")


@pytest.mark.req("S1-54")
async def test_with_ollama_switched_off_no_host_is_watched_or_missed(redis_url: str, queue: QueueClient) -> None:
    off = {"OLLAMA_ENABLED": "false", "SERVICES": '{"jan": {}}', "DEFAULT_SERVICE": "jan"}
    await enqueue(queue, model="llava")
    async with monitor(redis_url, **off) as http:
        health, report = await get(http, "/health"), await get(http, "/report")
        assert (health["status"], health["ollama"]) == ("healthy", NO_OLLAMA)
        assert (report["ollama"], report["errors"]) == ([], {})
        assert report["queue"]["unfinished_by_model"] == {"llava": 1}
        assert not {"model_missing", "ollama_all_down", "ollama_host_down"} & (await active(http)).keys()
        assert "Ollama    none" in (await http.get("/report?format=text")).text
