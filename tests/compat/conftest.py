"""A stack, special gateways beside it for the answers a healthy one does not give, and openai-python."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from openai import AsyncOpenAI, OpenAI

from tests.house.redis_server import free_port
from tests.integration.stack import Gateway, Stack


@pytest.fixture(scope="package")
def package_stack() -> Iterator[Stack]:
    with Stack() as stack:
        stack.gateway()
        stack.worker()
        stack.wait()
        yield stack


@pytest.fixture
def stack(package_stack: Stack) -> Iterator[Stack]:
    """The running stack; faults that the test sets end with it."""
    yield package_stack
    package_stack.simulator.behave()


@pytest.fixture(scope="package")
def narrow(package_stack: Stack) -> Gateway:
    """A gateway behind which one job runs and one may wait; the next gets 429."""
    alone = {"QUEUE_SHARD": "narrow"}
    gateway = package_stack.gateway(MAX_QUEUE_DEPTH="1", **alone)
    worker = package_stack.worker(WORKER_CONCURRENCY="1", **alone)
    gateway.wait()
    worker.wait()
    return gateway


@pytest.fixture(scope="package")
def keyed(package_stack: Stack) -> tuple[Gateway, str]:
    """A gateway that demands keys, and a key."""
    key = package_stack.create_key("compat", QUEUE_SHARD="keyed")["key"]
    gateway = package_stack.gateway(QUEUE_SHARD="keyed")
    gateway.wait()
    return gateway, key


@pytest.fixture(scope="package")
def queueless(package_stack: Stack) -> Gateway:
    """A gateway whose Redis is away."""
    gateway = package_stack.gateway(REDIS_URL=f"redis://127.0.0.1:{free_port()}/9")
    gateway.wait()
    return gateway


@pytest.fixture
def client(stack: Stack) -> Iterator[OpenAI]:
    with openai_client(stack.url) as client:
        yield client


@pytest.fixture
async def async_client(stack: Stack) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def openai_client(url: str, key: str = "none") -> OpenAI:
    """Without retries, so that a test sees each answer."""
    return OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)
