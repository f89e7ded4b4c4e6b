"""Changes to models through the gateway: ordered there, carried out by a model manager in a process of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from infra.simulator import Simulator
from infra.simulator.faults import Fault, Match
from shared.api_keys import Role, as_key_store, create_key
from tests.gateway.conftest import Served, StartGateway
from tests.manager.programs import ManagerProgram, simulator
from tests.manager.weights import gguf

SLOW = "slow-one"
"""A model whose download takes ten times as long as others'."""


@pytest.fixture
async def server() -> AsyncIterator[Simulator]:
    async with simulator(models=("llama3.2", "mistral"), pull_seconds=0.8) as server:
        yield server


@pytest.fixture
async def manager(redis_url: str, tmp_path: Path, server: Simulator) -> AsyncIterator[ManagerProgram]:
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "tiny.gguf").write_bytes(gguf())
    async with ManagerProgram(tmp_path / "m", redis_url, server.url, MODEL_IMPORT_DIR=str(folder)) as manager:
        yield manager


@pytest.fixture
async def gateway(start_gateway: StartGateway, server: Simulator) -> Served:
    return await start_gateway(
        ollama_base_urls=[server.url],
        services={"lab": {"api_format": "openai", "urls": [f"{server.url}/v1"], "local": True}},
    )


async def order(gateway: Served, job_type: str, model: str, **params: Any) -> dict[str, Any]:
    answer = await gateway.http.post("/jobs", json={"type": job_type, "params": {"model_name": model, **params}})
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    assert answer.headers["Location"] == f"/jobs/{job['id']}"
    return job


async def ended(gateway: Served, job_id: str) -> list[dict[str, Any]]:
    """The job as it was seen on its way; last, as it ended."""
    seen: list[dict[str, Any]] = []
    while not seen or seen[-1]["finished_at"] is None:
        answer = await gateway.http.get(f"/jobs/{job_id}", params={"wait": 10})
        assert answer.status_code == 200, answer.text
        seen.append(answer.json())
    return seen


async def done(gateway: Served, job_type: str, model: str, **params: Any) -> dict[str, Any]:
    job = await order(gateway, job_type, model, **params)
    return (await ended(gateway, job["id"]))[-1]


async def followed(gateway: Served, job_id: str) -> list[tuple[str, dict[str, Any]]]:
    """The events of a job until its end."""
    text = (await gateway.http.get(f"/jobs/{job_id}/events")).text
    frames = [frame.split("\n") for frame in text.split("\n\n") if frame.startswith("event: ")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in frames]


async def states(gateway: Served) -> dict[str, str]:
    models = (await gateway.http.get("/llm/services/ollama/models")).json()["models"]
    return {model["upstream_name"]: model["state"] for model in models}


@pytest.mark.req("S4-26", "S4-32", "S4-35")
async def test_a_model_is_installed_and_its_progress_told(gateway: Served, manager: ManagerProgram) -> None:
    job = await order(gateway, "install", "ollama~phi3:mini")
    assert (job["object"], job["type"], job["finished_at"]) == ("model.job", "install", None)
    assert job["params"] == {"service_name": "ollama", "model_name": "phi3:mini", "host": None, "file": None}
    events = asyncio.create_task(followed(gateway, job["id"]))
    seen = await ended(gateway, job["id"])
    assert seen[-1]["status"] == "succeeded" and seen[-1]["error"] is None
    percents = [one["progress"]["percent"] for one in seen if one["progress"]["percent"] is not None]
    assert percents == sorted(percents) and percents[-1] == 100.0
    assert [host["outcome"] for host in seen[-1]["result"]["hosts"]] == ["done"]
    told = await events
    assert [name for name, _ in told[:-1]] == ["progress"] * (len(told) - 1) and told[-1] == ("ended", seen[-1])
    assert (await states(gateway))["phi3:mini"] == "not_loaded"
    assert [one["id"] for one in (await gateway.http.get("/jobs")).json()["data"]] == [job["id"]]


@pytest.mark.req("S4-28", "S4-29", "S4-33", "S4-34", "S4-30", "S4-31", "S4-27", "S4-16")
async def test_load_unload_update_import_and_delete(
    gateway: Served, manager: ManagerProgram, server: Simulator
) -> None:
    assert (await done(gateway, "load", "llama3.2"))["status"] == "succeeded"
    assert (await states(gateway))["llama3.2:latest"] == "loaded"
    assert (await done(gateway, "unload", "ollama~llama3.2", service_name="ollama"))["status"] == "succeeded"
    assert (await states(gateway))["llama3.2:latest"] == "not_loaded"
    updated = await done(gateway, "update", "llama3.2")
    assert [host["outcome"] for host in updated["result"]["hosts"]] == ["unchanged"]
    imported = await done(gateway, "import", "mine:1b", file="tiny.gguf", host=server.url.removeprefix("http://"))
    assert (imported["status"], imported["params"]["file"]) == ("succeeded", "tiny.gguf")
    assert (await states(gateway))["mine:1b"] == "not_loaded"
    assert (await done(gateway, "delete", "mine:1b"))["status"] == "succeeded"
    assert "mine:1b" not in await states(gateway)


