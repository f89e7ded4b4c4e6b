"""The job face: submit, look, wait, list, cancel, follow, resume."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from gateway import replies
from gateway.openapi_answers import Job, JobList
from shared.api_keys import Role, as_key_store, create_key
from shared.errors import BackendFault
from shared.jobs import State
from shared.queue.running import RetryLater, RunningJob
from tests.conftest import WaitUntil
from tests.gateway.conftest import CHAT, HandWorker, Served, StartGateway, answer, hello, say

SUBMITTED = {"type": "chat.completion", "request": CHAT}


async def submit(served: Served, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
    return await served.http.post("/v1/jobs", json={**SUBMITTED, **more}, headers=headers)


def events_of(text: str) -> list[tuple[str, str, Any]]:
    """(event, id, data) of a job's event stream."""
    found = []
    for block in text.split("\n\n"):
        lines = [line.partition(": ") for line in block.splitlines() if not line.startswith(":")]
        fields = {name: value for name, _, value in lines}
        if "data" in fields:
            found.append((fields["event"], fields.get("id", ""), json.loads(fields["data"])))
    return found


def content_of(events: list[tuple[str, str, Any]]) -> str:
    return "".join(d.get("content", "") for name, _, data in events if name == "chunk" for d in data["deltas"])


async def test_a_submitted_job_is_accepted_followed_and_read(served: Served, worker: HandWorker) -> None:
    response = await submit(served, priority="high", metadata={"team": "blue"})
    assert response.status_code == 202
    job = response.json()
    Job.model_validate(job)
    assert response.headers["location"] == f"/v1/jobs/{job['id']}"
    assert (job["object"], job["type"], job["priority"]) == ("job", "chat.completion", "high")
    assert job["metadata"] == {"team": "blue"}
    done = (await served.http.get(f"/v1/jobs/{job['id']}?wait=10")).json()
    Job.model_validate(done)
    assert done["status"] == "succeeded"
    assert done["result"]["choices"][0]["message"]["content"] == "Hello from the other side"
    assert done["attempts"][0]["outcome"] == "succeeded"


@pytest.mark.parametrize(
    ("wrong", "param", "says"),
    [
        ({"priorty": "high"}, "priorty", "did you mean `priority`?"),
        ({"zzz": 1}, "zzz", "`zzz`: is not known here."),
    ],
)
async def test_a_misspelt_option_is_refused(served: Served, wrong: dict[str, Any], param: str, says: str) -> None:
    answer = await submit(served, **wrong)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param)
    assert error["message"].endswith(says)
    extra = {"type": "chat.completion", "request": {**CHAT, "sent_by_an_sdk": True}}
    assert (await served.http.post("/v1/jobs", json=extra)).status_code == 202


async def test_long_poll_answers_at_the_end_not_at_the_limit(served: Served, worker: HandWorker) -> None:
    release = asyncio.Event()

    async def held(job: RunningJob) -> bytes:
        await release.wait()
        return await hello(job)

    worker.script = held
    job = (await submit(served)).json()
    early = (await served.http.get(f"/v1/jobs/{job['id']}?wait=0.2")).json()
    assert early["status"] in ("queued", "running")
    waiting = asyncio.create_task(served.http.get(f"/v1/jobs/{job['id']}?wait=15"))
    await asyncio.sleep(0.1)
    release.set()
    done = await asyncio.wait_for(waiting, 3)
    assert done.json()["status"] == "succeeded"


async def test_a_waiting_job_knows_its_place(served: Served) -> None:
    for _ in range(2):
        await submit(served)
    job = (await submit(served)).json()
    shown = (await served.http.get(f"/v1/jobs/{job['id']}")).json()
    assert shown["status"] == "queued"
    assert shown["queue"]["position"] == 3


async def test_listing_filters_and_pages(served: Served) -> None:
    ids = [(await submit(served)).json()["id"] for _ in range(5)]
    await submit(served, delay_seconds=60)
    first = (await served.http.get("/v1/jobs?limit=2&status=queued")).json()
    JobList.model_validate(first)
    assert [job["id"] for job in first["data"]] == ids[:2:-1]
    assert first["has_more"]
    second = (await served.http.get(f"/v1/jobs?limit=9&status=queued&cursor={first['next_cursor']}")).json()
    assert [job["id"] for job in second["data"]] == ids[2::-1]
    assert not second["has_more"]
    scheduled = (await served.http.get("/v1/jobs?status=scheduled")).json()["data"]
    assert [job["status"] for job in scheduled] == ["scheduled"]
    assert (await served.http.get("/v1/jobs?model=other")).json()["data"] == []


