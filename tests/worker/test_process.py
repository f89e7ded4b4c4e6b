"""`python -m worker` as a process: its pages, its signals, its faults."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from shared.jobs import State
from shared.pins import Pins
from shared.queue.client import QueueClient
from shared.usage.reader import UsageReader
from tests.conftest import WaitUntil
from tests.house.redis_server import free_port
from tests.shared.backends.scripted_server import ScriptedServer, stream, whole
from tests.shared.queue.rig import chat, queue_client
from tests.shared.queue.test_leases import has_state, read

NOBODY = "http://127.0.0.1:9"
END = {"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop", "eval_count": 2}

OLLAMA = {
    "/api/chat": stream({"message": {"role": "assistant", "content": "ok"}, "done": False}, END),
    "/api/ps": whole(b'{"models": []}'),
    "/api/version": whole(b'{"version": "0.0.0"}'),
}


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[QueueClient]:
    async with queue_client(redis_url) as client:
        yield client


@contextlib.asynccontextmanager
async def process(redis_url: str, *args: str, **env: str) -> AsyncIterator[Process]:
    values = {
        "PATH": os.environ["PATH"],
        "REDIS_URL": redis_url,
        "WORKER_PORT": "0",
        "OLLAMA_BASE_URL": NOBODY,
        "LOG_FORMAT": "json",
        **env,
    }
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "worker", *args, env=values, stdout=PIPE, stderr=PIPE
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            for descendant in psutil.Process(child.pid).children(recursive=True):
                descendant.kill()
            child.kill()
        await child.communicate()


async def listening_url(child: Process) -> str:
    assert child.stdout is not None
    line = (await asyncio.wait_for(child.stdout.readline(), 15)).decode()
    assert line.startswith("worker listening on http://127.0.0.1:"), line
    return line.split()[-1]


async def ended(child: Process, timeout_s: float = 10) -> tuple[int | None, str]:
    """Exit code and what it wrote to standard error."""
    _, errors = await asyncio.wait_for(child.communicate(), timeout_s)
    return child.returncode, errors.decode()


def is_time(text: str) -> bool:
    return datetime.fromisoformat(text).tzinfo is not None


@pytest.mark.req("S1-16", "S1-19", "S1-20", "S1-21", "S1-73")
async def test_the_health_pages_have_their_documented_shapes(redis_url: str) -> None:
    async with process(redis_url, WORKER_ID="llm-7") as child, httpx.AsyncClient() as http:
        url = await listening_url(child)
        health = (await http.get(f"{url}/health")).json()
        live = (await http.get(f"{url}/health/live")).json()
        ready = await http.get(f"{url}/health/ready")

    assert (health["status"], health["workerId"]) == ("healthy", "llm-7")
    assert is_time(health["timestamp"]) and health["uptime"] >= 0 and isinstance(health["version"], str)
    assert (live["status"], live["workerId"]) == ("alive", "llm-7")
    assert is_time(live["timestamp"]) and live["uptime"] >= 0
    body = ready.json()
    # Without Ollama a worker is ready all the same: it takes jobs and retries them, and says that it is degraded.
    assert (ready.status_code, body["status"], body["degraded"], body["workerId"]) == (200, "ready", True, "llm-7")
    assert body["services"] == {"redis": "healthy", "queue": "healthy", "ollama": "unreachable"}


@pytest.mark.req("S1-21")
async def test_a_worker_without_redis_lives_but_is_not_ready() -> None:
    async with process(f"redis://127.0.0.1:{free_port()}/9") as child, httpx.AsyncClient() as http:
        url = await listening_url(child)
        assert (await http.get(f"{url}/health/live")).status_code == 200
        ready = await http.get(f"{url}/health/ready")
        child.send_signal(signal.SIGTERM)
        code, _ = await ended(child)
    assert (ready.status_code, ready.json()["status"]) == (503, "not ready")
    assert ready.json()["services"]["redis"].startswith("unreachable")
    assert code == 0


@pytest.mark.req("S1-22", "S1-23", "S1-24", "S1-25", "S1-26", "S1-27")
async def test_the_metrics_have_their_documented_names(
    client: QueueClient, redis_url: str, wait_until: WaitUntil
) -> None:
    async with (
        ScriptedServer(scripts=OLLAMA) as ollama,
        process(redis_url, WORKER_ID="llm-7", OLLAMA_BASE_URL=ollama.url) as child,
        httpx.AsyncClient() as http,
    ):
        url = await listening_url(child)
        job = chat()
        await client.enqueue(job)
        await wait_until(lambda: has_state(client, job.id, State.SUCCEEDED))
        page = await http.get(f"{url}/metrics")

    assert page.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples: dict[str, list[dict[str, str]]] = {}
    kinds: dict[str, str] = {}
    for family in text_string_to_metric_families(page.text):
        kinds[family.name] = family.type
        for sample in family.samples:
            samples.setdefault(sample.name, []).append(sample.labels)
    ours = {"worker_id": "llm-7"}
    assert ours in samples["llm_worker_uptime_seconds"]
    assert {**ours, "model": "llama3.2", "status": "success"} in samples["llm_worker_requests_total"]
    assert kinds["llm_worker_requests"] == "counter"
    assert kinds["llm_worker_request_duration_seconds"] == "histogram"
    assert {**ours, "model": "llama3.2", "le": "5.0"} in samples["llm_worker_request_duration_seconds_bucket"]
    assert ours in samples["llm_worker_models_loaded"]
    assert ours in samples["llm_worker_memory_usage_bytes"]
    own = [name for name in samples if name.startswith("llm_worker_")]
    assert all(labels["worker_id"] == "llm-7" for name in own for labels in samples[name])


async def test_a_job_travels_through_the_process(client: QueueClient, redis_url: str, wait_until: WaitUntil) -> None:
    async with ScriptedServer(scripts=OLLAMA) as ollama, process(redis_url, OLLAMA_BASE_URL=ollama.url):
        job = chat()
        await client.enqueue(job)
        await wait_until(lambda: has_state(client, job.id, State.SUCCEEDED), description="the answer")
    assert (await read(client, job.id)).attempts[0].worker.startswith("llm-worker-1.")


async def test_an_idle_worker_stops_at_once_and_in_good_order(redis_url: str) -> None:
    async with process(redis_url) as child:
        await listening_url(child)
        await asyncio.sleep(0.2)
        child.send_signal(signal.SIGTERM)
        code, errors = await ended(child, 5)
    assert code == 0
    assert "Traceback" not in errors


@pytest.mark.req("S1-74", "S1-76")
async def test_a_bad_setting_is_named_and_ends_with_78(redis_url: str) -> None:
    async with process(redis_url, WORKER_TIMEOUT="soon", WORKER_CONCURRENCY="0") as child:
        code, errors = await ended(child)
    assert code == 78
    assert "WORKER_TIMEOUT" in errors and "WORKER_CONCURRENCY" in errors
    assert "Traceback" not in errors


async def test_a_port_that_is_taken_is_a_fault_of_the_configuration(redis_url: str) -> None:
    holder = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    async with process(redis_url, WORKER_PORT=str(holder.sockets[0].getsockname()[1])) as child:
        code, errors = await ended(child)
    holder.close()
    assert code == 78
    assert "WORKER_PORT" in errors


@pytest.mark.req("S1-15")
async def test_two_processes_work_as_two_workers_and_stop_together(
    client: QueueClient, redis_url: str, wait_until: WaitUntil
) -> None:
    async def workers() -> list[str]:
        return [worker.id for worker in (await client.stats()).workers]

    async def both() -> bool:
        return len(await workers()) == 2

    async with process(redis_url, "--processes", "2", WORKER_ID="pair") as parent:
        await wait_until(both, timeout_s=20, description="both workers are there")
        assert sorted(name.split(".")[0] for name in await workers()) == ["pair-1", "pair-2"]
        first = psutil.Process(parent.pid).children()[0]
        first.kill()
        await wait_until(
            lambda: _children(parent.pid, without=first.pid) == 2, timeout_s=20, description="a new one took its place"
        )
        await wait_until(lambda: _named(workers, 3), timeout_s=20, description="the new one signed on")
        children = psutil.Process(parent.pid).children()
        parent.send_signal(signal.SIGTERM)
        code, _ = await ended(parent, 15)
    assert code == 0
    assert not [child for child in children if child.is_running()]


def _children(pid: int, *, without: int) -> int:
    return len([child for child in psutil.Process(pid).children() if child.pid != without])


async def _named(workers: Any, count: int) -> bool:
    # The one that was killed stays on the list until its heartbeat lapses.
    return len(await workers()) >= count


@pytest.mark.req("S1-36", "S1-87")
async def test_a_process_tells_ollama_how_long_models_stay_and_the_fleet_what_it_used(
    client: QueueClient, redis_url: str, wait_until: WaitUntil
) -> None:
    async with (
        ScriptedServer(scripts=OLLAMA) as ollama,
        process(redis_url, OLLAMA_BASE_URL=ollama.url, MODEL_UNLOAD_TIMEOUT="77s", FALLBACK_MODELS="phi3") as child,
    ):
        await listening_url(child)
        jobs = []

        async def is_kept(for_s: float) -> bool:
            jobs.append(chat())
            await client.enqueue(jobs[-1])
            await wait_until(lambda: has_state(client, jobs[-1].id, State.SUCCEEDED), description="the answer")
            return bool([seen for seen in ollama.requests if seen.path == "/api/chat"][-1].json["keep_alive"] == for_s)

        assert await is_kept(77)
        await Pins(client.redis, client.keys).pin("llama3.2:latest")
        await wait_until(lambda: is_kept(-1), 20.0, description="the worker heard of the pin")
        child.send_signal(signal.SIGTERM)
        code, _ = await ended(child)
    [usage] = await UsageReader(client.redis, client.keys).read()
    assert (code, usage.model, usage.calls, usage.failures) == (0, "llama3.2", len(jobs), 0)
