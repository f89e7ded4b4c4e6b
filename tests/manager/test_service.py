"""The manager's pages as a client meets them, with and without keys, with and without Redis."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from shared.api_keys import Role, as_key_store, create_key
from shared.services.settings import NO_OLLAMA
from tests.arriero.daemon import Daemon
from tests.conftest import WaitUntil
from tests.house.guarded_redis import PASSWORD, USER, guarded_redis, refused
from tests.house.redis_server import RedisServer, free_port
from tests.integration.processes import clean_environment
from tests.manager.programs import ManagerProgram, queue_client, simulator


@pytest.mark.req("S1-17", "S1-38", "S1-102")
async def test_alone_with_one_host_that_answers_and_one_that_does_not(redis_url: str) -> None:
    async with simulator(models=("llama3.2",)) as server:
        hosts = f"{server.url},http://127.0.0.1:{free_port()}"
        settings = {"MANAGER_PORT": "0", "OLLAMA_BASE_URLS": hosts, "REDIS_URL": redis_url}
        async with (
            Daemon([sys.executable, "-m", "manager"], settings) as daemon,
            httpx.AsyncClient(base_url=daemon.url) as http,
        ):
            assert (await http.get("/health")).json()["status"] == "healthy"
            assert (await http.get("/health/live")).json()["status"] == "alive"
            ready = await http.get("/health/ready")
            assert (ready.status_code, ready.json()["services"]) == (200, {"redis": "healthy", "ollama": "healthy"})
            body = (await http.get("/models")).json()
            [model] = body["models"]
            assert (model["name"], model["loaded_on"], model["pinned"]) == ("llama3.2:latest", [], False)
            assert (model["calls"], model["last_used_at"], model["score"]) == (0, None, 100.0)
            assert [bool(host["error"]) for host in body["hosts"]] == [False, True]
            metrics = (await http.get("/metrics")).text
            assert "arriero_manager_leader 1.0" in metrics
            assert 'arriero_manager_model_score{model="llama3.2"} 100.0' in metrics
            assert (await http.get("/nothing")).json()["error"]["code"] == "route_not_found"
    assert daemon.status == 0


FAULTY: list[tuple[str, dict[str, object], str]] = [
    ("/models/pull", {"model": "../../etc/passwd"}, "model"),
    ("/models/pull", {"model": "http://evil/x"}, "model"),
    ("/models/pull", {"model": "registry.example:5000/a/b"}, "model"),
    ("/models/pull", {"model": "x" * 10_000}, "model"),
    ("/models/pull", {"model": "a\r\nb"}, "model"),
    ("/models/pull", {"model": "l*"}, "model"),
    ("/models/pull", {"model": "ll\u0430ma"}, "model"),
    ("/models/pull", {"model": ""}, "model"),
    ("/models/pull", {"model": 3}, "model"),
    ("/models/pull", {}, "model"),
    ("/models/pull", {"model": "phi3", "force": True}, "force"),
    ("/models/load", {"model": "phi3", "host": "elsewhere:1"}, "host"),
    ("/models/pin", {"model": "phi3", "pinned": "yes"}, "pinned"),
    ("/models/cleanup", {"dry_run": 0}, "dry_run"),
    ("/models/preload", {"models": ["../x"]}, "model"),
]


@pytest.mark.req("S1-83")
async def test_what_does_not_fit_is_refused_by_its_field(redis_url: str, tmp_path: Path) -> None:
    async with (
        simulator() as server,
        ManagerProgram(tmp_path / "m", redis_url, server.url, ALLOWED_MODELS="") as manager,
    ):
        for path, body, field in FAULTY:
            answer = await manager.http.post(path, json=body)
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, field), body
        assert (await manager.http.post("/models/pull", content=b"{}")).status_code == 415
        assert (await manager.http.post("/models/pull", json={"model": "x" * 20_000})).status_code == 413
        assert (await manager.http.put("/models")).status_code == 405
        assert (await manager.http.get("/models/operations/op_x")).json()["error"]["code"] == "operation_not_found"
        assert (await manager.http.get("/models/operations/op_x?wait=soon")).json()["error"]["param"] == "wait"
        assert (await manager.read("/models/operations"))["operations"] == []
        # A page in a browser on this machine could have it send these.
        foreign = {"Origin": "https://evil.example"}
        assert (await manager.http.post("/models/preload", headers=foreign)).status_code == 403
        rebound = {"Host": "evil.example"}
        assert (await manager.http.get("/models", headers=rebound)).status_code == 403
    async with (
        simulator() as server,
        ManagerProgram(tmp_path / "n", redis_url, server.url, ALLOWED_MODELS="phi3,hf.co/some/model") as manager,
    ):
        refused = await manager.http.post("/models/pull", json={"model": "mistral"})
        assert "ALLOWED_MODELS" in refused.json()["error"]["message"]
        assert (await manager.http.post("/models/pull", json={"model": "hf.co/some/model"})).status_code == 202


async def test_with_keys_reading_needs_an_operators_and_changing_an_admins(redis_url: str, tmp_path: Path) -> None:
    async with (
        simulator() as server,
        queue_client(redis_url) as queue,
        ManagerProgram(tmp_path / "m", redis_url, server.url) as manager,
    ):
        store = as_key_store(queue.redis)
        keys = {
            role: {"Authorization": f"Bearer {(await create_key(store, 'gw', tenant='t', role=role))[0]}"}
            for role in (Role.INFERENCE, Role.OPERATOR, Role.ADMIN)
        }
        first = await manager.http.get("/models", headers=keys[Role.ADMIN])  # from here on the manager knows the keys
        assert first.status_code == 200
        for path in ("/models", "/models/usage", "/models/scores", "/models/operations", "/leader"):
            refused = await manager.http.get(path)
            assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key"), path
            assert refused.headers["WWW-Authenticate"] == "Bearer"
            assert (await manager.http.get(path, headers=keys[Role.INFERENCE])).status_code == 403
            assert (await manager.http.get(path, headers=keys[Role.OPERATOR])).status_code == 200
        for path, body in (("/models/load", {"model": "phi3"}), ("/models/cleanup", {}), ("/models/preload", {})):
            assert (await manager.http.post(path, json=body)).status_code == 401
            assert (await manager.http.post(path, json=body, headers=keys[Role.OPERATOR])).status_code == 403
            assert (await manager.http.post(path, json=body, headers=keys[Role.ADMIN])).status_code in (200, 202)
        assert (await manager.http.get("/health/ready")).status_code == 200
        assert (await manager.http.get("/metrics")).status_code == 200


async def test_only_what_is_there_is_pinned(redis_url: str, tmp_path: Path) -> None:
    async with (
        simulator(models=("llama3.2",)) as server,
        ManagerProgram(tmp_path / "m", redis_url, server.url) as manager,
    ):
        refused = await manager.http.post("/models/pin", json={"model": "lama3.2"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")
        assert "Did you mean llama3.2" in refused.json()["error"]["message"]
        assert refused.headers["Server"] == "arriero"
        assert (await manager.http.post("/models/pin", json={"model": "lama3.2", "pinned": False})).status_code == 200
        await manager.order("/models/pin", model="llama3.2")
        async with httpx.AsyncClient(base_url=server.url) as host:
            (await host.request("DELETE", "/api/delete", json={"model": "llama3.2"})).raise_for_status()
        body = await manager.read("/models")
        assert (body["pins"], body["pins_not_installed"]) == (["llama3.2"], ["llama3.2"])


async def test_open_to_other_machines_only_with_a_key(redis_url: str, tmp_path: Path) -> None:
    async with simulator() as server:
        settings = {
            "MANAGER_HOST": "0.0.0.0",
            "MANAGER_PORT": "0",
            "REDIS_URL": redis_url,
            "OLLAMA_BASE_URLS": server.url,
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "manager"), env=clean_environment(settings), cwd=tmp_path, stderr=subprocess.PIPE
        )
        _, said = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 78
        assert b"MANAGER_HOST" in said
        assert b"arriero keys create" in said
        async with queue_client(redis_url) as queue:
            await create_key(as_key_store(queue.redis), "gw", tenant="t", role=Role.ADMIN)
        async with Daemon([sys.executable, "-m", "manager"], clean_environment(settings)) as daemon:
            url = daemon.url.replace("0.0.0.0", "127.0.0.1")
            async with httpx.AsyncClient(base_url=url) as http:
                assert (await http.get("/models")).status_code == 401


async def test_starts_without_redis_and_says_so(tmp_path: Path, wait_until: WaitUntil) -> None:
    redis = RedisServer()
    async with (
        simulator() as server,
        ManagerProgram(tmp_path / "m", redis.url, server.url, MODEL_PRELOAD_LIST="phi3") as manager,
    ):
        ready = await manager.http.get("/health/ready")
        assert ready.status_code == 503
        assert ready.json()["services"]["ollama"] == "healthy"
        assert (await manager.http.get("/models")).status_code == 503
        assert (await manager.http.get("/metrics")).status_code == 200
        with redis:

            async def loaded() -> bool:
                return (await manager.http.get("/models")).status_code == 200 and bool(await manager.loaded())

            await wait_until(loaded, 30.0, description="preloaded once Redis is there")


async def test_the_shipped_rights_are_enough(tmp_path: Path, wait_until: WaitUntil) -> None:
    with guarded_redis() as (redis, admin):
        rights = {"REDIS_USERNAME": USER, "REDIS_PASSWORD": PASSWORD, "MODEL_PRELOAD_LIST": "phi3"}
        async with (
            simulator() as server,
            ManagerProgram(tmp_path / "m", redis.url, server.url, **rights) as manager,
        ):
            await wait_until(manager.loaded, 10.0, description="preloaded")
            for page in ("/models", "/models/usage", "/models/scores", "/models/operations", "/leader"):
                await manager.read(page)
            await manager.read("/models/about", name="mistral")
            await manager.order("/models/pin", model="mistral")
            await manager.order("/models/cleanup")
            assert (await manager.done("/models/update", model="mistral"))["status"] == "succeeded"
        assert refused(admin) == []


@pytest.mark.req("S1-17")
async def test_with_ollama_switched_off_its_hosts_are_left_alone(redis_url: str) -> None:
    async with simulator(models=("llama3.2",)) as server:
        settings = {
            "MANAGER_PORT": "0", "OLLAMA_BASE_URLS": server.url, "REDIS_URL": redis_url, "OLLAMA_ENABLED": "false",
            "DEFAULT_SERVICE": "jan", "SERVICES": '{"jan": {}}', "MODEL_PRELOAD_LIST": "llama3.2",
            "MEMORY_CLEANUP_INTERVAL": "1",
        }  # fmt: skip
        async with (
            Daemon([sys.executable, "-m", "manager"], settings) as daemon,
            httpx.AsyncClient(base_url=daemon.url) as http,
        ):
            health, ready = await http.get("/health"), await http.get("/health/ready")
            assert (health.json()["status"], health.json()["ollama"]) == ("healthy", NO_OLLAMA)
            assert (ready.status_code, ready.json()["services"]) == (200, {"redis": "healthy"})
            models = (await http.get("/models")).json()
            assert (models["models"], models["hosts"]) == ([], [])
            refused = await http.post("/models/pull", json={"model": "phi3"})
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "service_unavailable")
            assert 'turns_total{outcome="failed"}' not in (await http.get("/metrics")).text
        assert server.calls.entries("call") == []
    assert daemon.output.count(NO_OLLAMA.encode()) == 1
    assert daemon.status == 0
