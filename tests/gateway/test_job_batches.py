"""POST /v1/jobs:batch: many jobs in one call."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.openapi_answers import JobBatch
from tests.gateway.conftest import CHAT, Served, StartGateway

PATH = "/v1/jobs:batch"
EMBEDDING = {"type": "embedding", "request": {"model": "nomic-embed-text", "input": "a llama"}}


def described(text: str = "hello", **more: Any) -> dict[str, Any]:
    request = {**CHAT, "messages": [{"role": "user", "content": text}]}
    return {"type": "chat.completion", "request": request, **more}


@pytest.mark.req("S1-05")
async def test_a_batch_is_accepted_in_order_and_each_job_is_its_own(served: Served) -> None:
    jobs = [
        described("one", metadata={"n": "0"}),
        described("two", priority="low"),
        described("three", delay_seconds=60),
    ]

    response = await served.http.post(PATH, json={"jobs": jobs})

    assert response.status_code == 202
    body = response.json()
    JobBatch.model_validate(body)
    assert (body["accepted"], body["refused"]) == (3, 0)
    first, second, third = body["data"]
    assert (first["metadata"], second["priority"], third["status"]) == ({"n": "0"}, "low", "scheduled")
    assert [row["queue"]["position"] for row in body["data"]] == [1, 2, None]
    for row in body["data"]:
        assert (await served.http.get(f"/v1/jobs/{row['id']}")).json()["created_at"] == row["created_at"]


async def test_one_bad_description_refuses_the_batch_and_is_named(served: Served) -> None:
    bad = described()
    bad["request"]["temperature"] = "hot"

    response = await served.http.post(PATH, json={"jobs": [described(), bad]})

    assert response.status_code == 400
    assert response.json()["error"]["param"] == "jobs[1].request.temperature"
    assert (await served.http.get("/v1/jobs")).json()["data"] == []


@pytest.mark.parametrize("body", [{}, {"jobs": []}, {"jobs": "x"}, {"jobs": [1]}, {"jobs": [described()] * 1001}, []])
async def test_what_is_no_batch_is_refused(served: Served, body: Any) -> None:
    assert (await served.http.post(PATH, json=body)).status_code == 400


async def test_what_finds_no_room_is_refused_one_by_one(start_gateway: StartGateway) -> None:
    served = await start_gateway(max_queue_depth=3)

    response = await served.http.post(PATH, json={"jobs": [described()] * 5})

    assert response.status_code == 202
    body = response.json()
    JobBatch.model_validate(body)
    assert (body["accepted"], body["refused"]) == (3, 2)
    assert [row["object"] for row in body["data"]] == ["job"] * 3 + ["job.refused"] * 2
    assert body["data"][4]["error"]["code"] == "queue_full"
    full = await served.http.post(PATH, json={"jobs": [described()] * 5})
    assert full.status_code == 429
    assert int(full.headers["retry-after"]) >= 1


async def test_a_repeated_batch_is_the_same_jobs(served: Served) -> None:
    jobs = {"jobs": [described("one"), described("two")]}
    key = {"Idempotency-Key": "batch-7"}

    first, again = [(await served.http.post(PATH, json=jobs, headers=key)).json()["data"] for _ in range(2)]

    assert [row["id"] for row in first] == [row["id"] for row in again]
    assert len({row["id"] for row in first}) == 2
    changed = {"jobs": [described("one"), described("other")]}
    mixed = (await served.http.post(PATH, json=changed, headers=key)).json()
    assert (mixed["accepted"], mixed["data"][1]["error"]["code"]) == (1, "idempotency_mismatch")
