"""The queue's figures on the gateway's page: all of them from the start, none without Redis."""

from __future__ import annotations

import asyncio
from unittest.mock import create_autospec

import pytest

from gateway.metrics import EVENTS, OUTCOMES, GatewayMetrics
from gateway.metrics_page import render
from shared.errors import QueueUnavailable
from shared.queue.client import QueueClient
from shared.queue.stats import QueueStats

STATS = QueueStats(states={"queued": 3}, queued_by_class={"normal": 3}, oldest_wait_s=7.5, counters={"accepted": 9})


def queue(answer: object) -> QueueClient:
    stub: QueueClient = create_autospec(QueueClient, instance=True)
    stub.stats.side_effect = answer  # type: ignore[attr-defined]  # an autospec's
    return stub


async def test_counters_begin_at_zero() -> None:
    """Prometheus sees no increase in a counter's first value, so each must be there before anything happens."""
    metrics = GatewayMetrics()
    page = (await render(metrics, queue([STATS]))).decode()
    for event in EVENTS:
        assert f'arriero_queue_events_total{{event="{event}"}} {9.0 if event == "accepted" else 0.0}\n' in page
    for outcome in OUTCOMES:
        assert f'arriero_gateway_jobs_total{{kind="chat",outcome="{outcome}",priority="normal"}} 0.0\n' in page


async def never() -> QueueStats:
    await asyncio.sleep(60)
    return STATS


@pytest.mark.parametrize("away", [QueueUnavailable(), never], ids=["refuses", "hangs"])
async def test_without_redis_no_old_figure_is_shown(away: object) -> None:
    metrics = GatewayMetrics()
    assert b"\narriero_queue_oldest_wait_seconds 7.5\n" in await render(metrics, queue([STATS]))
    page = (await render(metrics, queue(away))).decode()
    assert "\narriero_redis_up 0.0\n" in page
    assert "\narriero_queue_" not in page
    assert "\narriero_gateway_uptime_seconds" in page
