"""The monitor as a process: whom it lets in, what it does not start with, one reading, a GPU."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from shared.api_keys import Role, as_key_store, create_key, revoke_key
from shared.queue.client import QueueClient
from tests.arriero.daemon import PROJECT
from tests.conftest import WaitUntil
from tests.monitor.running import active, get, monitor
from tests.monitor.test_gpu import CARD, STUB_FOLDER


async def test_pages_need_an_operators_key_once_there_is_one(redis_url: str, queue: QueueClient) -> None:
    store = as_key_store(queue.redis)
    text, key = await create_key(store, "gw", tenant="ops", role=Role.OPERATOR)
    lesser, other = await create_key(store, "gw", tenant="app", role=Role.INFERENCE)
    async with monitor(redis_url) as http:
        for path in ("/report", "/readings", "/alerts", "/history?metric=cpu_ratio"):
            assert (await http.get(path)).status_code == 401
            assert (await http.get(path, headers={"Authorization": f"Bearer {lesser}"})).status_code == 403
            allowed = await http.get(path, headers={"Authorization": f"Bearer {text}"})
            assert (allowed.status_code, allowed.headers["Server"]) == (200, "arriero")
        for path in ("/health", "/health/live", "/health/ready", "/metrics"):
            assert (await http.get(path)).status_code == 200
    for made in (key, other):
        await revoke_key(store, "gw", made.id)


async def run_monitor(*arguments: str, **settings: str) -> tuple[int, str, str]:
    """Exit status, standard output and error of a monitor that ends by itself."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "monitor", *arguments),
        env={**os.environ, "PYTHONPATH": str(PROJECT), "MONITOR_PORT": "0", **settings},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode is not None
    return process.returncode, out.decode(), errors.decode()


async def test_what_it_does_not_start_with(redis_url: str) -> None:
    status, _, errors = await run_monitor(REDIS_URL=redis_url, MONITOR_HOST="0.0.0.0")
    assert status == 78 and "MONITOR_HOST" in errors and "arriero keys create" in errors
    status, _, errors = await run_monitor(ALERT_WEBHOOK_URL="https://example.org/x")
    assert status == 78 and "ALERT_WEBHOOK_SECRET" in errors
    status, _, errors = await run_monitor(CPU_ALERT_THRESHOLD="850")
    assert status == 78 and "CPU_ALERT_THRESHOLD" in errors and "0.85, 85 or 85%" in errors


@pytest.mark.req("S1-53", "S0-55")
async def test_one_reading_with_a_gpu(redis_url: str, tmp_path: Path) -> None:
    (tmp_path / "nvml.json").write_text(json.dumps({"gpus": [CARD]}))
    path = f"{STUB_FOLDER}{os.pathsep}{PROJECT}"
    settings = {"REDIS_URL": redis_url, "PYTHONPATH": path, "NVML_STUB": str(tmp_path / "nvml.json")}
    status, out, _ = await run_monitor("--once", **settings)
    assert status == 0
    reading = json.loads(out)
    (gpu,) = reading["gpu"]
    assert (gpu["name"], gpu["used_ratio"], gpu["memory_ratio"]) == ("Stub A100", 0.37, 0.75)
    assert reading["redis"]["up"] and reading["host"]["cpu"]["cores"] > 0
    assert 0 <= reading["host"]["cpu"]["used_ratio"] <= 1
    assert reading["queue"]["window_s"] > 0


@pytest.mark.req("S1-53", "D-07")
async def test_the_alert_of_a_full_gpu(redis_url: str, tmp_path: Path, wait_until: WaitUntil) -> None:
    stub = tmp_path / "nvml.json"
    path = f"{STUB_FOLDER}{os.pathsep}{PROJECT}"
    async with monitor(redis_url, PYTHONPATH=path, NVML_STUB=str(stub), GPU_MEMORY_ALERT_THRESHOLD="0.9") as http:
        assert (await get(http, "/report"))["gpu"] is None
        fresh = tmp_path / "fresh.json"

        def say(memory_used: int) -> None:
            fresh.write_text(json.dumps({"gpus": [{**CARD, "memory_used": memory_used}]}))
            fresh.replace(stub)  # never half a file

        async def state() -> str:
            return (await active(http)).get("gpu_memory", "")

        async def is_firing() -> bool:
            return await state() == "firing"

        async def is_well() -> bool:
            return await state() == "" and (await get(http, "/report"))["gpu"][0]["memory_ratio"] == 0.5

        say(76_000_000_000)
        await wait_until(is_firing, description="the GPU's memory is full")
        say(40_000_000_000)
        await wait_until(is_well, description="it is not")
