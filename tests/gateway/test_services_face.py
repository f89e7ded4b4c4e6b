"""The service hub's face, before an Ollama and a server of OpenAI's dialect, both simulated."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from infra.simulator import Simulator, running
from shared.services.presets import PRESETS
from tests.gateway.conftest import Served, StartGateway
from tests.house.redis_server import free_port


@pytest.fixture
async def servers() -> AsyncIterator[tuple[Simulator, Simulator]]:
    async with AsyncExitStack() as stack:
        ollama = await stack.enter_async_context(running(models="llama3.2,nomic-embed-text", load_seconds=0))
        other = await stack.enter_async_context(running(models="mistral,vendor/tuned-7b", load_seconds=0))
        yield ollama, other


@pytest.fixture
async def hub(servers: tuple[Simulator, Simulator], start_gateway: StartGateway) -> Served:
    ollama, other = servers
    services: dict[str, Any] = {
        "lab": {"api_format": "openai", "urls": [f"{other.url}/v1"], "local": True},
        "fixed": {
            "api_format": "openai", "urls": [f"{other.url}/v1"], "local": True, "enable_discovery": False,
            "models": ["gpt-4o-mini"],
        },
        "away": {"api_format": "ollama", "urls": [f"http://127.0.0.1:{free_port()}"], "local": True},
        "openrouter": {},
        "sleeping": {"preset": "vllm", "enabled": False},
    }  # fmt: skip
    return await start_gateway(ollama_base_urls=[ollama.url], services=services)


async def read(hub: Served, path: str, status: int = 200) -> dict[str, Any]:
    answer = await hub.http.get(path)
    assert answer.status_code == status, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def refused(hub: Served, path: str) -> tuple[int, str, str]:
    answer = await hub.http.get(path)
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["message"]


@pytest.mark.req("S4-38", "S2-37")
async def test_services_in_force_and_those_that_are_off(hub: Served) -> None:
    body = await read(hub, "/llm/services")
    assert [(one["name"], one["api_format"], one["local"], one["default"]) for one in body["services"]] == [
        ("ollama", "ollama", True, True),
        ("lab", "openai", True, False),
        ("fixed", "openai", True, False),
        ("away", "ollama", True, False),
    ]
    off = {one["name"]: one["reason"] for one in body["off"]}
    assert "OPENROUTER_API_KEY" in off["openrouter"] and "switched off" in off["sleeping"]
    assert (await read(hub, "/llm/services/lab"))["hosts"] == body["services"][1]["hosts"]
    for name in ("openrouter", "ollma", "nobody%01"):
        assert (await refused(hub, f"/llm/services/{name}"))[:2] == (404, "service_not_configured")
    assert "OPENROUTER_API_KEY" in (await refused(hub, "/llm/services/openrouter/models"))[2]
    assert "ollama?" in (await refused(hub, "/llm/services/ollma/ping"))[2]


@pytest.mark.req("S4-42", "S4-22", "S4-23", "S4-24", "S4-25", "S4-01")
async def test_capabilities_say_what_can_be_asked_for_here(hub: Served) -> None:
    ours = (await read(hub, "/llm/services/ollama/capabilities"))["capabilities"]
    assert all(ours[flag] for flag in ("install", "import_model", "update", "load", "unload", "delete", "load_cancel"))
    assert all(ours[flag] for flag in ("hugging_face_models", "ollama_models", "inference", "streaming", "embedding"))
    for name in ("lab", "away"):
        theirs = (await read(hub, f"/llm/services/{name}/capabilities"))["capabilities"]
        assert not any(theirs[flag] for flag in ("install", "import_model", "update", "load", "unload", "delete"))
        assert theirs["inference"] and theirs["streaming"]
    assert not PRESETS["anthropic"].capabilities.embedding


@pytest.mark.req("S4-41")
async def test_a_ping_asks_the_machines_now(hub: Served, servers: tuple[Simulator, Simulator]) -> None:
    for name in ("ollama", "lab"):
        body = await read(hub, f"/llm/services/{name}/ping")
        assert (body["service"], body["status"], body["hosts"][0]["error"]) == (name, "alive", None)
        assert 0 <= body["hosts"][0]["seconds"] < 5
    silent = await read(hub, "/llm/services/away/ping", 503)
    assert (silent["status"], silent["hosts"][0]["error"]) == ("silent", "backend_unreachable")


@pytest.mark.req("S4-39", "S4-40", "S4-43", "S4-44", "S4-14", "S4-11", "S4-02")
async def test_models_of_one_service_and_of_all(hub: Served) -> None:
    async def names(path: str) -> list[str]:
        return [model["name"] for model in (await read(hub, path))["models"]]

    ollamas = ["ollama~llama3.2:latest", "ollama~nomic-embed-text:latest"]
    labs = ["lab~mistral:latest", "lab~vendor/tuned-7b:latest"]
    assert await names("/llm/services/ollama/models") == ollamas
    assert sorted(await names("/llm/services/lab/models")) == labs
    assert sorted(await names("/llm/models")) == sorted([*ollamas, *labs, "fixed~gpt-4o-mini"])
    assert await names("/llm/services/away/models") == []

    llama = await read(hub, "/llm/services/ollama/models/LLAMA3.2")
    assert (llama["upstream_name"], llama["type"], llama["state"]) == ("llama3.2:latest", "llm", "not_loaded")
    assert (llama["max_tokens"], llama["quantization"], llama["tooling"]) == (131_072, "Q4_K_M", True)
    slashed = await read(hub, "/llm/services/lab/models/vendor/tuned-7b:latest")
    assert (slashed["service"], slashed["type"], slashed["state"]) == ("lab", "llm", "ready")
    listed = await read(hub, "/llm/services/fixed/models/gpt-4o-mini")
    assert (listed["type"], listed["max_tokens"], listed["hosts"]) == ("vlm", 128_000, [])

    for asked, found in {
        "ollama~llama3.2": "ollama~llama3.2:latest",
        "ollama:llama3.2:latest": "ollama~llama3.2:latest",
        "llama3.2": "ollama~llama3.2:latest",
        "mistral:latest": "lab~mistral:latest",
        "lab~vendor/tuned-7b:latest": "lab~vendor/tuned-7b:latest",
        "lab:vendor/tuned-7b:latest": "lab~vendor/tuned-7b:latest",
        "gpt-4o-mini": "fixed~gpt-4o-mini",
    }.items():
        assert (await read(hub, f"/llm/models/{asked}"))["name"] == found, asked


async def test_a_model_that_is_not_there_is_told_from_one_nobody_can_tell_of(hub: Served) -> None:
    status, code, told = await refused(hub, "/llm/services/ollama/models/llama3.3")
    assert (status, code) == (404, "model_not_found") and "llama3.2?" in told
    assert (await refused(hub, "/llm/models/lab~nothing"))[:2] == (404, "model_not_found")
    assert (await refused(hub, "/llm/models/none~nothing"))[:2] == (404, "service_not_configured")
    assert (await refused(hub, "/llm/services/away/models/llama3.2"))[:2] == (503, "backend_unreachable")


@pytest.mark.req("S4-67")
async def test_what_a_service_had_is_remembered_while_it_is_away(redis_url: str, start_gateway: StartGateway) -> None:
    async with running(models="llama3.2", load_seconds=0) as server:
        first = await start_gateway(ollama_base_urls=[server.url])
        assert len((await read(first, "/llm/models"))["models"]) == 1
        await first.queue.redis.delete(first.queue.keys.service_seen("ollama"))
    later = await start_gateway(ollama_base_urls=[server.url])
    [known] = (await read(later, "/llm/models"))["models"]
    assert (known["name"], known["max_tokens"]) == ("ollama~llama3.2:latest", 131_072)
    assert (await read(later, "/llm/models/llama3.2"))["digest"] == known["digest"]


async def test_models_that_are_not_allowed_are_not_spoken_of(start_gateway: StartGateway) -> None:
    async with running(models="llama3.2,mistral", load_seconds=0) as server:
        hub = await start_gateway(ollama_base_urls=[server.url], allowed_models=["mistral"])
        assert [model["upstream_name"] for model in (await read(hub, "/llm/models"))["models"]] == ["mistral:latest"]
        assert (await refused(hub, "/llm/models/llama3.2"))[:2] == (404, "model_not_found")
