"""METRICS_ENABLED=false on the daemons' status server; the gateway's own is in tests/gateway."""

from __future__ import annotations

import pytest
from aiohttp.test_utils import TestClient, TestServer

from shared.status_server import StatusServer
from shared.telemetry.metrics import Metrics


@pytest.mark.req("S1-95")
@pytest.mark.parametrize("enabled", [True, False])
async def test_the_page_says_why_it_is_not_there_and_reads_nothing(enabled: bool) -> None:
    read: list[str] = []

    async def refresh() -> None:
        read.append("all")

    async def readiness() -> dict[str, str]:
        return {}

    server = StatusServer("worker", Metrics(), readiness, refresh=refresh, metrics_enabled=enabled)
    async with TestClient(TestServer(server.app)) as client, client.get("/metrics") as answer:
        assert answer.status == (200 if enabled else 404)
        assert ("METRICS_ENABLED" in await answer.text()) is not enabled
    assert read == (["all"] if enabled else [])
