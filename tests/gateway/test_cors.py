"""Web pages of other origins: who may call, and what browsers are told."""

from __future__ import annotations

import pytest

from gateway.cors import CorsPolicy
from tests.gateway.conftest import HandWorker, StartGateway, settings_for

PAGE = "https://app.example"
ASKS = {"Origin": PAGE, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}


@pytest.mark.req("S0-42")
async def test_a_listed_page_may_ask_and_read(start_gateway: StartGateway, worker: HandWorker) -> None:
    served = await start_gateway(cors_allowed_origins=[PAGE], cors_allow_credentials=True)
    asked = await served.http.options("/v1/chat/completions", headers=ASKS)
    assert asked.status_code == 204
    assert asked.headers["access-control-allow-origin"] == PAGE
    assert asked.headers["access-control-allow-methods"] == "POST"
    assert asked.headers["access-control-allow-headers"] == "authorization"
    assert asked.headers["access-control-allow-credentials"] == "true"
    for more in ({}, {"stream": True}):
        answer = await served.chat({"Origin": PAGE}, **more)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert "x-arriero-job-id" in answer.headers["access-control-expose-headers"]
    wrong = await served.http.get("/v1/nothing", headers={"Origin": PAGE})
    assert wrong.status_code == 404
    assert wrong.headers["access-control-allow-origin"] == PAGE, "or the page could not read what is wrong"


async def test_another_page_is_told_nothing(start_gateway: StartGateway) -> None:
    served = await start_gateway(cors_allowed_origins=[PAGE])
    asked = await served.http.options("/v1/models", headers={**ASKS, "Origin": "https://evil.example"})
    assert asked.status_code == 405
    assert "access-control-allow-origin" not in asked.headers
    assert asked.headers["vary"] == "Origin", "a shared cache must not give this answer to the listed page"


async def test_without_the_setting_nothing_is_said(start_gateway: StartGateway) -> None:
    served = await start_gateway()
    answer = await served.http.get("/v1/models", headers={"Origin": PAGE})
    assert not [name for name in answer.headers if name.startswith("access-control") or name == "vary"]


def test_any_page_but_never_with_credentials() -> None:
    assert CorsPolicy({"*"}).answer_headers(PAGE)["Access-Control-Allow-Origin"] == PAGE
    refused = list(settings_for("redis://x", cors_allowed_origins=["*"], cors_allow_credentials=True).conflicts())
    assert any("CORS_ALLOW_CREDENTIALS" in sentence for sentence in refused)
    assert not list(settings_for("redis://x", cors_allowed_origins=["*"]).conflicts())


@pytest.mark.parametrize("origin", ["app.example", "https://app.example/", "https://app.example/path"])
def test_what_is_no_origin_is_refused(origin: str) -> None:
    assert any(
        "CORS_ALLOWED_ORIGINS" in one for one in settings_for("redis://x", cors_allowed_origins=[origin]).conflicts()
    )


@pytest.mark.req("S1-95")
async def test_without_metrics_there_is_no_such_page(start_gateway: StartGateway) -> None:
    assert (await (await start_gateway()).http.get("/metrics")).status_code == 200
    served = await start_gateway(metrics_enabled=False)
    refused = await served.http.get("/metrics")
    assert refused.status_code == 404
    assert "METRICS_ENABLED" in refused.json()["error"]["message"]
    assert "/metrics" not in (await served.http.get("/openapi.json")).json()["paths"]