async def test_cancelling_ends_a_waiting_job_and_leaves_an_ended_one(served: Served, worker: HandWorker) -> None:
    later = (await submit(served, delay_seconds=60)).json()
    cancelled = await served.http.delete(f"/v1/jobs/{later['id']}")
    assert cancelled.status_code == 200
    assert cancelled.json()["status"] == "cancelled"
    job = (await submit(served)).json()
    done = (await served.http.get(f"/v1/jobs/{job['id']}?wait=10")).json()
    assert (await served.http.delete(f"/v1/jobs/{job['id']}")).json() == done


async def test_a_job_survives_its_client(served: Served, worker: HandWorker, wait_until: WaitUntil) -> None:
    async def slowly(job: RunningJob) -> bytes:
        return await say(job, "a b c d e f", pause_s=0.1)

    worker.script = slowly
    job = (await submit(served)).json()
    async with served.http.stream("GET", f"/v1/jobs/{job['id']}/events") as response:
        async for line in response.aiter_lines():
            if line.startswith("event: chunk"):
                break
    done = (await served.http.get(f"/v1/jobs/{job['id']}?wait=10")).json()
    assert done["status"] == "succeeded"
    assert worker.stopped == []


async def test_events_tell_the_whole_story_and_resume(served: Served, worker: HandWorker) -> None:
    async def slowly(job: RunningJob) -> bytes:
        return await say(job, "one two three four five", pause_s=0.05)

    worker.script = slowly
    job = (await submit(served)).json()
    path = f"/v1/jobs/{job['id']}/events"
    told = events_of((await served.http.get(path)).text)
    assert told[0] == ("started", "1-0", {"attempt": 1})
    assert content_of(told) == "one two three four five"
    name, _, data = told[-1]
    assert name == "ended"
    assert data["status"] == "succeeded"
    chunks = [event for event in told if event[0] == "chunk"]
    assert len(chunks) >= 3
    for index, (_, event_id, _) in enumerate(chunks):
        rest = events_of((await served.http.get(path, headers={"Last-Event-ID": event_id})).text)
        assert content_of(rest) == content_of(chunks[index + 1 :]), "no gap and no repetition"
        assert rest[-1][0] == "ended"
    assert (await served.http.get(path, headers={"Last-Event-ID": "x"})).status_code == 400


@pytest.mark.req("S1-14")
async def test_who_waits_is_told_when_redis_comes_back_empty(
    served: Served, worker: HandWorker, monkeypatch: pytest.MonkeyPatch, wait_until: WaitUntil
) -> None:
    monkeypatch.setattr(replies, "SWEEP_S", 0.2)

    async def long(job: RunningJob) -> bytes:
        await asyncio.sleep(30)
        return await say(job, "too late")

    worker.script = long
    job = (await submit(served)).json()
    path = f"/v1/jobs/{job['id']}"
    following = asyncio.create_task(served.http.get(path + "/events"))
    chat = asyncio.create_task(served.chat())

    async def both_run_and_are_waited_for() -> bool:
        assert served.gateway.services is not None
        waited_for = len(served.gateway.services.replies._subscriptions)
        return waited_for == (await served.queue.stats()).states[State.RUNNING] == 2

    await wait_until(both_run_and_are_waited_for)
    await served.queue.redis.flushdb()

    answer = await chat
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "job_lost")
    name, _, data = events_of((await following).text)[-1]
    assert (name, data["id"], data["error"]["code"]) == ("ended", job["id"], "job_lost")
    assert (await served.http.get(path)).status_code == 404


async def test_a_run_that_starts_over_is_announced(served: Served, worker: HandWorker) -> None:
    async def second_try(job: RunningJob) -> bytes:
        if job.attempt == 1:
            await say(job, "first", pause_s=0.05)
            raise RetryLater(BackendFault("The model server reported an internal error."), 0.05)
        return await say(job, "second", pause_s=0.05)

    worker.script = second_try
    job = (await submit(served)).json()
    told = events_of((await served.http.get(f"/v1/jobs/{job['id']}/events")).text)
    names = [name for name, _, _ in told]
    at = names.index("restart")
    assert content_of(told[:at]) == "first"
    assert content_of(told[at:]) == "second"
    assert told[at][2] == {"attempt": 2}
    assert told[-1][2]["result"]["choices"][0]["message"]["content"] == "second"


