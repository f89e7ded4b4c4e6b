"""One picture out of what several hosts say."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import cast

from manager.inventory import HostInventory, ask_hosts, by_model
from manager.metrics import ManagerMetrics
from shared.backends.base import Backend, LoadedModel, ModelInfo
from shared.errors import ArrieroError, BackendUnreachable


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


def test_metrics_tell_hosts_apart_and_forget_what_is_gone() -> None:
    metrics = ManagerMetrics()
    loaded = HostInventory(host="a:1", installed=[ModelInfo(name="m")], loaded=[LoadedModel(name="m", size_bytes=5)])
    metrics.update([loaded, HostInventory(host="b:1", error="refused")])
    metrics.models.show_scores({"m": 40.0})
    text = metrics.render().decode()
    assert 'arriero_manager_host_up{host="a:1"} 1.0' in text
    assert 'arriero_manager_host_up{host="b:1"} 0.0' in text
    assert 'arriero_manager_models_installed{host="a:1"} 1.0' in text
    assert 'arriero_manager_model_loaded_bytes{host="a:1",model="m"} 5.0' in text
    assert 'arriero_manager_model_score{model="m"} 40.0' in text
    metrics.update([HostInventory(host="a:1")])
    metrics.models.show_scores({})
    text = metrics.render().decode()
    assert "arriero_manager_model_loaded_bytes{" not in text
    assert "arriero_manager_model_score{" not in text
