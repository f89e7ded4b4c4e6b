"""The manager as a process, in front of a small Ollama."""

from __future__ import annotations

import sys

import httpx
import pytest
from aiohttp import web

from tests.arriero.daemon import Daemon
from tests.house.redis_server import free_port


async def _tags(_: web.Request) -> web.Response:
    return web.json_response({"models": [{"name": "llama3.2:latest", "model": "llama3.2:latest", "size": 2_000}]})


async def _ps(_: web.Request) -> web.Response:
    return web.json_response({"models": [{"name": "llama3.2:latest", "model": "llama3.2:latest", "size": 3_000}]})


@pytest.mark.req("S1-17", "S1-38", "S1-102")
async def test_alone_with_one_host_that_answers_and_one_that_does_not() -> None:
    app = web.Application()
    app.router.add_get("/api/tags", _tags)
    app.router.add_get("/api/ps", _ps)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    good, gone = runner.addresses[0][1], free_port()
    hosts = f"http://127.0.0.1:{good},http://127.0.0.1:{gone}"
    try:
        async with (
            Daemon([sys.executable, "-m", "manager"], {"MANAGER_PORT": "0", "OLLAMA_BASE_URLS": hosts}) as daemon,
            httpx.AsyncClient(base_url=daemon.url) as http,
        ):
            assert (await http.get("/health")).json()["status"] == "healthy"
            assert (await http.get("/health/live")).json()["status"] == "alive"
            ready = await http.get("/health/ready")
            assert (ready.status_code, ready.json()["services"]) == (200, {"ollama": "healthy"})
            body = (await http.get("/models")).json()
            assert [model["name"] for model in body["models"]] == ["llama3.2:latest"]
            assert body["models"][0]["loaded_on"] == [f"127.0.0.1:{good}"]
            assert [bool(host["error"]) for host in body["hosts"]] == [False, True]
            assert "arriero_manager_models_loaded_bytes" in (await http.get("/metrics")).text
            assert (await http.get("/nothing")).status_code == 404
    finally:
        await runner.cleanup()
    assert daemon.status == 0
