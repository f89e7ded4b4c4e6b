"""A client that leaves in the middle of a stream is no fault of ours, and the log must not look as if it were."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web

from gateway import app
from gateway.route_table import Role, Route
from tests.conftest import WaitUntil
from tests.gateway.conftest import StartGateway

Departure = Callable[[web.Request], Awaitable[None]]


async def closing(request: web.Request) -> None:
    """The socket has failed, and the loop is yet to say so."""
    assert request.transport is not None
    request.transport.abort()


async def gone(request: web.Request) -> None:
    """The connection is lost, and the cancellation that came of it is over."""
    await closing(request)
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(10)
    assert request.transport is None


@pytest.mark.parametrize("departure", [closing, gone])
async def test_a_client_that_leaves_a_stream_leaves_no_stack_trace(
    start_gateway: StartGateway,
    monkeypatch: pytest.MonkeyPatch,
    wait_until: WaitUntil,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    departure: Departure,
) -> None:
    failed: list[bool] = []

    async def talk(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"heard")
        await departure(request)
        try:
            await response.write(b"unheard")
        except ConnectionError:
            failed.append(True)
            raise
        return response

    route = Route(method="GET", path="/departures", handler=talk, role=Role.PUBLIC, summary="-", tag="-")
    monkeypatch.setattr(app, "ROUTES", [*app.ROUTES, route])
    served = await start_gateway()
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(b"GET /departures HTTP/1.1\r\nHost: localhost\r\n\r\n")
    with contextlib.suppress(ConnectionError):
        await reader.read()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    assert served.gateway.services is not None
    await wait_until(served.gateway.services.meter.idle.is_set, description="handler ended")
    await served.gateway.stop()
    assert failed, "the write went to nobody"
    said = capfd.readouterr()
    assert "Traceback" not in said.out + said.err + caplog.text
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
