"""Fixtures of the monitor's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from shared.queue.client import QueueClient
from shared.settings import BaseServiceSettings


@pytest.fixture
async def queue(redis_url: str) -> AsyncIterator[QueueClient]:
    client = await QueueClient.connect(BaseServiceSettings.model_validate({"redis_url": redis_url}))
    yield client
    await client.clear()
    await client.aclose()
