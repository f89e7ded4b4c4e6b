"""`arriero dlq` as a process, on a real queue without a gateway."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from shared.jobs import NewJob, State
from shared.queue.client import QueueClient
from tests.arriero.test_cli import Command
from tests.shared.queue.rig import chat, claim, queue_client, settle

Bury = Callable[[NewJob], Awaitable[str]]


@pytest.fixture
async def queue(redis_url: str) -> AsyncIterator[QueueClient]:
    async with queue_client(redis_url) as client:
        yield client


@pytest.fixture
def arriero(tmp_path: Path, redis_url: str) -> Command:
    command = Command(tmp_path)
    command.environment["REDIS_URL"] = redis_url
    return command


@pytest.fixture
def bury(queue: QueueClient) -> Bury:
    """Let a job fail for good; its id."""

    async def bury(job: NewJob) -> str:
        await queue.enqueue(job)
        [run] = await claim(queue.scripts, seed=job.id)
        await settle(queue.scripts, run.id, run.token, "dead_lettered", error=b"@backend_fault")
        return job.id

    return bury


@pytest.mark.req("S1-11", "C35")
async def test_list_show_replay_purge(arriero: Command, queue: QueueClient, bury: Bury) -> None:
    old = await bury(chat("a secret question", tenant="acme"))
    listed = await arriero("dlq", "list", "--reason", "backend_fault", "--since", "1h")
    assert listed.status == 0, listed.err
    assert old in listed.out and "backend_fault" in listed.out and "acme" in listed.out
    assert json.loads((await arriero("dlq", "list", "--model", "other", "--json")).out)["dead_letters"] == []

    shown = await arriero("dlq", "show", old)
    assert "The model server reported an internal error." in shown.out
    assert "(17 characters)" in shown.out and "secret" not in shown.out
    whole = json.loads((await arriero("dlq", "show", old, "--content", "--json")).out)
    assert whole["request"]["messages"][0]["content"] == "a secret question"

    replayed = json.loads((await arriero("dlq", "replay", old, "--model", "mistral", "--json")).out)
    new = await queue.get(replayed["id"])
    assert new is not None and (new.state, new.model, new.replay_of) == (State.QUEUED, "mistral", old)
    again = await arriero("dlq", "replay", old)
    assert (again.status, again.out) == (0, f"{old} was replayed before as {new.id}\n")

    asked = await arriero("dlq", "purge", old)
    assert asked.status == 2 and "--yes" in asked.err
    assert (await arriero("dlq", "purge", old, "--yes")).out == "purged 1 dead letter\n"
    gone = await arriero("dlq", "purge", old, "--yes")
    assert gone.status == 1 and "arriero dlq list" in gone.err
    assert "no dead letters" in (await arriero("dlq", "list")).out


async def test_the_next_page_is_one_of_the_same_list(arriero: Command, bury: Bury) -> None:
    jobs = {await bury(chat(tenant="acme")) for _ in range(2)}
    options = ("--reason", "backend_fault", "--tenant", "acme", "--since", "1h", "--limit", "1")
    page = await arriero("dlq", "list", *options)
    more = re.search(r"^more: arriero (dlq list .*)$", page.out, re.MULTILINE)
    assert more is not None and more[1].startswith(" ".join(("dlq", "list", *options, "--cursor"))), page.out
    rest = await arriero(*more[1].split())
    assert rest.status == 0
    assert jobs == {job for job in jobs if job in page.out} ^ {job for job in jobs if job in rest.out}


async def test_replaying_many_at_a_rate(arriero: Command, queue: QueueClient, bury: Bury) -> None:
    for _ in range(3):
        await bury(chat(tenant="acme"))
    other = await bury(chat(tenant="b"))
    done = await arriero("dlq", "replay", "--tenant", "acme", "--rate", "30/min", "--yes")
    assert (done.status, done.out) == (0, "replayed 3 jobs, the last one in 6.0 s\n")
    states = (await queue.stats()).states
    assert (states["queued"], states["scheduled"]) == (1, 2)
    asked = await arriero("dlq", "replay", "--all")
    assert asked.status == 2 and "--yes" in asked.err
    outcome = json.loads((await arriero("dlq", "replay", "--all", "--yes", "--json")).out)
    assert [each["replay_of"] for each in outcome["data"]] == [other]
    assert json.loads((await arriero("dlq", "purge", "--all", "--yes", "--json")).out) == {"purged": 4}


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("replay",), "--all"),
        (("replay", "job_1", "--all"), "--all"),
        (("purge",), "--all"),
        (("purge", "--all", "--tenant", "a"), "--all"),
        (("replay", "--all", "--rate", "fast"), "5/s"),
        (("replay", "--all", "--rate", "0/s"), "5/s"),
        (("list", "--since", "yesterday"), "2h"),
    ],
)
async def test_what_is_not_clear_is_asked_for(arriero: Command, arguments: tuple[str, ...], hint: str) -> None:
    done = await arriero("dlq", *arguments)
    assert done.status == 2
    assert hint in done.err


async def test_an_unknown_one_is_one_line(arriero: Command) -> None:
    for action in ("show", "replay"):
        done = await arriero("dlq", action, "job_unknown")
        assert done.status == 1
        assert done.err == "arriero: No such dead letter. It may have been purged, or removed after its time.\n"
