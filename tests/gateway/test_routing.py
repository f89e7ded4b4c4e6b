"""Every row of the routing table is decided anew, and what a table cannot show: messages, silence, many names."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing import MOST_CANDIDATES, Reason, decide
from gateway.routing_errors import PrivateRequest, ServiceNotConfigured
from gateway.routing_inputs import Ask, Place, Role, RoutingPolicy, World
from gateway.routing_table import LONG, PLACES, POLICY, SECTIONS, WORLD, Row, named, outcome, says
from shared.errors import ArrieroError, BackendUnreachable, ModelNotFound
from shared.routes import Route
from shared.wire.canonical import EmbeddingRequest

ROWS = [row for rows in SECTIONS.values() for row in rows]


def route(name: str, world: World = WORLD, policy: RoutingPolicy = POLICY, *, prompt: str = LONG) -> Route:
    return decide(Ask(name=name, request=says(prompt)), world, policy)


def places(*changed: Place) -> World:
    return replace(WORLD, places=PLACES | {place.name: place for place in changed})


@pytest.mark.req("S2-07", "S2-08", "S2-09", "S2-10", "S2-38", "S3-04", "S3-13", "S3-14", "S3-15", "S3-16", "S3-17",
                 "S3-18", "S3-40", "S4-45", "S4-48", "C7", "C8", "C32")  # fmt: skip
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.rule} {row.asks}"[:80])
def test_each_row_of_the_table(row: Row) -> None:
    assert outcome(row) == row.goes


@pytest.mark.req("S2-29")
def test_a_missing_model_is_told_with_near_names_their_service_and_how_to_get_it() -> None:
    with pytest.raises(ModelNotFound, match=r"'lama3.2'.*Did you mean ollama~llama3.2.*arriero models pull lama3.2"):
        route("lama3.2")
    with pytest.raises(ModelNotFound, match=r"'llama3.3' is not installed on ollama.*Did you mean llama3.2\?"):
        route("ollama~llama3.3")
    with pytest.raises(ModelNotFound, match="'phi3' is not installed on lm_studio") as refused:
        route("lm_studio~phi3")
    assert "pull" not in refused.value.message, "nothing is pulled onto such a service"


@pytest.mark.req("S2-30", "S3-39")
def test_a_service_that_is_not_there_is_told_with_what_would_bring_it() -> None:
    with pytest.raises(ServiceNotConfigured, match="openai is off: set OPENAI_API_KEY"):
        route("openai~gpt-4o")
    with pytest.raises(ServiceNotConfigured, match=r"'antropic'.*Did you mean anthropic\?"):
        route("antropic~claude-fast")


def test_a_silent_default_service_is_trusted_and_those_that_have_the_model_come_after_it() -> None:
    silent = replace(PLACES["ollama"], models={}, is_complete=False)
    assert outcome_of(route("gemma3", places(silent))) == ["ollama~gemma3", "lm_studio~gemma3", "anthropic~claude-fast"]


def test_a_name_is_not_tried_out_on_a_silent_service_elsewhere() -> None:
    silent = replace(PLACES["openrouter"], models={}, is_complete=False)
    with pytest.raises(BackendUnreachable, match="openrouter does not say now"):
        route("gpt-4", places(silent))
    never = replace(silent, tells=False)
    with pytest.raises(ModelNotFound):
        route("gpt-4", places(never))
    assert route("openrouter~gpt-4", places(never)).reason == Reason.NAMED


def test_one_of_ours_that_is_silent_may_have_it() -> None:
    silent = replace(PLACES["lm_studio"], models={}, is_complete=False)
    assert outcome_of(route("phi4", places(silent)))[0] == "lm_studio~phi4"


def test_those_that_answer_go_before_those_that_do_not() -> None:
    down = replace(PLACES["lm_studio"], is_available=False)
    both = replace(PLACES["openrouter"], models=named("phi4"))
    assert outcome_of(route("phi4", places(down, both)))[:2] == ["openrouter~phi4", "lm_studio~phi4"]


def test_a_model_is_asked_for_by_the_name_it_has_there() -> None:
    exact = replace(PLACES["lm_studio"], models=named("Qwen/Qwen3-8B"), is_exact=True)
    for name in ("qwen/qwen3-8b", "lm_studio~Qwen/Qwen3-8b:latest"):
        assert outcome_of(route(name, places(exact)))[0] == "lm_studio~Qwen/Qwen3-8B"
    with pytest.raises(ModelNotFound, match=r"Did you mean Qwen/Qwen3-8B\?"):
        route("lm_studio~qwen/qwen3", places(exact))
    assert outcome_of(route("LLAMA3.2"))[0] == "ollama~LLAMA3.2", "Ollama itself knows many spellings"


def test_a_role_may_name_its_service() -> None:
    policy = replace(POLICY, models=dict(POLICY.models) | {Role.FAST: "lm_studio~phi4"})
    assert outcome_of(route("auto", policy=policy, prompt="Hello there"))[0] == "lm_studio~phi4"


def test_auto_without_any_of_its_models_says_which_to_install() -> None:
    nothing = World({"ollama": replace(PLACES["ollama"], models={})}, "ollama")
    with pytest.raises(ModelNotFound, match=r"'llama3.2' is not installed.*arriero models pull llama3.2"):
        route("auto", nothing)


@pytest.mark.req("S3-13", "S3-22")
@given(
    name=st.sampled_from(["auto", "llama3.2", "phi4", "vendor/large", "anthropic~claude-fast", "lm_studio~auto", "x"]),
    available=st.booleans(),
    complete=st.booleans(),
    fallback=st.booleans(),
    first_loaded=st.booleans(),
    default=st.sampled_from([*PLACES, ""]),
    embeds=st.booleans(),
)
def test_a_private_request_is_never_routed_elsewhere(
    name: str, available: bool, complete: bool, fallback: bool, first_loaded: bool, default: str, embeds: bool
) -> None:
    request = EmbeddingRequest(model="", inputs=[LONG]) if embeds else says(f"{LONG}. The patient sleeps.")
    ask = Ask(name=name, request=request, is_private=embeds)
    changed = {
        place.name: replace(place, is_available=available, is_complete=complete, default_model="m")
        for place in PLACES.values()
    }
    policy = replace(POLICY, falls_back=fallback, first_loaded=first_loaded)
    try:
        found = decide(ask, replace(WORLD, places=changed, default=default), policy)
    except ArrieroError as error:
        assert isinstance(error, PrivateRequest | ModelNotFound | BackendUnreachable) or embeds
        return
    assert found.local_only
    assert 1 <= len(found.candidates) <= (1 if embeds or not fallback else MOST_CANDIDATES)
    assert all(changed[target.service].is_local for target in found.candidates)


@given(text=st.text(max_size=40))
def test_any_name_gives_a_route_or_a_clear_error(text: str) -> None:
    try:
        found = route(text)
    except ArrieroError as error:
        assert 400 <= error.http_status < 500
        assert error.message.isprintable()
    else:
        assert found.candidates


def outcome_of(found: Route) -> list[str]:
    return [target.qualified for target in found.candidates]
