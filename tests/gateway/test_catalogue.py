"""When the gateway may say that a model does not exist."""

from __future__ import annotations

import asyncio

import pytest

from gateway import catalogue
from gateway.catalogue import Catalogue, canonical_name, not_found
from shared.backends.base import ModelInfo
from shared.errors import BackendUnreachable, ModelNotFound
from tests.gateway.offers import Offers


class Host:
    """A model host that counts how often it is asked."""

    def __init__(self, *models: str) -> None:
        self.models = list(models)
        self.up = True
        self.asked = 0

    async def __call__(self) -> list[ModelInfo]:
        self.asked += 1
        if not self.up:
            raise BackendUnreachable()
        return [ModelInfo(name=name) for name in self.models]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("llama3.2", "llama3.2:latest"),
        ("Llama3.2:3B", "llama3.2:3b"),
        ("hf.co/User/Model", "hf.co/user/model:latest"),
        ("host:5000/m", "host:5000/m:latest"),
    ],
)
def test_names_are_compared_in_one_form(name: str, expected: str) -> None:
    assert canonical_name(name) == expected


def test_the_refusal_helps() -> None:
    message = not_found("lama3.2", ["llama3.2:latest", "mistral:7b", "nomic-embed-text:latest"]).message
    assert "Did you mean llama3.2" in message
    assert "nomic" not in message
    assert "`arriero models pull lama3.2`" in message
    assert "`ollama pull lama3.2`" in message
    assert "\n" not in not_found("a\nb" + "x" * 900, []).message


async def test_all_hosts_must_have_answered_before_a_model_is_unknown() -> None:
    first, second = Host("mistral"), Host("llama3.2")
    both = Catalogue(Offers(first, second))
    await both.require("LLAMA3.2:latest")
    with pytest.raises(ModelNotFound):
        await both.require("phi")
    second.up = False
    half = Catalogue(Offers(first, second))
    await half.require("phi")  # the silent host may have it: the job waits


async def test_nobody_answers_so_nothing_is_refused() -> None:
    host = Host()
    host.up = False
    await Catalogue(Offers(host)).require("anything")


async def test_a_known_model_costs_no_call_and_an_unknown_one_few() -> None:
    host = Host("mistral")
    listed = Catalogue(Offers(host))
    for _ in range(100):
        await listed.require("mistral")
    assert host.asked == 1

    async def refused() -> None:
        with pytest.raises(ModelNotFound):
            await listed.require("phi")

    await asyncio.gather(*(refused() for _ in range(100)))
    assert host.asked <= 2


@pytest.mark.req("S0-47")
async def test_a_model_installed_since_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, however fresh the list is for those whose models are on it."""
    monkeypatch.setattr(catalogue, "REFUSAL_FRESH_FOR_S", 0.0)
    host = Host("mistral")
    listed = Catalogue(Offers(host))
    await listed.require("mistral")
    host.models.append("phi")
    await listed.require("phi")


async def test_a_hanging_host_holds_nobody_up_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "HOST_LIMIT_S", 0.1)

    async def hang() -> list[ModelInfo]:
        await asyncio.sleep(60)
        return []

    async with asyncio.timeout(2):
        await Catalogue(Offers(hang)).require("anything")


@pytest.mark.req("S1-83")
async def test_models_outside_the_allow_list_do_not_exist() -> None:
    listed = Catalogue(Offers(Host("mistral:latest", "qwen2.5:7b", "phi3")), ["Mistral", "qwen2.5:*"])
    await listed.require("mistral")
    await listed.require("QWEN2.5:7b")
    assert set((await listed.listing()).models) == {"mistral:latest", "qwen2.5:7b"}
    with pytest.raises(ModelNotFound, match="does not serve"):
        await listed.require("phi3")


@pytest.mark.req("S2-06", "S2-11", "S4-62")
async def test_each_service_has_its_list_and_only_the_default_ones_have_bare_names() -> None:
    offers = Offers(
        ollama=[Host("mistral"), Host("phi3", "mistral")], openai=[Host("gpt-4o")], lm_studio=[Host("secret")]
    )
    offers.say("lm_studio", enable_discovery=False, models=["qwen3"])
    default = "ollama"
    listed = Catalogue(offers, default=lambda: default)
    assert listed.models_of("openai") is None, "nobody was asked yet"
    found = await listed.installed()
    assert sorted(info.name for info in found.values()) == ["lm_studio~qwen3", "mistral", "openai~gpt-4o", "phi3"]
    assert found["openai~gpt-4o:latest"].name == "openai~gpt-4o"
    assert set(listed.models_of("openai") or ()) == {"gpt-4o:latest"}
    assert set(listed.models_of("lm_studio") or ()) == {"qwen3:latest"}, "not asked: what the settings say"
    assert listed.models_of("nobody") is None
    default = "openai"
    assert "ollama~mistral:latest" in await listed.installed()


async def test_a_service_that_is_silent_leaves_the_others_lists_as_they_are() -> None:
    cloud = Host("gpt-4o")
    cloud.up = False
    listed = Catalogue(Offers(ollama=[Host("mistral")], openai=[cloud]))
    assert set(await listed.installed()) == {"mistral:latest"}
    assert listed.listing_of("ollama").complete
    await listed.require("openai~gpt-4o")  # it may have it


async def test_services_come_and_go() -> None:
    offers = Offers(ollama=[Host("mistral")], openai=[Host("gpt-4o")])
    listed = Catalogue(offers)
    await listed.installed()
    seen = listed.revision
    offers.services = offers.services[:1]
    assert set(await listed.installed()) == {"mistral:latest"}
    assert listed.revision > seen
    await listed.stop()
