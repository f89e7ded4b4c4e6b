"""A job's event stream: resuming from every point, at any gateway, also after its end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.integration.processes import eventually
from tests.integration.stack import LONG, Gateway, Stack, chat_body, ended, submit

Event = tuple[str, str, Any]
"""(id, name, data)"""


def events(gateway: Gateway, job: str, after: str = "") -> Iterator[Event]:
    """A job's events as they come; leave the loop to leave the stream."""
    headers = {"Last-Event-ID": after} if after else {}
    url = f"{gateway.url}/v1/jobs/{job}/events"
    fields: dict[str, str] = {}
    with httpx.stream("GET", url, headers=headers, timeout=20, trust_env=False) as response:
        assert response.status_code == 200
        for line in response.iter_lines():
            if line and not line.startswith(":"):
                name, _, value = line.partition(": ")
                fields[name] = value
            elif fields:
                yield fields.get("id", ""), fields["event"], json.loads(fields["data"])
                fields = {}


def text_of(seen: list[Event]) -> str:
    return "".join(delta.get("content", "") for _, name, data in seen if name == "chunk" for delta in data["deltas"])


@pytest.fixture(scope="module")
def finished(package_stack: Stack) -> tuple[str, list[Event]]:
    """A job and all its events, followed while it ran."""
    with package_stack.http() as client:
        job = submit(client, chat_body("Tell me about the Andes [tokens=120]"))
        seen = list(events(package_stack.gateways[0], job))
        text = ended(client, job)["result"]["choices"][0]["message"]["content"]
    assert text_of(seen) == text
    return job, seen


def test_the_stream_has_a_start_chunks_and_one_end(finished: tuple[str, list[Event]]) -> None:
    job, seen = finished
    names = [name for _, name, _ in seen]
    assert names[0] == "started"
    assert names[-1] == "ended"
    assert set(names[1:-1]) == {"chunk"}
    assert len(names) > 5
    ids = [event_id for event_id, _, _ in seen[:-1]]
    assert ids == [f"1-{number}" for number in range(len(ids))]
    assert seen[-1][2]["id"] == job
    assert seen[-1][2]["status"] == "succeeded"


def test_resuming_after_each_event_gives_exactly_the_rest(stack: Stack, finished: tuple[str, list[Event]]) -> None:
    job, seen = finished
    for place, (event_id, _, _) in enumerate(seen[:-1]):
        gateway = stack.gateways[place % 2]
        assert list(events(gateway, job, event_id)) == seen[place + 1 :], f"after {event_id}"


def test_leaving_and_joining_a_running_job_at_each_gateway_in_turn(stack: Stack, client: httpx.Client) -> None:
    job = submit(client, chat_body("Tell me about the Andes [tokens=400]"))
    seen: list[Event] = []
    turn = 0
    while not seen or seen[-1][1] != "ended":
        after = seen[-1][0] if seen else ""
        for count, event in enumerate(events(stack.gateways[turn % 2], job, after)):
            seen.append(event)
            if count == 3:
                break
        turn += 1
    assert turn > 3
    ids = [event_id for event_id, _, _ in seen[:-1]]
    assert ids == [f"1-{number}" for number in range(len(ids))]
    assert text_of(seen) == ended(client, job)["result"]["choices"][0]["message"]["content"]


def test_submitted_at_one_gateway_followed_at_the_other(stack: Stack, client: httpx.Client) -> None:
    job = submit(client, chat_body("Why do llamas hum?"))
    other = stack.gateways[1]
    seen = list(events(other, job))
    waited = httpx.get(f"{other.url}/v1/jobs/{job}", params={"wait": 10}, trust_env=False).json()
    assert waited["result"]["choices"][0]["message"]["content"] == text_of(seen)


def test_a_watcher_who_leaves_does_not_end_a_submitted_job(stack: Stack, client: httpx.Client) -> None:
    job = submit(client, chat_body("Tell me about the Andes [tokens=400]"))
    for _, name, _ in events(stack.gateways[0], job):
        if name == "chunk":
            break
    assert ended(client, job)["status"] == "succeeded"
    (call,) = stack.simulator.calls(job)
    assert not call["cancelled"]


def test_while_a_job_waits_comments_tell_its_position(stack: Stack, client: httpx.Client) -> None:
    with stack.full_slots(client):
        ahead, behind = (submit(client, chat_body(f"Waiting {number}")) for number in range(2))
        url = f"{stack.gateways[1].url}/v1/jobs/{behind}/events"
        with httpx.stream("GET", url, timeout=10, trust_env=False) as following:
            lines = (line for line in following.iter_lines() if "position=" in line)
            assert next(lines).startswith(": queued position=2 expected_wait_seconds=")
            client.delete(f"/v1/jobs/{ahead}")
            assert next(line for line in lines if "position=2" not in line).startswith(": queued position=1")
        client.delete(f"/v1/jobs/{behind}")


def test_cancelling_ends_the_stream(stack: Stack, client: httpx.Client) -> None:
    job = submit(client, chat_body(f"Count the stones {LONG}"))
    seen: list[Event] = []
    for event in events(stack.gateways[0], job):
        if len(seen) == 2:
            client.delete(f"/v1/jobs/{job}")
        seen.append(event)
    assert seen[-1][1] == "ended"
    assert seen[-1][2]["status"] == "cancelled"
    eventually(lambda: stack.simulator.was_cancelled(job), 2, "call cancelled")


def test_an_embedding_has_no_chunks_but_an_end(stack: Stack, client: httpx.Client) -> None:
    job = submit(client, {"model": "nomic-embed-text", "input": "a llama"}, "embedding")
    *_, (_, name, data) = events(stack.gateways[0], job)
    assert name == "ended"
    assert len(data["result"]["data"]) == 1


@pytest.mark.parametrize("nonsense", ["1", "a-b", "1-2-3", "-1-1"])
def test_an_id_that_is_none_gets_400(client: httpx.Client, finished: tuple[str, list[Event]], nonsense: str) -> None:
    answer = client.get(f"/v1/jobs/{finished[0]}/events", headers={"Last-Event-ID": nonsense})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "Last-Event-ID"
