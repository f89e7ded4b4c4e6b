"""What a stream's client has is always a prefix of one single run's answer."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.splice import Splice
from shared.errors import StreamRestarted
from shared.wire.canonical import Delta, TextAnswer, ToolCall
from shared.wire.events import Chunk

TEXT = st.text(alphabet="ab", min_size=1, max_size=30)
CUTS = st.lists(st.integers(1, 6), min_size=1, max_size=40)


def cut(text: str, sizes: list[int]) -> list[str]:
    pieces, at, index = [], 0, 0
    while at < len(text):
        size = sizes[index % len(sizes)]
        pieces.append(text[at : at + size])
        at, index = at + size, index + 1
    return pieces


def run(attempt: int, pieces: list[str], thinking: bool = False) -> list[Chunk]:
    return [
        Chunk(attempt=attempt, seq=seq, deltas=[Delta(thinking=piece) if thinking else Delta(content=piece)])
        for seq, piece in enumerate(pieces, 1)
    ]


def text_of(deltas: list[Delta]) -> str:
    return "".join(delta.content for delta in deltas)


@given(text=TEXT, first=CUTS, second=CUTS, died_after=st.integers(0, 40))
def test_a_run_that_repeats_goes_on_where_the_first_stopped(
    text: str, first: list[int], second: list[int], died_after: int
) -> None:
    splice, sent = Splice("job_1"), ""
    splice.started(1)
    for chunk in run(1, cut(text, first))[:died_after]:
        sent += text_of(splice.chunk(chunk))
    splice.started(2)
    for chunk in run(2, cut(text, second)):
        sent += text_of(splice.chunk(chunk))
    assert sent == text
    assert splice.finish(TextAnswer(model="m", content=text)) == []


@given(runs=st.lists(st.tuples(TEXT, CUTS, st.integers(0, 40)), min_size=1, max_size=4))
def test_whatever_the_runs_say_the_client_has_a_prefix_of_one_of_them(runs: list[tuple[str, list[int], int]]) -> None:
    splice, sent = Splice("job_1"), ""
    with contextlib.suppress(StreamRestarted):
        for attempt, (text, sizes, died_after) in enumerate(runs, 1):
            splice.started(attempt)
            for chunk in run(attempt, cut(text, sizes))[:died_after]:
                sent += text_of(splice.chunk(chunk))
        sent += text_of(splice.finish(TextAnswer(model="m", content=runs[-1][0])))
        assert sent == runs[-1][0], "a stream that ends well has the whole of the last run"
    assert any(text.startswith(sent) for text, _, _ in runs)


@given(text=TEXT, sizes=CUTS, lost=st.sets(st.integers(1, 20), max_size=3))
def test_doubled_and_lost_chunks_cost_no_text(text: str, sizes: list[int], lost: set[int]) -> None:
    splice, sent = Splice("job_1"), ""
    splice.started(1)
    for chunk in run(1, cut(text, sizes)):
        if chunk.seq not in lost:
            sent += text_of(splice.chunk(chunk))
            assert splice.chunk(chunk) == [], "the same chunk again says nothing new"
            assert text.startswith(sent)
    assert sent + text_of(splice.finish(TextAnswer(model="m", content=text))) == text


def test_the_first_difference_ends_it_and_names_the_job() -> None:
    splice = Splice("job_7")
    for chunk in run(1, ["the ", "cat"]):
        splice.chunk(chunk)
    splice.started(2)
    assert splice.chunk(run(2, ["the "])[0]) == []
    with pytest.raises(StreamRestarted, match="/v1/jobs/job_7"):
        splice.chunk(Chunk(attempt=2, seq=2, deltas=[Delta(content="dog")]))


def test_a_shorter_second_run_is_a_difference() -> None:
    splice = Splice("job_1")
    for chunk in run(1, ["one ", "two"]):
        splice.chunk(chunk)
    splice.started(2)
    splice.chunk(run(2, ["one "])[0])
    with pytest.raises(StreamRestarted):
        splice.finish(TextAnswer(model="m", content="one "))


def test_chunks_of_an_older_run_are_not_heard() -> None:
    splice = Splice("job_1")
    splice.started(2)
    assert text_of(splice.chunk(run(2, ["new"])[0])) == "new"
    assert splice.chunk(run(1, ["old"])[0]) == []


def test_channels_are_compared_apart() -> None:
    splice = Splice("job_1")
    splice.chunk(Chunk(attempt=1, seq=1, deltas=[Delta(thinking="hm"), Delta(content="a")]))
    splice.started(2)
    assert splice.chunk(Chunk(attempt=2, seq=1, deltas=[Delta(thinking="h")])) == []
    new = splice.chunk(Chunk(attempt=2, seq=2, deltas=[Delta(thinking="m", content="ab")]))
    assert [(delta.thinking, delta.content) for delta in new] == [("", "b")]


def test_tool_calls_are_the_same_whatever_their_ids() -> None:
    first, again = (ToolCall(id=i, name="f", arguments="{}") for i in ("call_1", "call_2"))
    other = ToolCall(id="call_3", name="f", arguments='{"x":1}')
    splice = Splice("job_1")
    splice.chunk(Chunk(attempt=1, seq=1, deltas=[Delta(tool_calls=[first])]))
    splice.started(2)
    assert splice.chunk(Chunk(attempt=2, seq=1, deltas=[Delta(tool_calls=[again])])) == []
    assert splice.finish(TextAnswer(model="m", tool_calls=[again, other]))[0].tool_calls == [other]
    splice.started(3)
    with pytest.raises(StreamRestarted):
        splice.chunk(Chunk(attempt=3, seq=1, deltas=[Delta(tool_calls=[other])]))


def test_thinking_that_only_the_end_brings_comes_with_its_signature() -> None:
    answer = TextAnswer(model="m", thinking="hm", signature="c2ln", content="a")
    assert Splice("job_1").finish(answer) == [Delta("a", "hm", signature="c2ln")]
    told = Splice("job_1")
    told.chunk(Chunk(attempt=1, seq=1, deltas=[Delta("", "hm"), Delta(signature="c2ln")]))
    assert told.finish(answer) == [Delta("a")]
