"""The router keeps what it decided for a name, and it is always what it would decide anew."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from gateway.catalogue import Catalogue
from gateway.metrics import GatewayMetrics
from gateway.router import MOST_KEPT, Router
from gateway.routing_inputs import Ask, NamedBeside, PrivacyDetection
from gateway.routing_table import LONG, POLICY
from shared.errors import ArrieroError
from shared.routes import Candidate, Route
from shared.services.registry import Registry
from shared.wire.canonical import ChatRequest, CompletionRequest, EmbeddingRequest, Message, Request
from tests.gateway.offers import Offers

OURS = ["llama3.2", "qwen2.5", "mistral", "abcdefghijklm", "gemma3"]
CLOUD = {"enable_discovery": False, "models": ["gpt-4o", "gemma3"], "default_model": "gpt-4o"}
NAMES = ["llama3.2", "LLAMA3.2:latest", "gemma3", "gpt-4o", "openai~gpt-4o", "openai:auto", "ollama~auto", "auto", "no"]


async def in_memory() -> list[Candidate]:
    return []


def router_of(detection: PrivacyDetection = "all") -> tuple[Router, Catalogue, Offers]:
    offers = Offers(ollama=(), openai=())
    offers.say("ollama", enable_discovery=False, models=OURS, default_model="llama3.2")
    offers.say("openai", **CLOUD)
    registry = Registry(offers.services)
    catalogue = Catalogue(offers)
    policy = replace(POLICY, detection=detection)
    return Router(registry, catalogue, policy, GatewayMetrics(), loaded=in_memory), catalogue, offers


def chat(text: str) -> ChatRequest:
    return ChatRequest(model="", messages=[Message(role="user", content=text)])


REQUESTS: list[Request] = [
    chat("hi"),
    chat("the patient sleeps"),
    chat(LONG),
    CompletionRequest(model="", prompt="hi"),
    CompletionRequest(model="", prompt="hi", raw=True),
    EmbeddingRequest(model="", inputs=["hi"]),
]
ASKS = [
    Ask(name=name, request=request, service=service, is_private=private)
    for name in NAMES
    for request in REQUESTS
    for service in (None, NamedBeside("openai"))
    for private in (False, True)
]


async def outcome(router: Router, ask: Ask) -> Route | str:
    try:
        return await router.route(ask)
    except ArrieroError as error:
        return error.record().code


@pytest.mark.req("S3-13", "S2-10")
@pytest.mark.parametrize("detection", get_args(PrivacyDetection))
async def test_what_was_asked_before_changes_no_route(detection: PrivacyDetection) -> None:
    router, *_ = router_of(detection)
    first = [await outcome(router, ask) for ask in ASKS]
    again = [await outcome(router, ask) for ask in reversed(ASKS)][::-1]
    alone = [await outcome(router_of(detection)[0], ask) for ask in ASKS]
    assert first == again == alone
    assert {type(one) for one in first} == {Route, str}, "some are refused"


async def test_a_route_is_forgotten_with_the_models_it_was_made_from() -> None:
    router, catalogue, offers = router_of()
    await catalogue.listing()
    ask = Ask(name="mistral", request=chat("hi"))
    assert await router.route(ask) is await router.route(ask), "kept"
    offers.say("ollama", enable_discovery=False, models=["llama3.2"], default_model="llama3.2")
    await catalogue.listing()
    assert await outcome(router, ask) == "model_not_found"


async def test_the_many_spellings_of_a_name_take_bounded_room() -> None:
    router, catalogue, _ = router_of()
    await catalogue.listing()
    name = "abcdefghijklm"
    for n in range(MOST_KEPT + 50):
        spelled = "".join(c.upper() if n >> at & 1 else c for at, c in enumerate(name))
        assert (await router.route(Ask(name=spelled, request=chat("hi")))).candidates[0].model == spelled
    assert len(router._kept) == MOST_KEPT
