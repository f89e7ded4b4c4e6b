"""`python -m gateway` as a process: starting, refusing to start, stopping."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator

import httpx
import pytest

from shared.queue.running import RunningJob
from tests.conftest import WaitUntil
from tests.gateway.conftest import CHAT, NOBODY, HandWorker, hello


@contextlib.asynccontextmanager
async def process(redis_url: str, **env: str) -> AsyncIterator[Process]:
    values = {
        "PATH": os.environ["PATH"],
        "REDIS_URL": redis_url,
        "GATEWAY_PORT": "0",
        "OLLAMA_BASE_URL": NOBODY,
        "LOG_FORMAT": "json",
        **env,
    }
    child = await asyncio.create_subprocess_exec(sys.executable, "-m", "gateway", env=values, stdout=PIPE, stderr=PIPE)
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()


async def listening_url(child: Process) -> str:
    assert child.stdout is not None
    line = (await asyncio.wait_for(child.stdout.readline(), 15)).decode()
    assert line.startswith("gateway listening on http://127.0.0.1:")
    return line.split()[-1]


@pytest.mark.req("S0-35")
async def test_every_wrong_setting_is_listed_and_no_secret_is_shown(redis_url: str) -> None:
    env = {"GATEWAY_PORT": "99999", "REQUEST_TIMEOUT": "soon", "MAX_BODY_BYTES": "s3cret"}
    async with process(redis_url, **env) as child:
        _, errors = await asyncio.wait_for(child.communicate(), 15)
        assert child.returncode == 78
        text = errors.decode()
        for name in env:
            assert f"- {name}:" in text
        assert "Traceback" not in text
        assert "s3cret" not in text


async def test_no_key_no_public_address(redis_url: str) -> None:
    async with process(redis_url, GATEWAY_HOST="0.0.0.0") as child:
        _, errors = await asyncio.wait_for(child.communicate(), 15)
        assert child.returncode == 78
        assert "arriero keys create" in errors.decode()


async def test_a_port_in_use_is_a_plain_sentence(redis_url: str) -> None:
    taken = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = taken.sockets[0].getsockname()[1]
    async with taken, process(redis_url, GATEWAY_PORT=str(port)) as child:
        _, errors = await asyncio.wait_for(child.communicate(), 15)
        assert child.returncode == 78
        assert f"127.0.0.1:{port} cannot be listened on" in errors.decode()


async def test_sigterm_lets_running_requests_finish(redis_url: str, worker: HandWorker, wait_until: WaitUntil) -> None:
    started, release = asyncio.Event(), asyncio.Event()

    async def held(job: RunningJob) -> bytes:
        started.set()
        await release.wait()
        return await hello(job)

    worker.script = held
    async with process(redis_url) as child:
        url = await listening_url(child)
        async with httpx.AsyncClient(base_url=url, timeout=20) as http, httpx.AsyncClient(base_url=url) as probe:
            assert (await probe.get("/health/ready")).status_code == 200
            call = asyncio.create_task(http.post("/v1/chat/completions", json=CHAT))
            await asyncio.wait_for(started.wait(), 10)
            child.send_signal(signal.SIGTERM)

            async def draining() -> bool:
                ready = await probe.get("/health/ready")
                return ready.status_code == 503 and ready.json()["status"] == "draining"

            await wait_until(draining, 5, description="readiness withdrawn")
            with pytest.raises(httpx.ConnectError):
                async with httpx.AsyncClient() as late:
                    await late.get(url + "/health/live")
            release.set()
            response = await call
            assert response.status_code == 200
            assert response.headers["connection"] == "close"
        assert await asyncio.wait_for(child.wait(), 10) == 0


async def test_who_is_cut_off_by_the_drain_is_told_and_the_job_goes_on(
    redis_url: str, worker: HandWorker, wait_until: WaitUntil
) -> None:
    release = asyncio.Event()

    async def held(job: RunningJob) -> bytes:
        await release.wait()
        return await hello(job)

    worker.script = held
    async with process(redis_url, DRAIN_TIMEOUT="0.2s", STREAM_GRACE="0.05s") as child:
        url = await listening_url(child)
        async with (
            httpx.AsyncClient(base_url=url, timeout=20) as http,
            http.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as response,
        ):
            waiting = asyncio.create_task(http.post("/v1/chat/completions", json=CHAT))
            await wait_until(lambda: len(worker.ran) == 2, description="both jobs running")
            child.send_signal(signal.SIGTERM)
            text = "".join([part async for part in response.aiter_text()])
            assert (await waiting).status_code == 503
            assert "GET /v1/jobs/job_" in (await waiting).json()["error"]["message"]
        assert "gateway_stopping" in text
        assert await asyncio.wait_for(child.wait(), 10) == 0
    assert worker.stopped == []
    release.set()
    job_id = response.headers["x-arriero-job-id"]
    async with process(redis_url) as second:
        url = await listening_url(second)
        async with httpx.AsyncClient(base_url=url, timeout=20) as http:
            job = (await http.get(f"/v1/jobs/{job_id}?wait=10")).json()
            assert job["status"] == "succeeded"
        second.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(second.wait(), 10) == 0


@pytest.mark.req("S0-25", "S0-26", "S0-30")
async def test_logs_are_json_with_the_request_id_and_without_the_prompt(redis_url: str, worker: HandWorker) -> None:
    canary = "c4n4ry-prompt"
    async with process(redis_url, LOG_LEVEL="DEBUG") as child:
        url = await listening_url(child)
        body = {**CHAT, "messages": [{"role": "user", "content": canary}]}
        async with httpx.AsyncClient(base_url=url, timeout=20) as http:
            response = await http.post("/v1/chat/completions", json=body, headers={"x-request-id": "seen.1"})
            assert response.status_code == 200
        child.send_signal(signal.SIGTERM)
        out, errors = await asyncio.wait_for(child.communicate(), 10)
        assert canary not in (out + errors).decode()
        lines = [json.loads(line) for line in errors.decode().splitlines()]
        ours = [line for line in lines if line.get("request_id") == "seen.1"]
        (line,) = [line for line in ours if line["event"] == "http.request"]
        assert line["status"] == 200
        assert line["ms"] >= 0
        assert line["job_id"].startswith("job_")
