"""Words and tasks: what counts as a word, which rule comes first, what is read for private words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.classifier import Facts, Task, Vocabulary, WordList, facts_of, task_of, text_of
from shared.wire.canonical import ChatRequest, CompletionRequest, EmbeddingRequest, Message, Request, ToolCall

WORDS = Vocabulary(
    private=WordList(["patient", "PHI", "medical record"]),
    code=WordList(["python", "c++", "```"]),
    complex=WordList(["analyze"]),
)
PADDING = "one two three four five six seven eight nine ten " * 2


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("the Patient sleeps", True),
        ("PATIENT", True),
        ("(patient's)", True),
        ("patient_id = 7", True),
        ("impatient", False),
        ("patients", False),
        ("philosophy", False),
        ("a phi-record", True),
        ("the medical\n  record of", True),
        ("a medical recording", False),
        ("", False),
    ],
)
@pytest.mark.req("S3-13")
def test_words_are_found_whole_and_in_any_case(text: str, found: bool) -> None:
    assert WORDS.private.found_in(text) is found


@pytest.mark.parametrize(("text", "found"), [("in C++.", True), ("c+", False), ("```py\nx", True), ("pythonic", False)])
def test_words_may_be_signs(text: str, found: bool) -> None:
    assert WORDS.code.found_in(text) is found


@pytest.mark.req("S3-13")
@given(
    st.lists(
        st.lists(st.sampled_from(["phi", "PHI ", "a", " medical", "record\n", "_", "\0", "\u03a3", "."])).map("".join)
    )
)
def test_several_texts_hold_what_one_of_them_holds(texts: list[str]) -> None:
    assert WORDS.private.found_in_any(texts) is any(map(WORDS.private.found_in, texts))


def test_no_words_are_found_nowhere() -> None:
    assert not WordList([]).found_in("anything")
    assert not WordList(["  ", ""]).found_in("anything")


@pytest.mark.req("S3-07", "S3-14", "S3-15", "S3-16", "S3-17", "S3-18", "S0-49")
@pytest.mark.parametrize(
    ("facts", "task"),
    [
        (Facts(asked=["hi"], has_tools=True, has_images=True), Task.TOOLS),
        (Facts(asked=["hi"], has_images=True), Task.IMAGES),
        (Facts(asked=["write python"]), Task.SHORT),
        (Facts(asked=[PADDING.removesuffix("ten ")]), Task.SHORT),
        (Facts(asked=[PADDING]), Task.GENERAL),
        (Facts(asked=["one two three four five six seven", PADDING]), Task.GENERAL),
        (Facts(asked=[PADDING + "python, analyze"]), Task.CODE),
        (Facts(asked=[PADDING + "analyze"]), Task.COMPLEX),
        (Facts(), Task.SHORT),
    ],
)
def test_the_first_rule_that_fits_names_the_task(facts: Facts, task: Task) -> None:
    assert task_of(facts, WORDS) is task


PRIVATE_PLACES: list[Request] = [
    ChatRequest(model="m", messages=[Message(role="system", content="You see the patient.")]),
    ChatRequest(model="m", messages=[Message(role="user", content="hi"), Message(role="tool", content="patient 7")]),
    ChatRequest(
        model="m",
        messages=[
            Message(role="assistant", tool_calls=[ToolCall(id="1", name="f", arguments='{"who": "the patient"}')])
        ],
    ),
    ChatRequest(model="m", messages=[Message(role="assistant", thinking="the patient")]),
    ChatRequest(
        model="m",
        messages=[Message(role="user", content="hi")],
        tools=[{"type": "function", "function": {"name": "f", "description": "finds a patient"}}],
    ),
    ChatRequest(model="m", messages=[Message(role="tool", tool_name="get_patient", content="7")]),
    ChatRequest(
        model="m",
        messages=[Message(role="user", content="hi")],
        format={"type": "object", "properties": {"patient": {"type": "string"}}},
    ),
    CompletionRequest(model="m", prompt="the patient"),
    CompletionRequest(model="m", prompt="a", suffix="the patient"),
    CompletionRequest(model="m", prompt="a", system="the patient"),
    EmbeddingRequest(model="m", inputs=["a", "the patient"]),
]


@pytest.mark.req("S3-13")
@pytest.mark.parametrize("request_", PRIVATE_PLACES)
def test_private_words_count_wherever_they_stand(request_: Request) -> None:
    assert WORDS.private.found_in(text_of(request_))


def test_what_only_the_operator_or_the_model_said_makes_no_task() -> None:
    request = ChatRequest(
        model="m",
        messages=[
            Message(role="system", content=PADDING + "python"),
            Message(role="user", content="hi"),
            Message(role="assistant", content=PADDING + "python"),
        ],
    )
    assert task_of(facts_of(request), WORDS) is Task.SHORT
