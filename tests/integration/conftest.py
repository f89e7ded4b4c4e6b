"""One stack for all tests here; those that break something, or need keys, start their own."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.integration.stack import Stack


@pytest.fixture(scope="package")
def package_stack() -> Iterator[Stack]:
    """Two gateways, one worker."""
    with Stack() as stack:
        stack.gateway()
        stack.gateway()
        stack.worker()
        stack.wait()
        yield stack


@pytest.fixture
def stack(package_stack: Stack) -> Iterator[Stack]:
    """The running stack; faults that the test sets end with it."""
    yield package_stack
    package_stack.simulator.behave()


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    with stack.http() as client:
        yield client
