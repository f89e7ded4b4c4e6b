"""The health pages, with their parts present and gone."""

from __future__ import annotations

import contextlib

import pytest
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from gateway.routes.health_answers import GatewayHealth, Liveness, Readiness
from tests.conftest import WaitUntil
from tests.gateway.conftest import HandWorker, Served, StartGateway, settings_for
from tests.house.redis_server import RedisServer


@contextlib.asynccontextmanager
async def answering(status: int):  # type: ignore[no-untyped-def]  # yields the URL
    app = web.Application()

    async def root(request: web.Request) -> web.Response:
        return web.Response(text="Ollama is running", status=status)

    app.router.add_get("/", root)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.req("S0-43")
async def test_overall_health_names_each_part(served: Served, worker: HandWorker, wait_until: WaitUntil) -> None:
    async def seen() -> bool:
        return bool((await served.http.get("/health")).json()["services"]["queue"] == "healthy")

    await wait_until(seen, description="the worker's heartbeat")
    response = await served.http.get("/health")
    body = response.json()
    GatewayHealth.model_validate(body)
    assert response.status_code == 200
    assert body["services"] == {"redis": "healthy", "queue": "healthy", "ollama": "unhealthy"}
    assert body["status"] == "degraded", "without Ollama jobs wait, so it is not down"
    assert body["durability"] == "none"
    assert body["uptime"] >= 0


@pytest.mark.req("C28")
async def test_ready_without_ollama_but_not_without_redis(start_gateway: StartGateway) -> None:
    with RedisServer() as server:
        served = await start_gateway(redis_url=server.url)
        ready = await served.http.get("/health/ready")
        assert ready.status_code == 200
        assert ready.json()["status"] == "degraded"
        Readiness.model_validate(ready.json())
        server.kill()
        down = await served.http.get("/health/ready")
        assert down.status_code == 503
        assert down.json()["services"]["redis"] == "unhealthy"
        live = await served.http.get("/health/live")
        assert live.status_code == 200, "an outage elsewhere is no reason to restart this process"
        Liveness.model_validate(live.json())
        refused = await served.chat()
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "queue_unavailable"
        assert int(refused.headers["retry-after"]) >= 1
        assert (await served.http.get("/metrics")).status_code == 200
        server.start()
        for _ in range(50):
            if (await served.http.get("/health/ready")).status_code == 200:
                break
        assert (await served.http.get("/health/ready")).status_code == 200


@pytest.mark.req("S0-01", "S0-03")
async def test_ollama_answers(start_gateway: StartGateway) -> None:
    async with answering(200) as url:
        served = await start_gateway(ollama_base_urls=[url])
        response = await served.http.get("/health/ollama")
    assert response.status_code == 200
    assert response.json() == {"status": "ok", "message": "Ollama answers.", "url": url}


@pytest.mark.req("S0-04", "S2-28")
@pytest.mark.parametrize("status", [None, 500])
async def test_ollama_does_not_answer(start_gateway: StartGateway, status: int | None) -> None:
    async with contextlib.AsyncExitStack() as stack:
        url = "http://127.0.0.1:9" if status is None else await stack.enter_async_context(answering(status))
        served = await start_gateway(ollama_base_urls=[url])
        response = await served.http.get("/health/ollama")
    assert response.status_code == 503
    body = response.json()
    assert set(body) == {"status", "message", "url", "error_details"}
    assert body["status"] == "error"
    assert body["url"] == url
    assert "ollama serve" in body["message"]


async def test_where_ollama_is_off_nobody_asks_for_it(start_gateway: StartGateway) -> None:
    served = await start_gateway(ollama_enabled=False, services={"jan": {}})
    response = await served.http.get("/health/ollama")
    assert response.status_code == 503
    body = response.json()
    assert "OLLAMA_ENABLED" in body["message"] and body["url"] == ""


async def test_a_password_in_the_url_is_not_shown(start_gateway: StartGateway) -> None:
    served = await start_gateway(ollama_base_urls=["http://user:s3cret@127.0.0.1:9"])
    text = (await served.http.get("/health/ollama")).text
    assert "s3cret" not in text
    assert "127.0.0.1:9" in text


@pytest.mark.req("S0-02")
def test_the_probe_limit_is_five_seconds_and_settable() -> None:
    assert settings_for("redis://x").healthcheck_timeout == 5.0
    assert settings_for("redis://x", healthcheck_timeout="250ms").healthcheck_timeout == 0.25


@pytest.mark.req("S0-44", "S0-45")
async def test_metrics_count_requests_by_route_and_never_by_what_callers_write(
    served: Served, worker: HandWorker
) -> None:
    await served.chat()
    for index in range(20):
        await served.http.get(f"/no/such/path/{index}")
        await served.http.get(f"/v1/jobs/job_{index}")
    page = (await served.http.get("/metrics")).text
    families = {family.name: family for family in text_string_to_metric_families(page)}
    requests = {
        (s.labels["route"], s.labels["method"], s.labels["status"]): s.value
        for s in families["arriero_gateway_requests"].samples
        if s.name.endswith("_total")
    }
    assert requests["/v1/chat/completions", "POST", "200"] == 1
    assert requests["/v1/jobs/{job_id}", "GET", "404"] == 20
    assert requests["none", "any", "404"] == 20
    assert families["arriero_queue_jobs"].samples
    assert families["arriero_redis_up"].samples[0].value == 1