@pytest.mark.req("S4-36", "S4-23", "S4-37", "S4-16")
async def test_what_was_cancelled_or_failed_can_be_run_again(
    gateway: Served, manager: ManagerProgram, server: Simulator
) -> None:
    job = await order(gateway, "install", SLOW)
    assert (await order(gateway, "install", SLOW))["id"] == job["id"]
    assert (await states(gateway))[SLOW] == "downloading"
    clash = await gateway.http.post("/jobs", json={"type": "delete", "params": {"model_name": SLOW}})
    assert (clash.status_code, clash.json()["error"]["code"]) == (409, "operation_conflict")
    early = await gateway.http.post(f"/jobs/{job['id']}/retry")
    assert (early.status_code, early.json()["error"]["code"]) == (409, "job_not_retryable")
    assert (await gateway.http.delete(f"/jobs/{job['id']}")).status_code == 200
    assert (await ended(gateway, job["id"]))[-1]["status"] == "cancelled"
    again = (await gateway.http.post(f"/jobs/{job['id']}/retry")).json()
    assert again["reason"] == f"retry of {job['id']}" and again["id"] != job["id"]
    await gateway.http.delete(f"/jobs/{again['id']}")

    failed = await done(gateway, "install", "nobody-has-this")
    assert (failed["status"], failed["error"]["code"]) == ("dead_lettered", "model_not_found")
    assert (await gateway.http.post(f"/jobs/{failed['id']}/retry")).status_code == 202
    server.faults.add(Fault(kind="status", status=500, count=1, match=Match(path="/api/generate")))
    loaded = await done(gateway, "load", "mistral")
    assert (loaded["status"], loaded["attempts"]) == ("succeeded", 2)
    fine = await gateway.http.post(f"/jobs/{loaded['id']}/retry")
    assert fine.status_code == 409 and "succeeded" in fine.json()["error"]["message"]
    no_file = await done(gateway, "import", "mine", file="nothing.gguf")
    assert no_file["status"] == "dead_lettered" and "MODEL_IMPORT_DIR" in no_file["error"]["message"]


FAULTY: list[tuple[dict[str, Any], int, str | None]] = [
    ({"type": "install"}, 400, "params"),
    ({"type": "explode", "params": {"model_name": "phi3"}}, 400, "type"),
    ({"type": "install", "params": {}}, 400, "params.model_name"),
    ({"type": "install", "params": {"model_name": "phi3", "force": True}}, 400, "params.force"),
    ({"type": "install", "params": {"model_name": "../x"}}, 400, "params.model_name"),
    ({"type": "install", "params": {"model_name": "registry.example:5000/a/b"}}, 400, "params.model_name"),
    ({"type": "install", "params": {"model_name": "phi3", "host": "elsewhere:1"}}, 400, "params.host"),
    ({"type": "install", "params": {"model_name": "phi3", "file": "a.gguf"}}, 400, "params.file"),
    ({"type": "import", "params": {"model_name": "mine"}}, 400, "params.file"),
    ({"type": "import", "params": {"model_name": "mine", "file": "../../etc/x.gguf"}}, 400, "params.file"),
    ({"type": "load", "params": {"model_name": "lab~llama3.2"}}, 400, "params.service_name"),
    ({"type": "load", "params": {"model_name": "ollama~llama3.2", "service_name": "lab"}}, 400, "params.service_name"),
    ({"type": "load", "params": {"model_name": "x", "service_name": "nobody"}}, 404, "params.service_name"),
    ({"type": "load", "params": {"model_name": "lama3.2"}}, 404, "params.model_name"),
]


async def test_what_cannot_be_done_is_refused_by_its_field(gateway: Served) -> None:
    for body, status, field in FAULTY:
        answer = await gateway.http.post("/jobs", json=body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (status, field), (body, answer.text)
    assert "llama3.2?" in answer.json()["error"]["message"]
    keyless = {"type": "load", "params": {"model_name": "gpt-4o", "service_name": "openai"}}
    said = (await gateway.http.post("/jobs", json=keyless)).json()["error"]
    assert (said["param"], said["message"]) == ("params.service_name", "The service openai is off: set OPENAI_API_KEY.")
    for path in ("/jobs/op_00000000000000000000_0", "/jobs/job_1", "/jobs/op_x%00"):
        for method in ("GET", "DELETE"):
            missing = await gateway.http.request(method, path)
            assert (missing.status_code, missing.json()["error"]["code"]) == (404, "operation_not_found")
    assert (await gateway.http.post("/jobs/op_00000000000000000000_0/retry")).status_code == 404
    assert (await gateway.http.get("/jobs/op_00000000000000000000_0/events")).status_code == 404
    assert (await gateway.http.get("/jobs")).json()["data"] == []


async def test_an_order_waits_for_a_host_that_is_away(start_gateway: StartGateway, server: Simulator) -> None:
    gateway = await start_gateway(ollama_base_urls=[server.url, "http://127.0.0.1:9"])
    await order(gateway, "load", "not-known-here")


async def test_looking_is_for_operators_and_ordering_for_admins(
    gateway: Served, start_gateway: StartGateway, server: Simulator
) -> None:
    store = as_key_store(gateway.queue.redis)
    keys = {
        role: {"Authorization": f"Bearer {(await create_key(store, 'gw', tenant='t', role=role))[0]}"}
        for role in (Role.INFERENCE, Role.OPERATOR, Role.ADMIN)
    }
    guarded = await start_gateway(ollama_base_urls=[server.url])
    body = {"type": "load", "params": {"model_name": "llama3.2"}}
    statuses = {}
    for role, headers in keys.items():
        looked = await guarded.http.get("/jobs", headers=headers)
        ordered = await guarded.http.post("/jobs", json=body, headers=headers)
        statuses[role] = (looked.status_code, ordered.status_code)
    assert statuses == {Role.INFERENCE: (403, 403), Role.OPERATOR: (200, 403), Role.ADMIN: (200, 202)}
    assert ordered.json()["by"].startswith("t/")
