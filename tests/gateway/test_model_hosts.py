"""All hosts as if they were one: merged, asked once, silent ones left out."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from gateway.model_hosts import ModelHosts
from shared.backends.base import LoadedModel
from shared.backends.ollama_models import ModelDetails
from shared.errors import BackendUnreachable, ModelNotFound

SOON, LATER, NEVER = "2026-01-01T00:00:00.123456789Z", "2026-01-01T08:00:00+02:00", "2318-01-01T00:00:00Z"


@dataclass
class Host:
    models: dict[str, str] = field(default_factory=dict)
    """Loaded model -> when it goes."""
    number: str = "0.30.0"
    away: bool = False
    asked: int = 0

    async def _answer(self) -> None:
        self.asked += 1
        await asyncio.sleep(0)
        if self.away:
            raise BackendUnreachable()

    async def loaded(self) -> list[LoadedModel]:
        await self._answer()
        return [LoadedModel(name=name, expires_at=at) for name, at in self.models.items()]

    async def show(self, model: str) -> ModelDetails:
        await self._answer()
        if model not in self.models:
            raise ModelNotFound
        return ModelDetails(family=model)

    async def version(self) -> str:
        await self._answer()
        return self.number


async def test_loaded_models_once_each_the_longest_stay_first() -> None:
    one, two = Host({"llama3.2:latest": SOON, "phi:latest": ""}), Host({"Llama3.2": LATER, "mistral:latest": NEVER})
    found = await ModelHosts(lambda: [one, two, Host(away=True)]).loaded()
    told = [(model.name, model.expires_at) for model in found]
    assert told == [("mistral:latest", NEVER), ("Llama3.2", LATER), ("phi:latest", "")]


async def test_models_that_are_not_allowed_are_not_spoken_of() -> None:
    found = await ModelHosts(lambda: [Host({"llama3.2": SOON, "mistral": SOON})], ["mistral"]).loaded()
    assert [model.name for model in found] == ["mistral"]


async def test_the_oldest_version_counts() -> None:
    assert await ModelHosts(lambda: [Host(number="0.9.6"), Host(number="0.10.1"), Host(away=True)]).version() == "0.9.6"


async def test_details_come_from_a_host_that_has_the_model() -> None:
    hosts = ModelHosts(lambda: [Host(away=True), Host(), Host({"phi": ""})])
    assert (await hosts.details("phi")).family == "phi"
    with pytest.raises(ModelNotFound):
        await hosts.details("mistral")


async def test_nobody_answers() -> None:
    hosts = ModelHosts(lambda: [Host(away=True)])
    for question in (hosts.loaded(), hosts.version(), hosts.details("phi")):
        with pytest.raises(BackendUnreachable):
            await question


async def test_a_host_is_asked_by_one_for_all_who_ask_at_once() -> None:
    host = Host()
    hosts = ModelHosts(lambda: [host])
    assert set(await asyncio.gather(*(hosts.version() for _ in range(50)))) == {"0.30.0"}
    assert host.asked == 1
    await hosts.version()
    assert host.asked == 2, "nothing is kept"


async def test_one_who_leaves_does_not_spoil_it_for_the_others() -> None:
    hosts = ModelHosts(lambda: [Host(number="0.31.0")])
    first, second = asyncio.create_task(hosts.version()), asyncio.create_task(hosts.version())
    await asyncio.sleep(0)
    first.cancel()
    assert await second == "0.31.0"
    await hosts.stop()
