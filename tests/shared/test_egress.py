"""In airgap mode no connection to a model server leaves this machine and its networks, however wrong its URL is."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import uvloop
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from shared import egress
from shared.backends.base import Backend
from shared.backends.factory import build
from shared.errors import BackendError, BackendMisconfigured
from shared.lifecycle import listen
from shared.services.config import ServiceConfig

FAR, FAR_6 = "203.0.113.7", "2001:db8::7"
DIALECTS = ["ollama", "openai", "anthropic"]


class Connections:
    """The addresses that this process connects to, as the interpreter tells them."""

    def __init__(self) -> None:
        self.made: list[Any] = []
        self.counting = True
        sys.addaudithook(self._hear)

    def _hear(self, event: str, details: tuple[Any, ...]) -> None:
        if event == "socket.connect" and self.counting:
            self.made.append(details[1][0])


@pytest.fixture
def connections() -> Iterator[Connections]:
    heard = Connections()
    yield heard
    heard.counting = False  # a hook cannot be taken back


@pytest.fixture(autouse=True)
def open_again() -> Iterator[None]:
    yield
    egress.allow_all()


def backend(dialect: str, url: str) -> Backend:
    """As a configuration that calls somebody else's machine ours would make it."""
    given = {"name": "wrong", "api_format": dialect, "urls": [url], "local": True, "api_key": "a-key"}
    [made] = build(ServiceConfig.model_validate(given))
    return made


@pytest.mark.parametrize(
    ("address", "is_local"),
    [
        ("127.0.0.1", True), ("127.8.8.8", True), ("10.1.2.3", True), ("172.16.0.1", True), ("172.31.255.255", True),
        ("192.168.1.1", True), ("169.254.1.1", True), ("::1", True), ("fe80::1%eth0", True), ("fd00::1", True),
        ("::ffff:10.0.0.1", True), ("8.8.8.8", False), ("172.32.0.1", False), ("0.0.0.0", False), ("::", False),
        ("2606:4700::1111", False), ("::ffff:8.8.8.8", False), ("100.64.0.1", False), ("224.0.0.1", False),
    ],
)  # fmt: skip
def test_what_is_local(address: str, is_local: bool) -> None:
    assert egress.is_within(address, egress.LOCAL_NETWORKS) is is_local


@given(st.ip_addresses())
def test_no_public_address_is_local(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if address.is_global:
        assert not egress.is_within(str(address), egress.LOCAL_NETWORKS)


def test_an_operator_can_name_more() -> None:
    egress.keep_inside(egress.networks([FAR, "198.51.100.9/24"]))
    for address in (FAR, "198.51.100.1", "127.0.0.1"):
        egress.open_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, 80))).close()
    with pytest.raises(egress.OutsideAirgap):
        egress.open_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("203.0.113.8", 80)))
    with pytest.raises(ValueError, match="gpu is no address"):
        egress.networks(["gpu"])


@pytest.mark.req("S3-22", "S3-31")
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("url", [f"http://{FAR}:80", f"https://{FAR}", f"http://[{FAR_6}]:80", "http://0.0.0.0:80"])
async def test_no_dialect_opens_a_socket_to_an_address_outside(
    connections: Connections, dialect: str, url: str
) -> None:
    egress.keep_inside()
    wrong = backend(dialect, url)
    with pytest.raises(BackendMisconfigured, match="airgap mode"):
        await wrong.version()
    await wrong.aclose()
    assert connections.made == []


def test_the_loop_of_the_services_keeps_inside_too() -> None:
    async def ask() -> None:
        wrong = backend("ollama", f"http://{FAR}:80")
        with pytest.raises(BackendMisconfigured, match="airgap mode"):
            await wrong.version()
        await wrong.aclose()

    egress.keep_inside()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(ask())


# -- names ----------------------------------------------------------------------------------------------------------


@pytest.fixture
async def near() -> AsyncIterator[int]:
    """The port of a server on this machine that answers everything."""

    async def version(_: web.Request) -> web.Response:
        return web.json_response({"version": "0.1"})

    app = web.Application()
    app.router.add_get("/api/version", version)
    runner = web.AppRunner(app)
    await runner.setup()
    _, port = await listen(runner, "near", "127.0.0.1", 0)
    yield port
    await runner.cleanup()


@pytest.fixture
async def resolve(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, list[str]]], None]:
    """Let names stand for addresses, in this order."""

    def with_names(names: dict[str, list[str]]) -> None:
        async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
            found = []
            for address in names[host]:
                family = socket.AF_INET6 if ":" in address else socket.AF_INET
                end = (address, port, 0, 0) if ":" in address else (address, port)
                found.append((family, socket.SOCK_STREAM, 6, "", end))
            return found

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)

    return with_names


@pytest.mark.req("S3-22")
@pytest.mark.parametrize("addresses", [[FAR], [FAR, FAR_6], [FAR_6, FAR, "198.51.100.1"]])
async def test_a_name_that_points_outside_opens_no_socket(
    connections: Connections, resolve: Callable[[dict[str, list[str]]], None], addresses: list[str]
) -> None:
    resolve({"ours.example": addresses})
    egress.keep_inside()
    wrong = backend("ollama", "http://ours.example:80")
    with pytest.raises(BackendMisconfigured, match="airgap mode"):
        await wrong.version()
    await wrong.aclose()
    assert connections.made == []


async def test_of_a_name_with_several_addresses_only_the_local_one_is_connected_to(
    connections: Connections, resolve: Callable[[dict[str, list[str]]], None], near: int
) -> None:
    resolve({"ours.example": [FAR, FAR_6, "127.0.0.1"]})
    egress.keep_inside()
    right = backend("ollama", f"http://ours.example:{near}")
    assert await right.version() == "0.1"
    await right.aclose()
    assert set(connections.made) == {"127.0.0.1"}


@pytest.mark.parametrize("variable", ["http_proxy", "HTTPS_PROXY", "ALL_PROXY"])
async def test_a_proxy_of_the_environment_is_not_used(
    connections: Connections, monkeypatch: pytest.MonkeyPatch, near: int, variable: str
) -> None:
    monkeypatch.setenv(variable, f"http://127.0.0.1:{near}")
    egress.keep_inside()
    far = backend("openai", f"http://{FAR}/v1")
    with pytest.raises(BackendError):
        await far.models()
    await far.aclose()
    assert connections.made == [], "not even the proxy's"


async def test_without_airgap_mode_any_address_is_tried(connections: Connections) -> None:
    """Else the tests above would prove nothing."""
    egress.allow_all()
    free = backend("ollama", "http://127.0.0.1:9")
    with pytest.raises(BackendError):
        await free.version()
    await free.aclose()
    assert set(connections.made) == {"127.0.0.1"}
