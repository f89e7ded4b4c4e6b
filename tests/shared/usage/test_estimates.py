"""What is learned of models on hosts, and what is said of a job before it runs."""

from __future__ import annotations

import timeit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.usage.estimates import TYPICAL, Estimates, Learner, Tally, tallies
from shared.usage.fields import Call
from shared.usage.figures import ModelUsage
from shared.usage.sizes import Size, size_of
from shared.wire.canonical import ChatRequest, CompletionRequest, EmbeddingRequest, Message, Sampling
from tests.shared.usage.test_figures import usage_of

CHAT = Call(kind="chat", seconds=3.0, first_token_s=1.0, tokens_in=250, tokens_out=100, chars_in=1000)
EMBEDDING = Call(kind="embedding", seconds=0.2, tokens_in=250, chars_in=1000)


def learned(*usages: ModelUsage) -> Estimates:
    return Learner().learn(usages, 0.0)


def test_a_request_is_sized_by_its_characters_and_the_longest_answer_it_wants() -> None:
    chat = ChatRequest(model="m", messages=[Message(role="user", content="1234", thinking="56")])
    assert size_of(chat) == Size(6)
    chat.sampling = Sampling(options={"num_predict": 7})
    assert size_of(chat) == Size(6, 7)
    chat.sampling = Sampling(max_tokens=5, options={"num_predict": 7})
    assert size_of(chat) == Size(6, 5)
    chat.sampling = Sampling(options={"num_predict": -1})
    assert size_of(chat) == Size(6), "without a limit"
    assert size_of(CompletionRequest(model="m", prompt="12", system="3", suffix="4")) == Size(4)
    assert size_of(EmbeddingRequest(model="m", inputs=["12", "345"])) == Size(5)
    assert size_of("no inference") == Size()


def test_a_call_takes_as_long_as_its_prompt_and_answer() -> None:
    [(_, tally)] = tallies(usage_of([CHAT] * 5))
    assert tally.mean_s == pytest.approx(3.0)
    assert tally.seconds_of(Size(1000)) == pytest.approx(3.0), "like the others"
    assert tally.seconds_of(Size(2000)) == pytest.approx(4.0), "a prompt of twice the length"
    assert tally.seconds_of(Size(1000, 10)) == pytest.approx(1.2), "a tenth of the answer"
    assert tally.seconds_of(Size(1000, 10_000)) == pytest.approx(3.0), "a limit that is never reached"


def test_loads_are_told_apart_from_the_calls_that_waited_for_them() -> None:
    cold = Call(kind="chat", seconds=8.0, first_token_s=6.0, tokens_out=100, chars_in=1000, load_s=5.0)
    known = learned(usage_of([cold, *[CHAT] * 4]))
    assert known.load_s("t:m") == pytest.approx(5.0)
    assert known.call_s("t:m") == pytest.approx(3.0)


def test_what_is_not_known_of_a_model_is_taken_from_all_and_then_from_a_constant() -> None:
    nothing = Estimates()
    assert not nothing.known
    assert nothing.call_s("t:m") == TYPICAL["t:"].mean_s
    assert nothing.load_s("e:m") == TYPICAL["e:"].load_s
    known = learned(usage_of([CHAT] * 3, model="a"), usage_of([EMBEDDING] * 3, model="b"))
    assert known.known
    assert known.call_s("t:stranger") == known.call_s("t:a") == pytest.approx(3.0)
    assert known.call_s("e:stranger") == known.call_s("e:b") == pytest.approx(0.2)
    assert known.call_s("t:a#8192") == known.call_s("t:a"), "whatever the context"


def test_recent_calls_weigh_more_than_old_ones() -> None:
    slow, fast = [CHAT] * 10_000, [Call(kind="chat", seconds=0.3, tokens_out=100, chars_in=1000)] * 300
    learner = Learner()
    assert learner.learn([usage_of(slow)], 0.0).call_s("t:m") == pytest.approx(3.0)
    assert learner.learn([usage_of(slow)], 5.0).call_s("t:m") == pytest.approx(3.0), "nothing new, nothing changed"
    assert learner.learn([], 10.0).call_s("t:m") == pytest.approx(3.0)
    assert learner.learn([usage_of([*slow, *fast])], 15.0).call_s("t:m") < 1.2


