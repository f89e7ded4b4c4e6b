"""A queue client on the shared real server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from shared.queue.client import QueueClient
from tests.shared.queue.rig import queue_client


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[QueueClient]:
    async with queue_client(redis_url) as client:
        yield client
