"""One picture out of what several hosts say."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import cast

from manager.app import Manager
from manager.inventory import ask_hosts, by_model
from shared.backends.base import Backend, LoadedModel, ModelInfo
from shared.errors import ArrieroError, BackendUnreachable
from shared.status_server import HEALTHY


@dataclass
class Host:
    """The part of a backend that the inventory asks."""

    name: str
    installed: list[ModelInfo] = field(default_factory=list)
    in_memory: list[LoadedModel] = field(default_factory=list)
    error: ArrieroError | None = None
    delay_s: float = 0.0

    async def models(self) -> list[ModelInfo]:
        await asyncio.sleep(self.delay_s)
        if self.error:
            raise self.error
        return self.installed

    async def loaded(self) -> list[LoadedModel]:
        return self.in_memory


def backends(*hosts: Host) -> list[Backend]:
    return cast(list[Backend], list(hosts))


async def test_hosts_that_fail_or_are_slow_are_shown_beside_the_others() -> None:
    good = Host("a:1", [ModelInfo(name="llama3.2", size_bytes=7)], [LoadedModel(name="llama3.2", size_bytes=9)])
    gone = Host("b:1", error=BackendUnreachable("connection refused"))
    slow = Host("c:1", delay_s=5)
    found = await ask_hosts(backends(good, gone, slow), 0.05)
    assert [(host.host, host.error) for host in found] == [
        ("a:1", ""),
        ("b:1", "connection refused"),
        ("c:1", "no answer within 0.05 s"),
    ]


async def test_models_over_hosts() -> None:
    one = Host("a:1", [ModelInfo(name="mistral"), ModelInfo(name="llama3.2")], [LoadedModel(name="mistral")])
    two = Host("b:1", [ModelInfo(name="llama3.2")], [LoadedModel(name="deleted", size_bytes=5)])
    places = by_model(await ask_hosts(backends(one, two), 1))
    assert [(place.name, place.installed_on, place.loaded_on) for place in places] == [
        ("deleted", [], ["b:1"]),
        ("llama3.2", ["a:1", "b:1"], []),
        ("mistral", ["a:1"], ["a:1"]),
    ]


async def test_ready_while_one_host_answers() -> None:
    good, gone = Host("a:1"), Host("b:1", error=BackendUnreachable("refused"))
    assert await Manager(backends(gone, good), 1).readiness() == {"ollama": HEALTHY}
    assert await Manager(backends(gone), 1).readiness() == {"ollama": "b:1: refused"}


async def test_metrics_tell_hosts_apart() -> None:
    good, gone = Host("a:1", [ModelInfo(name="m")]), Host("b:1", error=BackendUnreachable("refused"))
    manager = Manager(backends(good, gone), 1)
    await manager.refresh()
    text = manager.metrics.render().decode()
    assert 'arriero_manager_host_up{host="a:1"} 1.0' in text
    assert 'arriero_manager_host_up{host="b:1"} 0.0' in text
    assert 'arriero_manager_models_installed{host="a:1"} 1.0' in text
