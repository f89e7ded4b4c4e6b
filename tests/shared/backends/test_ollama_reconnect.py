"""A refused connection is tried again at once; a call that the server may have seen is not."""

from __future__ import annotations

import asyncio

import pytest

from infra.simulator import running
from infra.simulator.faults import Fault
from shared.backends.base import CallTimeouts
from shared.backends.ollama import OllamaBackend
from shared.errors import BackendUnreachable
from shared.wire.canonical import ChatRequest, Message
from tests.house.redis_server import free_port

ASK = ChatRequest(model="llama3.2", messages=[Message(role="user", content="hi")])
INSTANT = {"load_seconds": 0.0, "first_token_seconds": 0.0, "tokens_per_second": 0.0}


async def chat(backend: OllamaBackend) -> int:
    return len([item async for item in backend.chat(ASK, request_id="r", timeouts=CallTimeouts())])


@pytest.mark.req("S0-37")
async def test_a_server_that_is_just_starting_is_reached() -> None:
    port = free_port()
    backend = OllamaBackend(f"http://127.0.0.1:{port}")
    call = asyncio.create_task(chat(backend))
    await asyncio.sleep(0.02)  # the first connections have been refused by now
    assert not call.done()
    async with running(**INSTANT, port=port) as simulator:  # type: ignore[arg-type]  # options by name
        assert await call > 1
        assert len(simulator.calls.entries("call")) == 1
        await backend.aclose()


async def test_a_call_that_was_seen_is_not_made_again() -> None:
    async with running(**INSTANT) as simulator:  # type: ignore[arg-type]  # options by name
        simulator.faults.add(Fault(kind="refuse"))
        backend = OllamaBackend(simulator.url)
        with pytest.raises(BackendUnreachable):
            await chat(backend)
        assert len(simulator.calls.entries("call")) == 1
        await backend.aclose()
