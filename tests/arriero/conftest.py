"""Fixtures for the client and the command."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.arriero.fake_gateway import FakeGateway


@pytest.fixture
async def gateway() -> AsyncIterator[FakeGateway]:
    async with FakeGateway().running() as running:
        yield running
