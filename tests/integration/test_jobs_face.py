"""The job face: submit, look, wait, list, cancel, delay, deadline, through the whole road."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from arriero import Client
from tests.integration.processes import eventually
from tests.integration.stack import LONG, Stack, chat_body, ended, submit

EMBEDDING = {"model": "nomic-embed-text", "input": ["a llama", "an invoice"]}
COMPLETION = {"model": "llama3.2", "prompt": "Once upon a time"}
CANCEL_LIMIT_S = 2.0


@pytest.mark.req("S1-01", "S1-03", "S1-04", "S1-08", "D-01", "D-02")
@pytest.mark.parametrize(
    ("type_", "request_body", "object_"),
    [
        ("chat.completion", chat_body("Why do llamas hum?"), "chat.completion"),
        ("completion", COMPLETION, "text_completion"),
        ("embedding", EMBEDDING, "list"),
    ],
)
def test_every_type_is_accepted_run_and_kept(
    client: httpx.Client, stack: Stack, type_: str, request_body: dict[str, Any], object_: str
) -> None:
    answer = client.post(
        "/v1/jobs", json={"type": type_, "request": request_body, "priority": "high", "metadata": {"order": "17"}}
    )
    assert answer.status_code == 202
    accepted = answer.json()
    assert answer.headers["Location"] == f"/v1/jobs/{accepted['id']}"
    assert accepted["object"] == "job"
    assert accepted["type"] == type_
    assert accepted["status"] == "queued"
    assert accepted["result"] is None

    job = client.get(answer.headers["Location"], params={"wait": 10}).json()
    assert (job["status"], job["priority"], job["metadata"]) == ("succeeded", "high", {"order": "17"})
    assert job["model"] == request_body["model"]
    assert job["error"] is None
    assert job["result"]["object"] == object_
    (attempt,) = job["attempts"]
    assert (attempt["number"], attempt["outcome"], attempt["error"]) == (1, "succeeded", None)
    assert job["created_at"] <= attempt["started_at"] <= attempt["ended_at"] <= job["finished_at"]
    assert len(stack.simulator.calls(job["id"])) == 1


def test_the_answer_of_a_direct_call_is_a_job_too(client: httpx.Client) -> None:
    direct = client.post("/v1/chat/completions", json=chat_body("Why do llamas hum?"))
    job = client.get(f"/v1/jobs/{direct.headers['x-arriero-job-id']}").json()
    assert job["status"] == "succeeded"
    answer, kept = direct.json(), job["result"]
    # The direct answer is dated by the gateway when it is sent, the job by Redis when it was accepted.
    assert abs(answer.pop("created") - kept.pop("created")) <= 5
    assert kept == answer


@pytest.mark.req("C25")
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", chat_body("Why do llamas hum?")),
        ("/v1/chat/completions", chat_body("Why do llamas hum?", stream=True)),
        ("/v1/completions", COMPLETION),
        ("/v1/embeddings", EMBEDDING),
    ],
)
def test_who_prefers_not_to_wait_gets_the_job(client: httpx.Client, path: str, body: dict[str, Any]) -> None:
    answer = client.post(path, json=body, headers={"Prefer": "respond-async"})
    assert answer.status_code == 202
    assert answer.headers["Preference-Applied"] == "respond-async"
    assert answer.headers["Location"] == f"/v1/jobs/{answer.json()['id']}"
    assert ended(client, answer.json()["id"])["status"] == "succeeded"


def test_a_long_poll_answers_at_the_end_and_not_before(client: httpx.Client) -> None:
    endless = submit(client, chat_body(f"Count the stones {LONG}"))
    began = time.monotonic()
    early = client.get(f"/v1/jobs/{endless}", params={"wait": 0.3}).json()
    assert early["status"] in ("queued", "running")
    assert 0.25 < time.monotonic() - began < 3
    client.delete(f"/v1/jobs/{endless}")

    began = time.monotonic()
    short = submit(client, chat_body("Count [tokens=300]"))
    late = client.get(f"/v1/jobs/{short}", params={"wait": 20}).json()
    assert late["status"] == "succeeded"
    assert time.monotonic() - began < 10


def test_a_list_has_filters_and_pages(client: httpx.Client) -> None:
    mine = {submit(client, chat_body(f"Page {number}", model="mistral")) for number in range(5)}
    for job in mine:
        ended(client, job)
    found: list[str] = []
    cursor = ""
    while True:
        query: dict[str, str | int] = {"model": "mistral", "status": "succeeded", "limit": 2, "cursor": cursor}
        page = client.get("/v1/jobs", params=query).json()
        assert page["object"] == "list"
        assert len(page["data"]) <= 2
        assert all(job["model"] == "mistral" and job["status"] == "succeeded" for job in page["data"])
        found += [job["id"] for job in page["data"]]
        cursor = page["next_cursor"] or ""
        assert page["has_more"] == bool(cursor)
        if not cursor:
            break
    assert len(found) == len(set(found))
    assert mine <= set(found)
    created = [client.get(f"/v1/jobs/{job}").json()["created_at"] for job in found]
    assert created == sorted(created, reverse=True)
    assert client.get("/v1/jobs", params={"model": "mistral", "status": "expired"}).json()["data"] == []
    assert client.get("/v1/jobs", params={"status": "lost"}).status_code == 400


def test_a_running_job_is_cancelled_upstream(client: httpx.Client, stack: Stack) -> None:
    job = submit(client, chat_body(f"Count the stones {LONG}"))
    eventually(lambda: stack.simulator.calls(job), 5, "the call upstream")
    assert client.delete(f"/v1/jobs/{job}").status_code == 200
    eventually(lambda: stack.simulator.was_cancelled(job), CANCEL_LIMIT_S, "call cancelled")
    record = ended(client, job)
    assert record["status"] == "cancelled"
    assert [attempt["outcome"] for attempt in record["attempts"]] == ["cancelled"]


def test_a_waiting_job_is_cancelled_at_once_and_never_runs(client: httpx.Client, stack: Stack) -> None:
    with stack.full_slots(client):
        job = submit(client, chat_body("The one who waits"))
        waiting = client.get(f"/v1/jobs/{job}").json()
        assert waiting["status"] == "queued"
        assert waiting["queue"]["position"] == 1
        assert client.delete(f"/v1/jobs/{job}").json()["status"] == "cancelled"
    # Whatever comes later runs, so this one would have.
    assert ended(client, submit(client, chat_body("A later one")))["status"] == "succeeded"
    assert stack.simulator.calls(job) == []


def test_cancelling_what_has_ended_changes_nothing(client: httpx.Client) -> None:
    job = submit(client, chat_body("Why do llamas hum?"))
    before = ended(client, job)
    assert client.delete(f"/v1/jobs/{job}").json() == before


def test_a_delayed_job_starts_when_it_is_due(client: httpx.Client, stack: Stack) -> None:
    job = submit(client, chat_body("Later"), delay_seconds=1.0)
    scheduled = client.get(f"/v1/jobs/{job}").json()
    assert scheduled["status"] == "scheduled"
    assert scheduled["scheduled_for"] == pytest.approx(scheduled["created_at"] + 1.0, abs=0.05)
    done = ended(client, job)
    assert done["status"] == "succeeded"
    assert 0 <= done["started_at"] - scheduled["scheduled_for"] < 3
    assert len(stack.simulator.calls(job)) == 1


def test_a_running_job_expires_at_its_deadline(client: httpx.Client, stack: Stack) -> None:
    job = submit(client, chat_body(f"Count the stones {LONG}"), deadline_seconds=1.5)
    record = ended(client, job)
    assert record["finished_at"] - record["created_at"] < 5
    assert record["status"] == "expired"
    assert record["error"]["http_status"] == 504
    eventually(lambda: stack.simulator.was_cancelled(job), CANCEL_LIMIT_S, "call cancelled")


def test_a_waiting_job_expires_without_a_call(client: httpx.Client, stack: Stack) -> None:
    with stack.full_slots(client):
        job = submit(client, chat_body("Too late"), deadline_seconds=0.5)
        record = ended(client, job)
    assert record["status"] == "expired"
    assert record["error"]["code"] == "job_timeout"
    assert record["attempts"] == []
    assert stack.simulator.calls(job) == []


def test_a_direct_call_gets_504_at_its_deadline(client: httpx.Client, stack: Stack) -> None:
    answer = client.post(
        "/v1/chat/completions",
        json=chat_body(f"Count the stones {LONG}"),
        headers={"x-arriero-deadline-seconds": "1.5"},
    )
    assert answer.status_code == 504
    job = answer.headers["x-arriero-job-id"]
    eventually(lambda: stack.simulator.was_cancelled(job), CANCEL_LIMIT_S, "call cancelled")


@pytest.mark.req("S1-06")
def test_high_priority_goes_first(client: httpx.Client, stack: Stack) -> None:
    with stack.full_slots(client):
        low = [submit(client, chat_body(f"Low {number}"), priority="low") for number in range(4)]
        high = [submit(client, chat_body(f"High {number}"), priority="high") for number in range(4)]
        ranks = {job: client.get(f"/v1/jobs/{job}").json()["queue"]["position"] for job in (*low, *high)}
        assert ranks[high[0]] < ranks[low[0]]
    records = {job: ended(client, job) for job in (*low, *high)}
    assert all(record["status"] == "succeeded" for record in records.values())
    assert sum(records[job]["started_at"] for job in high) < sum(records[job]["started_at"] for job in low)


@pytest.mark.req("S1-05")
def test_many_jobs_are_submitted_in_few_calls(stack: Stack) -> None:
    with Client(stack.gateways[0].url) as client:
        requests = [{"model": "llama3.2", "messages": [{"role": "user", "content": f"hum {n}"}]} for n in range(40)]
        jobs = client.enqueue_many("chat.completion", requests, priority="low", metadata={"batch": "1"})
        ends = [client.wait(job.id, 30) for job in jobs]

    assert len({job.id for job in jobs}) == 40
    assert all(job.succeeded and job.priority == "low" and job.metadata == {"batch": "1"} for job in ends)


@pytest.mark.req("S1-30")
def test_a_model_is_loaded_by_its_first_request(client: httpx.Client, stack: Stack) -> None:
    ollama = stack.simulator.url

    def in_memory() -> set[str]:
        return {model["name"].removesuffix(":latest") for model in httpx.get(f"{ollama}/api/ps").json()["models"]}

    httpx.post(f"{ollama}/api/generate", json={"model": "mistral", "keep_alive": 0})
    eventually(lambda: "mistral" not in in_memory(), 5, "the model has left memory")
    answer = client.post("/v1/chat/completions", json={**chat_body("Why do llamas hum?"), "model": "mistral"})
    assert answer.status_code == 200
    assert "mistral" in in_memory()
