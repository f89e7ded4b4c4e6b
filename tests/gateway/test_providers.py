"""The providers' face: how services are, what they have, and changing the set of them while the gateway runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from infra.simulator import Simulator, running
from shared.api_keys import Role, as_key_store, create_key
from shared.usage.fields import Call
from shared.usage.recorder import UsageRecorder
from tests.conftest import WaitUntil
from tests.gateway.conftest import Served, StartGateway
from tests.house.redis_server import free_port


@pytest.fixture
async def ollama() -> AsyncIterator[Simulator]:
    async with running(models="llama3.2,codellama", load_seconds=0) as server:
        yield server


@pytest.fixture
async def other() -> AsyncIterator[Simulator]:
    async with running(models="mistral,vendor/tuned", load_seconds=0) as server:
        yield server


def lab(server: Simulator) -> dict[str, Any]:
    return {"name": "lab", "api_format": "openai", "urls": [f"{server.url}/v1"], "local": True}


async def providers(served: Served) -> dict[str, dict[str, Any]]:
    answer = await served.http.get("/v1/providers")
    assert answer.status_code == 200, answer.text
    return {one["id"]: one for one in answer.json()["data"]}


async def models(served: Served, path: str = "/v1/models") -> list[str]:
    return sorted(model["id"] for model in (await served.http.get(path)).json()["data"])


@pytest.mark.req("S2-12", "S2-14", "S2-37", "S4-12")
async def test_providers_with_their_status(ollama: Simulator, other: Simulator, start_gateway: StartGateway) -> None:
    nobody = {"name": "away", "api_format": "openai", "urls": [f"http://127.0.0.1:{free_port()}/v1"], "local": True}
    served = await start_gateway(
        ollama_base_urls=[ollama.url],
        services={"lab": lab(other), "away": nobody, "anthropic": {}},
        ollama_auto_health_check=False,
    )
    before = await providers(served)
    assert {name: one["status"] for name, one in before.items()} == {
        **dict.fromkeys(("ollama", "lab", "away"), "unknown"),
        "anthropic": "off",
    }
    assert "ANTHROPIC_API_KEY" in before["anthropic"]["reason"]
    checked = (await served.http.post("/v1/providers/health-check")).json()
    assert (checked["object"], checked["default"]) == ("list", "ollama")
    now = {one["id"]: one for one in checked["data"]}
    assert {name: one["status"] for name, one in now.items()} == {
        "ollama": "healthy", "lab": "healthy", "away": "unhealthy", "anthropic": "off",
    }  # fmt: skip
    assert now["away"]["hosts"][0]["error"] == "backend_unreachable"
    assert now["ollama"]["checked_at"] > 0 and now["ollama"]["default"] and not now["lab"]["default"]
    one = (await served.http.get("/v1/providers/lab")).json()
    assert (one["id"], one["status"], one["api_format"]) == ("lab", "healthy", "openai")
    assert (await served.http.get("/v1/providers/anthropic")).json()["status"] == "off"
    missing = await served.http.get("/v1/providers/lib")
    assert missing.status_code == 404 and "lab?" in missing.json()["error"]["message"]


@pytest.mark.req("S2-05", "S4-12")
async def test_they_are_asked_without_anybodys_wish(
    ollama: Simulator, start_gateway: StartGateway, wait_until: WaitUntil
) -> None:
    served = await start_gateway(ollama_base_urls=[ollama.url], ollama_health_check_interval=1.0)

    async def is_healthy() -> bool:
        return bool((await providers(served))["ollama"]["status"] == "healthy")

    await wait_until(is_healthy, description="a look at the service")


@pytest.mark.req("S2-11", "S2-13", "S2-34", "S2-06", "S2-39")
async def test_models_of_all_providers_and_of_one(
    ollama: Simulator, other: Simulator, start_gateway: StartGateway
) -> None:
    served = await start_gateway(ollama_base_urls=[ollama.url], services={"lab": lab(other)})
    assert await models(served) == [
        *("codellama:latest", "lab~mistral:latest", "lab~vendor/tuned:latest", "llama3.2:latest"),
    ]
    found = {model["id"]: model for model in (await served.http.get("/v1/providers/ollama/models")).json()["data"]}
    llama, code = found["ollama~llama3.2:latest"], found["ollama~codellama:latest"]
    assert (llama["context_length"], llama["tools"], llama["streaming"]) == (131_072, True, True)
    assert (code["tools"], code["type"], code["owned_by"]) == (False, "llm", "ollama")
    assert await models(served, "/v1/providers/lab/models") == ["lab~mistral:latest", "lab~vendor/tuned:latest"]
    for name, owner in (("lab~mistral:latest", "lab"), ("ollama~llama3.2", "library"), ("llama3.2", "library")):
        assert (await served.http.get(f"/v1/models/{name}")).json()["owned_by"] == owner
    assert (await served.http.get("/v1/providers/none/models")).status_code == 404


async def test_what_was_asked_of_them(ollama: Simulator, start_gateway: StartGateway) -> None:
    served = await start_gateway(ollama_base_urls=[ollama.url])
    host = ollama.url.removeprefix("http://")
    recorder = UsageRecorder(served.queue.redis, served.queue.keys)
    for error in ("", "", "model_fault"):
        recorder.record("llama3.2", host, Call(kind="chat", seconds=0.5, error=error, tokens_in=3, tokens_out=4))
    await recorder.flush()
    use = (await providers(served))["ollama"]["use"]
    assert (use["requests"], use["failures"], use["tokens_out"]) == (3, 1, 12)
    assert use["mean_latency_seconds"] > 0 and use["last_used_at"] > 0


@pytest.mark.req("S2-32", "S2-33")
async def test_a_provider_comes_and_goes_at_run_time(
    ollama: Simulator, other: Simulator, start_gateway: StartGateway, wait_until: WaitUntil
) -> None:
    settings: dict[str, Any] = {"ollama_base_urls": [ollama.url], "allow_service_registration": True}
    served, neighbour = await start_gateway(**settings), await start_gateway(**settings)
    made = await served.http.post("/v1/providers", json=lab(other))
    assert made.status_code == 201 and made.headers["Location"] == "/v1/providers/lab", made.text
    assert (made.json()["status"], made.json()["registered"]) == ("healthy", True)
    assert "lab~mistral:latest" in await models(served)

    async def knows() -> bool:
        return "lab" in await providers(neighbour)

    await wait_until(knows, description="the other gateway knows it")
    chosen = await served.http.put("/v1/providers/default", json={"name": "lab"})
    assert chosen.json() == {"object": "provider.default", "name": "lab", "preferred": "lab"}
    assert await models(served) == [
        *("mistral:latest", "ollama~codellama:latest", "ollama~llama3.2:latest", "vendor/tuned:latest"),
    ]
    assert (await served.http.put("/v1/providers/default", json={"name": ""})).json()["name"] == "ollama"
    gone = await served.http.delete("/v1/providers/lab")
    assert gone.json() == {"id": "lab", "object": "provider.removed", "removed": True}
    assert (await served.http.delete("/v1/providers/lab")).status_code == 404
    assert "lab" not in await providers(served)


FAULTY: list[tuple[dict[str, Any], str]] = [
    ({"api_key": "sk-secret"}, "api_key"),
    ({"api_key_env_var": "OPENAI_API_KEY"}, "api_key_env_var"),
    ({"urls": ["ftp://x"]}, "urls[0]"),
    ({"urls": ["http://user:word@x"]}, "urls[0]"),
    ({"name": "Lab!"}, "name"),
    ({"api_format": "smoke"}, "api_format"),
    ({"verify_certs": False}, "verify_certs"),
    ({"long_timeout_sec": 0}, "long_timeout_sec"),
    ({"urls": ["http://example.com/v1"]}, "local"),
]


async def test_what_cannot_be_a_provider_is_refused_by_its_field(
    ollama: Simulator, other: Simulator, start_gateway: StartGateway
) -> None:
    served = await start_gateway(ollama_base_urls=[ollama.url], allow_service_registration=True)
    for change, field in FAULTY:
        answer = await served.http.post("/v1/providers", json=lab(other) | change)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, field), change
        assert "sk-secret" not in answer.text
    taken = await served.http.post("/v1/providers", json=lab(other) | {"name": "ollama"})
    assert (taken.status_code, taken.json()["error"]["code"]) == (409, "service_conflict")
    assert (await served.http.delete("/v1/providers/ollama")).status_code == 409
    assert (await served.http.put("/v1/providers/default", json={"name": "nobody"})).status_code == 400
    assert list(await providers(served)) == ["ollama"]


async def test_changes_are_for_admins_and_off_by_default(
    redis_url: str, ollama: Simulator, other: Simulator, start_gateway: StartGateway
) -> None:
    served = await start_gateway(ollama_base_urls=[ollama.url])
    for method, path, body in (
        ("POST", "/v1/providers", lab(other)),
        ("DELETE", "/v1/providers/lab", None),
        ("PUT", "/v1/providers/default", {"name": "lab"}),
    ):
        answer = await served.http.request(method, path, json=body)
        assert answer.status_code == 403 and "ALLOW_SERVICE_REGISTRATION" in answer.text, path
    store = as_key_store(served.queue.redis)
    keys = {
        role: {"Authorization": f"Bearer {(await create_key(store, 'gw', tenant='t', role=role))[0]}"}
        for role in (Role.INFERENCE, Role.OPERATOR)
    }
    guarded = await start_gateway(ollama_base_urls=[ollama.url], allow_service_registration=True)
    assert (await guarded.http.get("/v1/providers")).status_code == 401
    assert (await guarded.http.get("/v1/providers", headers=keys[Role.INFERENCE])).status_code == 200
    check = "/v1/providers/health-check"
    assert (await guarded.http.post(check, headers=keys[Role.INFERENCE])).status_code == 403
    assert (await guarded.http.post(check, headers=keys[Role.OPERATOR])).status_code == 200
    answer = await guarded.http.post("/v1/providers", json=lab(other), headers=keys[Role.OPERATOR])
    assert answer.status_code == 403 and "role admin" in answer.text
