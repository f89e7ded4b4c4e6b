"""The plan: order, bounds, no loops; what a stand-in is asked; how much time a call gets."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from shared.backends.base import CallTimeouts
from shared.errors import (
    ArrieroError,
    BackendBusy,
    BackendFault,
    BackendMisconfigured,
    BackendRejected,
    BackendTimeout,
    BackendUnreachable,
    ModelFault,
)
from shared.model_names import same
from shared.resilience.backoff import RetryPolicy
from shared.wire.canonical import ChatRequest, CompletionRequest, EmbeddingRequest, Message, Request, Sampling
from worker.fallback import (
    MAX_MODELS,
    FallbackPolicy,
    Leg,
    Route,
    chain,
    limits,
    needs,
    next_try_s,
    routes,
    simplified,
    turn,
    unsigned,
)

ASK = ChatRequest(model="llama3.2", messages=[Message(role="user", content="hi")])
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}

names = st.sampled_from(["llama3.2", "llama3.2:latest", "LLAMA3.2", "mistral", "phi3", "qwen3:8b", "qwen3"])
hosts = st.lists(st.sampled_from(["h1", "h2", "h3", "h4"]), min_size=1, max_size=4, unique=True)
tries = st.integers(1, 10)


def policy(*models: str, **fields: object) -> FallbackPolicy:
    return FallbackPolicy(models=models, **fields)  # type: ignore[arg-type]  # the fields under test


def legs(models: Sequence[str], hosts: Sequence[str]) -> list[Leg]:
    return [Leg(model, hosts) for model in models]


# -- the chain ------------------------------------------------------------------------------------------------------


@pytest.mark.req("S1-45", "S1-89")
@given(asked=names, stand_ins=st.lists(names, max_size=8), chains=st.dictionaries(names, st.lists(names, max_size=8)))
def test_a_chain_begins_with_the_asked_model_and_has_no_model_twice(
    asked: str, stand_ins: list[str], chains: dict[str, list[str]]
) -> None:
    models = chain(replace(ASK, model=asked), FallbackPolicy(models=stand_ins, chains=chains))
    assert models[0] == asked
    assert len({same(model) for model in models}) == len(models) <= MAX_MODELS


def test_a_chain_of_ones_own_beats_the_common_one() -> None:
    own = policy("mistral", chains={"llama3.2:latest": ["phi3"], "llava": []})
    assert chain(ASK, own) == ["llama3.2", "phi3"]
    assert chain(replace(ASK, model="qwen3"), own) == ["qwen3", "mistral"]
    assert chain(replace(ASK, model="llava"), own) == ["llava"]


@pytest.mark.req("S1-88")
def test_fallback_can_be_switched_off() -> None:
    assert chain(ASK, policy("mistral", enabled=False)) == ["llama3.2"]


@pytest.mark.parametrize(
    "request_",
    [
        EmbeddingRequest(model="a", inputs=["x"]),
        CompletionRequest(model="a", prompt="[INST] x [/INST]", raw=True),
        CompletionRequest(model="a", prompt=""),
        ChatRequest(model="a", messages=[]),
    ],
    ids=["embedding", "raw prompt", "order to load", "order to load by chat"],
)
def test_what_only_the_model_itself_can_do_stays_with_it(request_: Request) -> None:
    assert chain(request_, policy("mistral")) == ["a"]


# -- the order ------------------------------------------------------------------------------------------------------


@given(models=st.lists(names, min_size=1, max_size=3, unique_by=same), hosts=hosts, tries=tries, data=st.data())
def test_the_plan_names_every_place_once(models: list[str], hosts: list[str], tries: int, data: st.DataObject) -> None:
    places = [Route(host, model) for model in models for host in hosts]
    failed = data.draw(st.lists(st.sampled_from(places), max_size=10))
    planned = routes(legs(models, hosts), failed, tries=tries)
    assert sorted(map(repr, planned)) == sorted(map(repr, places))


@pytest.mark.req("S1-12", "S1-45")
@given(models=st.lists(names, min_size=1, max_size=3, unique_by=same), hosts=hosts, tries=tries)
def test_walking_the_plan_ends_within_the_tries_and_never_goes_back_to_an_earlier_model(
    models: list[str], hosts: list[str], tries: int
) -> None:
    failed: list[Route] = []
    while True:
        failed.append(routes(legs(models, hosts), failed, tries=tries)[0])
        pause_s = next_try_s(
            BackendFault(), failed, legs(models, hosts), RetryPolicy(tries=tries), repeatable=True, unit=0.5
        )
        if pause_s is None:
            break
        assert len(failed) < tries
    walked = [models.index(route.model) for route in failed]
    assert len(failed) == tries
    assert walked == sorted(walked), "no way back"
    assert walked.count(0) >= tries / 2, "the model asked for has at least half of the tries"
    for model in models:
        on = [route.host for route in failed if route.model == model]
        assert len(set(on[: len(hosts)])) == len(on[: len(hosts)]), "every host once before any host twice"


@pytest.mark.parametrize(
    ("models", "tries", "expected"),
    [
        (1, 3, [0, 0, 0]),
        (2, 3, [0, 0, 1]),
        (3, 3, [0, 0, 1]),
        (3, 4, [0, 0, 1, 2]),
        (3, 6, [0, 0, 0, 0, 1, 2]),
        (2, 2, [0, 1]),
        (3, 1, [0]),
    ],
)
def test_the_last_tries_belong_to_the_stand_ins(models: int, tries: int, expected: list[int]) -> None:
    assert [turn(models, failures, tries) for failures in range(tries)] == expected


def test_another_host_comes_before_another_model() -> None:
    plan = routes(legs(["a", "b"], ["h1", "h2"]), [Route("h1", "a")], tries=3)
    assert plan == [Route("h2", "a"), Route("h1", "a"), Route("h2", "b"), Route("h1", "b")]


def test_earlier_models_stay_as_a_last_resort_for_a_stand_in_that_is_not_there() -> None:
    plan = routes(legs(["a", "b"], ["h1"]), [Route("h1", "a"), Route("h1", "a")], tries=3)
    assert plan == [Route("h1", "b"), Route("h1", "a")]


# -- after a failure ------------------------------------------------------------------------------------------------


def after(error: ArrieroError, *failed: Route, models: tuple[str, ...] = ("a",), hosts: tuple[str, ...] = ("h1", "h2"),
          repeatable: bool = True, unit: float = 0.5) -> float | None:  # fmt: skip
    return next_try_s(error, failed, legs(models, hosts), RetryPolicy(), repeatable=repeatable, unit=unit)


@pytest.mark.req("S1-10")
def test_a_move_elsewhere_is_quick_a_repetition_backs_off() -> None:
    assert after(BackendFault(), Route("h1", "a")) == 0
    assert after(BackendFault(), Route("h1", "a"), hosts=("h1",), unit=0.99) == pytest.approx(0.495)
    assert after(BackendFault(), Route("h1", "a"), Route("h1", "a"), hosts=("h1",), unit=0.99) == pytest.approx(0.99)


def test_what_the_host_asked_for_is_a_floor_on_that_host_only() -> None:
    busy = BackendBusy(retry_after_s=7.0)
    assert after(busy, Route("h1", "a"), hosts=("h1",)) == 7.0
    assert after(busy, Route("h1", "a")) == 0
    assert after(busy, Route("h1", "a"), Route("h1", "a"), models=("a", "b"), hosts=("h1",)) == 7.0


@pytest.mark.parametrize("error", [BackendFault(), BackendUnreachable(), BackendTimeout(), ModelFault(), BackendBusy()])
def test_tries_end(error: ArrieroError) -> None:
    failed = [Route("h1", "a"), Route("h2", "a"), Route("h1", "a")]
    assert after(error, *failed) is None


def test_nothing_is_tried_again_once_the_client_has_read_a_part() -> None:
    assert after(BackendFault(), Route("h1", "a"), models=("a", "b"), repeatable=False) is None


def test_the_callers_mistake_is_not_passed_around_but_a_stand_ins_refusal_is_not_the_callers() -> None:
    models = ("a", "b")
    assert after(BackendRejected("bad"), Route("h1", "a"), models=models) is None
    assert after(BackendRejected("no"), Route("h1", "b"), models=models) is not None


def test_a_misconfigured_host_is_left_for_another_but_not_asked_again() -> None:
    assert after(BackendMisconfigured(), Route("h1", "a")) is not None
    assert after(BackendMisconfigured(), Route("h1", "a"), hosts=("h1",)) is None


# -- what a stand-in is asked ---------------------------------------------------------------------------------------


@pytest.mark.req("S1-46")
def test_a_stand_in_gets_smaller_parameters() -> None:
    rich = ChatRequest(
        model="a", messages=ASK.messages, tools=[TOOL], think="high",
        sampling=Sampling(max_tokens=9000, temperature=0.3, options={"num_ctx": 65536, "num_predict": 1, "top_k": 5}),
    )  # fmt: skip
    plain = simplified(rich, "b", policy(), ())
    assert isinstance(plain, ChatRequest)
    assert (plain.model, plain.tools, plain.think) == ("b", [], None)
    assert (plain.sampling.max_tokens, plain.sampling.temperature) == (1024, 0.3)
    assert plain.sampling.options == {"num_ctx": 4096, "top_k": 5}
    able = simplified(rich, "b", policy(), ("tools", "thinking"))
    assert isinstance(able, ChatRequest)
    assert (able.tools, able.think) == ([TOOL], "high")
    assert rich.model == "a" and rich.tools, "the request itself is left as it was"


def test_a_shorter_wish_stays() -> None:
    for sampling in (Sampling(max_tokens=10), Sampling(options={"num_predict": 10})):
        got = simplified(ChatRequest(model="a", messages=ASK.messages, sampling=sampling), "b", policy(), ())
        assert isinstance(got, ChatRequest)
        assert got.sampling.max_tokens == 10


@given(text=st.text(max_size=3).map(lambda text: text * 7000), asked=st.none() | st.integers(512, 200_000))
def test_a_smaller_context_still_holds_the_prompt(text: str, asked: int | None) -> None:
    options = {} if asked is None else {"num_ctx": asked}
    request = CompletionRequest(model="a", prompt=text, sampling=Sampling(options=options))
    got = simplified(request, "b", policy(), ())
    assert isinstance(got, CompletionRequest)
    context = got.sampling.options["num_ctx"]
    assert asked is None or context <= asked
    assert context == asked or context >= len(text.encode()) / 3 + 1024


def test_what_a_model_must_be_able_to_do() -> None:
    assert needs(ASK) == frozenset()
    assert needs(ChatRequest(model="a", messages=[Message(role="user", images=["aGk="])])) == {"vision"}
    assert needs(CompletionRequest(model="a", prompt="x", suffix="y")) == {"insert"}
    assert needs(CompletionRequest(model="a", prompt="x", images=["aGk="])) == {"vision"}


# -- time -----------------------------------------------------------------------------------------------------------


@pytest.mark.req("S1-47")
@given(left=st.floats(0.01, 10_000), is_fallback=st.booleans(), is_last=st.booleans())
def test_no_call_outlives_the_deadline_and_a_stand_in_gets_less(left: float, is_fallback: bool, is_last: bool) -> None:
    got = limits(CallTimeouts(), left, policy(timeout_s=20), is_fallback=is_fallback, is_last=is_last, margin_s=0.5)
    assert 0 < got.first_byte_s <= got.total_s < left
    assert got.total_s <= (20 if is_fallback else 300)
    if not is_last:
        assert got.first_byte_s <= 0.6 * left, "a silent host must leave time for another"


def test_another_model_is_not_shown_signatures_that_it_did_not_give() -> None:
    thought = Message(role="assistant", content="a", thinking="hm", signature="c2ln")
    assert unsigned(ASK) is ASK
    got = unsigned(replace(ASK, messages=[*ASK.messages, thought]))
    assert got == replace(ASK, messages=[*ASK.messages, replace(thought, signature="")])