async def test_an_openai_stream_goes_on_after_a_restart_that_repeats(served: Served, worker: HandWorker) -> None:
    from tests.gateway.conftest import frames, streamed_text

    texts = {1: "the cat", 2: "the cat sat"}

    async def again(job: RunningJob) -> bytes:
        await say(job, texts[job.attempt], pause_s=0.05)
        if job.attempt == 1:
            raise RetryLater(BackendFault(), 0.05)
        return answer(texts[2])

    worker.script = again
    response = await served.chat(stream=True)
    assert streamed_text(response.text) == "the cat sat"
    assert response.text.endswith("data: [DONE]\n\n")
    texts[2] = "the dog sat"
    broken = await served.chat(stream=True)
    error = frames(broken.text)[-1]["error"]
    assert error["code"] == "stream_restarted"
    assert broken.headers["x-arriero-job-id"] in error["message"]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"type": "image"}, "type"),
        ({"request": {"model": "llama3.2"}}, "request.messages"),
        ({"request": {**CHAT, "n": 2}}, "request.n"),
        ({"priority": "urgent"}, "priority"),
        ({"delay_seconds": -1}, "delay_seconds"),
        ({"deadline_seconds": 0}, "deadline_seconds"),
        ({"webhook_url": "https://example.org"}, "webhook_url"),
        ({"metadata": {str(i): "x" for i in range(17)}}, "metadata"),
        ({"metadata": {"a": 1}}, "metadata.a"),
    ],
)
async def test_what_does_not_fit_is_named(served: Served, change: dict[str, Any], param: str) -> None:
    response = await submit(served, **change)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "status=gone", "cursor=zz", "limit=1000"])
async def test_a_bad_query_is_named(served: Served, query: str) -> None:
    response = await served.http.get(f"/v1/jobs?{query}")
    assert response.status_code == 400
    assert response.json()["error"]["param"] == query.split("=")[0]


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_no_such_job(served: Served, method: str) -> None:
    for job_id in ("job_" + "0" * 32, "..%2f..", "x" * 300, "%00"):
        response = await served.http.request(method, f"/v1/jobs/{job_id}")
        assert response.status_code == 404
        assert response.json()["error"]["code"] in ("job_not_found", "route_not_found")


async def test_another_tenants_job_is_no_job(start_gateway: StartGateway) -> None:
    served = await start_gateway()
    store = as_key_store(served.queue.redis)
    keys = {
        tenant: (await create_key(store, "gw", tenant=tenant, role=Role.INFERENCE))[0] for tenant in ("red", "blue")
    }
    red, blue = ({"Authorization": f"Bearer {keys[tenant]}"} for tenant in ("red", "blue"))
    job = (await submit(served, red, delay_seconds=60)).json()
    path = f"/v1/jobs/{job['id']}"
    absent = await served.http.get("/v1/jobs/job_" + "0" * 32, headers=blue)
    for method, target in (("GET", path), ("DELETE", path), ("GET", path + "/events"), ("GET", path + "?wait=1")):
        refused = await served.http.request(method, target, headers=blue)
        assert refused.status_code == 404
        assert refused.json()["error"]["message"] == absent.json()["error"]["message"]
    assert (await served.http.get("/v1/jobs", headers=blue)).json()["data"] == []
    assert (await served.http.get(path, headers=red)).json()["status"] == "scheduled"
    # The same Idempotency-Key of two tenants is two jobs.
    ids = {(await submit(served, {**who, "Idempotency-Key": "k"})).json()["id"] for who in (red, blue)}
    assert len(ids) == 2


@pytest.mark.req("S0-54")
async def test_a_job_moves_its_tenant_back_by_the_work_it_is(served: Served) -> None:
    """Short answers cost little, long prompts much, however the job comes."""
    for path in ("/v1/chat/completions", "/v1/jobs"):
        costs = []
        for text, tokens in (("hi", 1), ("x" * 100_000, 200)):
            body = {"model": "llama3.2", "messages": [{"role": "user", "content": text}], "max_tokens": tokens}
            job = {"type": "chat.completion", "request": body} if path == "/v1/jobs" else body
            answer = await served.http.post(path, json=job, headers={"Prefer": "respond-async"})
            assert answer.status_code == 202, (path, answer.text)
            record = served.queue.keys.record(answer.json()["id"])
            redis: Any = served.queue.redis
            costs.append(float(await redis.hget(record, "co")))
        assert costs[0] == 0.1 and costs[1] > 5, path