def test_figures_that_began_anew_are_taken_as_new() -> None:
    learner = Learner()
    learner.learn([usage_of([CHAT] * 50)], 0.0)
    again = learner.learn([usage_of([CHAT] * 2)], 1.0)
    assert again.call_s("t:m") == pytest.approx(3.0)


def test_a_job_costs_its_time_against_the_fleets_mean_call() -> None:
    slow = Call(kind="chat", seconds=30.0, first_token_s=10.0, tokens_out=100, chars_in=1000)
    known = learned(usage_of([CHAT] * 9, model="small"), usage_of([slow] * 9, model="big"))
    assert known.cost("chat", "small", Size(1000)) == pytest.approx(3.0 / 16.5)
    assert known.cost("chat", "big:latest", Size(1000)) == pytest.approx(30.0 / 16.5)
    assert known.cost("chat", "big", Size(1000, 50)) < known.cost("chat", "big", Size(1000))
    assert known.cost("chat", "small", Size(0, 0)) == 0.1, "nothing is for free"
    assert known.cost("chat", "big", Size(10_000_000)) == 20.0, "and nothing bars a tenant"


@given(
    kind=st.sampled_from(("chat", "completion", "embedding")), model=st.sampled_from(("m", "stranger")),
    chars=st.integers(0, 10**7), most=st.none() | st.integers(0, 10**6),
    calls=st.lists(st.builds(
        Call, kind=st.sampled_from(("chat", "embedding")), seconds=st.floats(0, 700),
        error=st.sampled_from(("", "backend_fault")), first_token_s=st.none() | st.floats(0, 700),
        tokens_out=st.integers(0, 5000), chars_in=st.integers(0, 9000), load_s=st.sampled_from((0.0, 900.0)),
    ), max_size=6),
)  # fmt: skip
def test_whatever_was_counted_a_cost_is_within_its_bounds(
    kind: str, model: str, chars: int, most: int | None, calls: list[Call]
) -> None:
    known = learned(usage_of(calls))
    assert 0.1 <= known.cost(kind, model, Size(chars, most)) <= 20.0
    assert all(0.2 <= weight <= 5.0 for weight in known.weights("h:1").values())
    assert known.call_s("t:m") >= 0.0 and known.load_s("t:m") > 0.0


def test_a_cost_takes_some_microseconds() -> None:
    known = learned(usage_of([CHAT] * 9, model="llama3.2"))
    request = ChatRequest(model="llama3.2", messages=[Message(role="user", content="x" * 500)] * 4)
    best = min(timeit.repeat(lambda: known.cost("chat", "llama3.2", size_of(request)), number=100, repeat=30)) / 100
    assert best < 50e-6, "about 5 on a machine that does nothing else"


@pytest.mark.req("S2-42", "S1-33")
def test_a_host_weighs_by_how_fast_it_is_not_by_what_it_was_asked() -> None:
    half = Call(kind="chat", seconds=1.5, first_token_s=0.5, tokens_out=50, chars_in=500)
    slow = Call(kind="chat", seconds=9.0, first_token_s=3.0, tokens_out=100, chars_in=1000)
    alike = learned(usage_of([CHAT] * 50, host="a:1"), usage_of([half] * 50, host="b:1"))
    assert alike.weights("a:1")["m"] == pytest.approx(alike.weights("b:1")["m"])
    apart = learned(usage_of([CHAT] * 50, host="a:1"), usage_of([slow] * 50, host="b:1"))
    assert apart.weights("b:1")["m"] == pytest.approx(3 * apart.weights("a:1")["m"], rel=0.15)
    assert apart.weights("elsewhere:1") == {}


def test_a_host_that_was_slow_once_is_taken_to_be_like_the_others_in_time() -> None:
    slow = Call(kind="chat", seconds=9.0, first_token_s=3.0, tokens_out=100, chars_in=1000)
    learner, fast = Learner(), [CHAT] * 100
    before = learner.learn([usage_of(fast, host="a:1"), usage_of([slow] * 20, host="b:1")], 0.0)
    later = learner.learn([usage_of([*fast, *fast], host="a:1")], 3600.0)
    assert before.weights("b:1")["m"] > 2.0
    assert later.weights("b:1")["m"] < 1.6


def test_tallies_add_up() -> None:
    one = Tally(calls=1, answers=1, seconds=2.0, first_s=1.0, chars_in=10, tokens_out=5, loads=1, load_s=3.0)
    assert one + one == one * 2
