"""openai-python: files and batches."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from openai import BadRequestError, NotFoundError, OpenAI
from openai.types import Batch

from tests.integration.processes import eventually
from tests.integration.stack import LONG, Stack

Endpoint = Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings"]
CHAT: Endpoint = "/v1/chat/completions"
OVER = ("completed", "cancelled", "expired", "failed")


def line(custom_id: str, body: dict[str, Any], url: str = CHAT) -> str:
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": body})


def chat(custom_id: str, text: str) -> str:
    return line(custom_id, {"model": "llama3.2", "messages": [{"role": "user", "content": text}]})


def send(client: OpenAI, *lines: str) -> str:
    """The id of a file of these lines."""
    file = client.files.create(file=("requests.jsonl", "\n".join(lines).encode()), purpose="batch")
    return file.id


def begun(client: OpenAI, *lines: str, endpoint: Endpoint = CHAT) -> Batch:
    return client.batches.create(
        input_file_id=send(client, *lines), endpoint=endpoint, completion_window="24h", metadata={"night": "1"}
    )


def over(client: OpenAI, batch: Batch) -> Batch:
    eventually(lambda: client.batches.retrieve(batch.id).status in OVER, 20, "the batch is over")
    return client.batches.retrieve(batch.id)


def answers(client: OpenAI, file_id: str | None) -> dict[str, Any]:
    """The lines of an output, by custom id."""
    assert file_id is not None
    rows = [json.loads(row) for row in client.files.content(file_id).text.splitlines()]
    return {row["custom_id"]: row for row in rows}


@pytest.mark.req("S0-50")
def test_a_file_of_questions_becomes_a_file_of_answers(client: OpenAI) -> None:
    batch = begun(client, *(chat(f"q{n}", f"Question {n}") for n in range(5)))
    assert batch.status in ("in_progress", "completed")
    assert batch.metadata == {"night": "1"}
    done = over(client, batch)
    assert done.status == "completed"
    assert done.request_counts is not None
    assert (done.request_counts.total, done.request_counts.completed, done.request_counts.failed) == (5, 5, 0)
    assert done.error_file_id is None
    assert done.completed_at is not None and done.completed_at >= done.created_at
    found = answers(client, done.output_file_id)
    assert list(found) == [f"q{n}" for n in range(5)], "in the order of the questions"
    for n in range(5):
        response = found[f"q{n}"]["response"]
        assert response["status_code"] == 200
        assert response["body"]["object"] == "chat.completion"
        assert f"Question {n}" in response["body"]["choices"][0]["message"]["content"]
    assert done.output_file_id is not None
    assert client.files.retrieve(done.output_file_id).bytes == len(client.files.content(done.output_file_id).read())


@pytest.mark.req("S0-50")
def test_vectors_and_completions(client: OpenAI) -> None:
    texts = line("v", {"model": "nomic-embed-text", "input": ["a", "b"]}, "/v1/embeddings")
    vectors = over(client, begun(client, texts, endpoint="/v1/embeddings"))
    body = answers(client, vectors.output_file_id)["v"]["response"]["body"]
    assert [len(row["embedding"]) > 1 for row in body["data"]] == [True, True]
    prompt = line("c", {"model": "llama3.2", "prompt": "Once"}, "/v1/completions")
    texts_done = over(client, begun(client, prompt, endpoint="/v1/completions"))
    assert answers(client, texts_done.output_file_id)["c"]["response"]["body"]["object"] == "text_completion"


@pytest.mark.req("S0-50")
def test_failures_are_in_a_file_of_their_own(stack: Stack, client: OpenAI) -> None:
    stack.simulator.misbehave("status", status=400, match={"model": "mistral"})
    wrong = line("wrong", {"model": "mistral", "messages": [{"role": "user", "content": "no"}]})
    done = over(client, begun(client, chat("right", "yes"), wrong))
    assert done.status == "completed"
    assert done.request_counts is not None and done.request_counts.failed == 1
    assert list(answers(client, done.output_file_id)) == ["right"]
    failed = answers(client, done.error_file_id)["wrong"]
    assert failed["response"]["status_code"] == 400
    assert failed["response"]["body"]["error"]["message"]


@pytest.mark.req("S0-50")
def test_a_batch_is_cancelled_and_what_was_answered_stays(client: OpenAI) -> None:
    batch = begun(client, chat("short", "yes"), *(chat(f"long{n}", f"Count {LONG}") for n in range(6)))

    def short_is_answered() -> bool:
        counts = client.batches.retrieve(batch.id).request_counts
        return counts is not None and counts.completed == 1

    eventually(short_is_answered, 10, "the first answer")
    assert client.batches.cancel(batch.id).status in ("cancelling", "cancelled")
    done = over(client, batch)
    assert done.status == "cancelled"
    assert done.cancelling_at is not None and done.cancelled_at is not None
    assert list(answers(client, done.output_file_id)) == ["short"]
    errors = answers(client, done.error_file_id)
    assert {row["error"]["code"] for row in errors.values()} == {"batch_cancelled"}
    assert len(errors) == 6


def test_files_are_listed_read_and_deleted(client: OpenAI) -> None:
    ids = [send(client, chat("a", f"file {n}")) for n in range(3)]
    assert {file.id for file in client.files.list(limit=2)} >= set(ids), "page by page"
    assert client.files.content(ids[0]).text == chat("a", "file 0")
    assert client.files.retrieve(ids[0]).filename == "requests.jsonl"
    assert client.files.delete(ids[0]).deleted
    with pytest.raises(NotFoundError):
        client.files.content(ids[0])
    with pytest.raises(NotFoundError):
        client.batches.create(input_file_id=ids[0], endpoint=CHAT, completion_window="24h")


def test_a_batch_needs_its_input_only_once(client: OpenAI) -> None:
    batch = begun(client, chat("a", "only once"))
    client.files.delete(batch.input_file_id)
    assert list(answers(client, over(client, batch).output_file_id)) == ["a"]


def test_batches_are_listed_page_by_page(client: OpenAI) -> None:
    made = [begun(client, chat("a", f"listed {n}")).id for n in range(3)]
    listed = [batch.id for batch in client.batches.list(limit=1)]
    assert set(made) <= set(listed)
    assert len(listed) == len(set(listed))
    for batch_id in made:
        over(client, client.batches.retrieve(batch_id))


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["{"], "Line 1 of the input file"),
        ([chat("a", "x"), "", chat("a", "y")], "line 1 has the same one"),
        ([chat("a", "x"), line("b", {"model": "llama3.2"})], "Line 2 of the input file: `messages`: is required"),
        ([line("a", {}, "/v1/embeddings")], "this batch is for /v1/chat/completions"),
        ([line("a", {"model": "no-such", "messages": []})], "Line 1"),
    ],
)
def test_a_file_with_a_fault_is_refused_by_its_line(client: OpenAI, lines: list[str], says: str) -> None:
    with pytest.raises(BadRequestError, match=says):
        begun(client, *lines)


def test_the_jobs_of_a_batch_are_jobs(stack: Stack, client: OpenAI) -> None:
    done = over(client, begun(client, chat("mine", "seen as a job")))
    with stack.http() as http:
        rows = http.get("/v1/jobs", params={"limit": 100}).json()["data"]
    (row,) = [row for row in rows if row["metadata"].get("batch_id") == done.id]
    assert (row["priority"], row["metadata"]["custom_id"], row["metadata"]["night"]) == ("low", "mine", "1")
