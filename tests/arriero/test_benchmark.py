"""The figures of a benchmark, from lines and samples; what `arriero bench model` does with them is in test_bench.py."""

from __future__ import annotations

import json

import pytest

from arriero.benchmark import AnswerTimer, BrokenAnswer, Sample, Spread, figures


def text(content: str = "", thinking: str = "") -> str:
    return json.dumps({"message": {"role": "assistant", "content": content, "thinking": thinking}, "done": False})


def last(**counts: int) -> str:
    return json.dumps({"message": {"role": "assistant", "content": ""}, "done": True, **counts})


def test_the_first_token_is_the_first_text_or_thought() -> None:
    timer = AnswerTimer()
    timer.line(text(), 0.1)
    timer.line(text(thinking="hm"), 0.2)
    timer.line(text("It"), 0.3)
    timer.line(
        last(
            load_duration=500_000_000,
            prompt_eval_count=10,
            prompt_eval_duration=50_000_000,
            eval_count=2,
            eval_duration=10_000_000,
        ),
        0.4,
    )
    sample = timer.sample(0.41)
    assert (sample.first_token_s, sample.total_s, sample.load_s) == (0.2, 0.41, 0.5)
    assert sample.tokens_per_s == pytest.approx(200)
    assert sample.prompt_tokens_per_s == pytest.approx(200)


def test_a_server_that_counts_no_time_is_measured_from_outside() -> None:
    timer = AnswerTimer()
    timer.line(text("It"), 1.0)
    timer.line(last(eval_count=11), 2.0)
    assert timer.sample(2.0).tokens_per_s == pytest.approx(10)
    assert timer.sample(2.0).prompt_tokens_per_s is None


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([text("It")], "broke off"),
        ([text("It"), json.dumps({"error": "the runner is gone"})], "the runner is gone"),
        ([last(eval_count=1)], "said nothing"),
        (["<html>"], "not a line"),
    ],
)
def test_an_answer_that_is_not_whole_is_no_sample(lines: list[str], why: str) -> None:
    timer = AnswerTimer()
    with pytest.raises(BrokenAnswer, match=why):
        for line in lines:
            timer.line(line, 0.1)
        timer.sample(1.0)


def test_figures_are_by_host_and_leave_out_how_long_the_load_kept_the_first_token() -> None:
    def sample(host: str, first_token_s: float, load_s: float, tokens: int) -> Sample:
        return Sample(
            host=host, first_token_s=first_token_s, total_s=9, load_s=load_s, tokens=tokens, eval_s=1, queue_s=0.01
        )

    samples = [
        sample("north", 2.0, 1.9, 10),
        sample("south", 3.0, 2.8, 40),
        sample("north", 0.1, 0.01, 20),
        sample("north", 0.3, 0.01, 30),
    ]
    north, south = figures("llama3.2", samples)
    assert (north.host, north.calls, north.tokens, north.load_s) == ("north", 3, 60, 1.9)
    assert north.first_token_s == Spread(0.2, 0.1, 0.3)
    assert north.tokens_per_s == Spread(20, 10, 30)
    assert north.prompt_tokens_per_s is None
    assert (south.host, south.first_token_s, south.load_s) == ("south", None, 2.8)
