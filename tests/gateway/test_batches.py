"""Files and batches at the gateway: forms that are none, limits, other tenants, a full queue, repetitions."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import httpx
import pytest

from gateway.batches.model import Batch, Endpoint, Progress, batch_body
from gateway.routes.batch_bodies import BatchAnswer, File, FileList
from shared.api_keys import Role, as_key_store, create_key
from tests.conftest import WaitUntil
from tests.gateway.conftest import CHAT, HandWorker, Served, StartGateway
from tests.house.redis_server import RedisServer

URL: Endpoint = "/v1/chat/completions"
ODD_NAME = b'--x\r\nContent-Disposition: form-data; name="a\x10"\r\n\r\nab\r\n--x--\r\n'
HALF_A_FORM = b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\nab'


def lines(count: int = 1, **more: Any) -> bytes:
    rows = [{"custom_id": str(n), "method": "POST", "url": URL, "body": CHAT, **more} for n in range(count)]
    return "\n".join(map(json.dumps, rows)).encode()


async def send(http: httpx.AsyncClient, data: bytes, headers: dict[str, str] | None = None, **form: str) -> Any:
    form = {"purpose": "batch", **form}
    return await http.post("/v1/files", files={"file": ("in.jsonl", data)}, data=form, headers=headers)


async def begin(http: httpx.AsyncClient, data: bytes, headers: dict[str, str] | None = None) -> httpx.Response:
    file = (await send(http, data, headers)).json()
    body = {"input_file_id": file["id"], "endpoint": URL, "completion_window": "24h"}
    return await http.post("/v1/batches", json=body, headers=headers)


async def test_a_file_and_a_batch_are_written_as_described(served: Served, worker: HandWorker) -> None:
    file = (await send(served.http, lines())).json()
    File.model_validate(file)
    FileList.model_validate((await served.http.get("/v1/files")).json())
    batch = await begin(served.http, lines(2))
    assert batch.status_code == 200, batch.text
    BatchAnswer.model_validate(batch.json())


async def test_a_line_is_as_long_as_a_body_may_be(start_gateway: StartGateway) -> None:
    served = await start_gateway(max_body_bytes=1024)
    long = {**CHAT, "messages": [{"role": "user", "content": "x" * 1024}]}
    refused = await begin(served.http, lines(body=long))
    assert refused.status_code == 400
    assert "a request has 1024 at most" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("model", "says", "code"),
    [
        ("openai~gpt-4o", "set OPENAI_API_KEY", "service_not_configured"),
        ("nowhere~x", "'nowhere'", "service_not_configured"),
        ("nope", "'nope' is not installed", "model_not_found"),
    ],
)
async def test_a_model_that_is_not_there_is_told_by_its_line(
    start_gateway: StartGateway, model: str, says: str, code: str
) -> None:
    ollama = {"enable_discovery": False, "models": ["llama3.2"]}
    served = await start_gateway(services={"ollama": ollama})
    refused = await begin(served.http, lines() + b"\n" + lines(custom_id="b", body={**CHAT, "model": model}))
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["param"]) == (404, code, "line 2: model")
    assert error["message"].startswith("Line 2 of the input file: ") and says in error["message"]
    assert (await served.queue.list("default")).jobs == []


async def test_a_page_begins_after_a_batch_there_is(served: Served) -> None:
    refused = await served.http.get("/v1/batches?after=zz")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "after")


@pytest.mark.parametrize(
    ("data", "headers", "status"),
    [
        (b"--x\r\n", {"Content-Type": "multipart/form-data"}, 400),
        (b"no form", {"Content-Type": "multipart/form-data; boundary=x"}, 400),
        (HALF_A_FORM, {"Content-Type": "multipart/form-data; boundary=x"}, 400),
        (ODD_NAME, {"Content-Type": "multipart/form-data; boundary=x"}, 400),
        (b"{}", {"Content-Type": "application/json"}, 415),
        (b"", {}, 415),
    ],
)  # fmt: skip
async def test_what_is_no_form_is_refused(served: Served, data: bytes, headers: dict[str, str], status: int) -> None:
    refused = await served.http.post("/v1/files", content=data, headers=headers)
    assert refused.status_code == status
    assert refused.json()["error"]["message"]


async def test_a_form_without_its_fields_is_refused_by_their_names(served: Served) -> None:
    other = await send(served.http, lines(), purpose="fine-tune")
    assert (other.status_code, other.json()["error"]["param"]) == (400, "purpose")
    empty = await send(served.http, b"")
    assert (empty.status_code, empty.json()["error"]["param"]) == (400, "file")


async def test_a_page_of_another_origin_sends_no_file(served: Served, start_gateway: StartGateway) -> None:
    """A browser would let it: a form needs no leave."""
    evil = {"Origin": "https://evil.example"}
    assert (await send(served.http, lines(), evil)).status_code == 415
    listed = await start_gateway(cors_allowed_origins=["https://app.example"])
    assert (await send(listed.http, lines(), evil)).status_code == 415
    assert (await send(listed.http, lines(), {"Origin": "https://app.example"})).status_code == 200


async def test_files_are_bounded_one_by_one_and_together(start_gateway: StartGateway) -> None:
    served = await start_gateway(max_batch_file_bytes=2000, max_tenant_file_bytes=3000)
    assert (await send(served.http, b"x" * 2001)).status_code == 413
    first = (await send(served.http, b"x" * 2000)).json()
    full = await send(served.http, b"x" * 2000)
    assert (full.status_code, full.json()["error"]["code"]) == (429, "files_full")
    await served.http.delete(f"/v1/files/{first['id']}")
    assert (await send(served.http, b"x" * 2000)).status_code == 200


async def test_a_large_file_comes_back_whole(start_gateway: StartGateway) -> None:
    served = await start_gateway()
    data = bytes(range(256)) * 4096 + b"end"
    file = (await send(served.http, data)).json()
    assert file["bytes"] == len(data)
    assert (await served.http.get(f"/v1/files/{file['id']}/content")).content == data


async def test_a_redis_without_room_says_so(start_gateway: StartGateway) -> None:
    with RedisServer(("--maxmemory", "6mb", "--maxmemory-policy", "noeviction")) as server:
        served = await start_gateway(redis_url=server.url)
        answers = [await send(served.http, b"x" * 2_000_000) for _ in range(4)]
        full = answers[-1]
        assert (full.status_code, full.json()["error"]["code"]) == (503, "memory_pressure")
        assert full.headers["Retry-After"]
        await served.gateway.stop()


async def test_a_file_ends_with_its_time(start_gateway: StartGateway) -> None:
    served = await start_gateway(batch_file_ttl=60)
    file = (await send(served.http, lines())).json()
    assert file["expires_at"] - file["created_at"] == 60
    keys = served.queue.keys
    for key in (keys.files("default"), keys.file("default", file["id"])):
        assert 0 < await served.queue.redis.ttl(key) <= 60


@pytest.mark.req("S0-50")
async def test_files_and_batches_are_their_tenant_s_alone(served: Served, worker: HandWorker) -> None:
    store = as_key_store(served.queue.redis)
    mine, theirs = [
        {"Authorization": f"Bearer {(await create_key(store, 'gw', tenant=tenant, role=Role.INFERENCE))[0]}"}
        for tenant in ("llamas", "alpacas")
    ]
    batch = (await begin(served.http, lines(), mine)).json()
    file_id, batch_id = batch["input_file_id"], batch["id"]
    for path in (f"/v1/files/{file_id}", f"/v1/files/{file_id}/content", f"/v1/batches/{batch_id}",
                 f"/v1/files/file-output-{batch_id[6:]}/content"):  # fmt: skip
        assert (await served.http.get(path, headers=theirs)).status_code == 404
    assert (await served.http.post(f"/v1/batches/{batch_id}/cancel", headers=theirs)).status_code == 404
    assert (await served.http.delete(f"/v1/files/{file_id}", headers=theirs)).status_code == 404
    assert (await served.http.get("/v1/batches", headers=theirs)).json()["data"] == []
    assert (await served.http.get("/v1/files", headers=theirs)).json()["data"] == []
    body = {"input_file_id": file_id, "endpoint": URL, "completion_window": "24h"}
    assert (await served.http.post("/v1/batches", json=body, headers=theirs)).status_code == 404


@pytest.mark.req("C20")
async def test_a_private_batch_is_private_in_each_of_its_jobs(served: Served) -> None:
    batch = await begin(served.http, lines(2), {"x-arriero-private": "true"})
    assert batch.status_code == 200
    jobs = (await served.http.get("/v1/jobs")).json()["data"]
    assert [job["route"]["local_only"] for job in jobs] == [True, True]


async def test_what_finds_no_room_is_told_in_the_file_of_errors(
    start_gateway: StartGateway, wait_until: WaitUntil, redis_url: str, worker: HandWorker
) -> None:
    served = await start_gateway(max_queue_depth=5)  # low priority: four
    worker.engine.allow_pick_jobs = False
    batch = (await begin(served.http, lines(6))).json()
    refused = batch["request_counts"]["failed"]
    assert refused in (1, 2)
    worker.engine.allow_pick_jobs = True

    async def is_over() -> bool:
        return bool((await served.http.get(f"/v1/batches/{batch['id']}")).json()["completed_at"])

    await wait_until(is_over)
    done = (await served.http.get(f"/v1/batches/{batch['id']}")).json()
    errors = (await served.http.get(f"/v1/files/{done['error_file_id']}/content")).text.splitlines()
    assert len(errors) == refused
    assert json.loads(errors[0])["response"]["status_code"] == 429
    assert json.loads(errors[0])["response"]["body"]["error"]["code"] == "queue_full"


async def test_a_repetition_with_its_key_is_the_same_batch(served: Served, worker: HandWorker) -> None:
    file = (await send(served.http, lines(2))).json()
    body = {"input_file_id": file["id"], "endpoint": URL, "completion_window": "24h"}
    keyed = {"Idempotency-Key": "tonight"}
    first, again = [(await served.http.post("/v1/batches", json=body, headers=keyed)).json() for _ in range(2)]
    assert first["id"] == again["id"]
    assert len((await served.http.get("/v1/jobs")).json()["data"]) == 2
    other = await served.http.post("/v1/batches", json={**body, "metadata": {"a": "b"}}, headers=keyed)
    assert other.status_code == 422


async def test_an_output_is_there_once_the_batch_is_over_and_cannot_be_deleted(
    served: Served, worker: HandWorker, wait_until: WaitUntil
) -> None:
    batch = (await begin(served.http, lines())).json()

    async def is_over() -> bool:
        return (await served.http.get(f"/v1/batches/{batch['id']}")).json()["output_file_id"] is not None

    await wait_until(is_over)
    done = (await served.http.get(f"/v1/batches/{batch['id']}")).json()
    assert (await served.http.delete(f"/v1/files/{done['output_file_id']}")).status_code == 400
    for nothing in ("file-output-" + "0" * 32, "file-xyz", "batch_" + "0" * 32):
        assert (await served.http.get(f"/v1/files/{nothing}/content")).status_code == 404


@pytest.mark.parametrize(
    ("outcomes", "cancelling_at", "status", "counts"),
    [
        ("...", 0, "in_progress", (3, 0, 0)),
        ("s.f", 0, "in_progress", (3, 1, 1)),
        ("s.s", 5, "cancelling", (3, 2, 0)),
        ("sss", 0, "completed", (3, 3, 0)),
        ("sfl", 0, "completed", (3, 1, 2)),
        ("rrs", 0, "completed", (3, 1, 2)),
        ("sse", 0, "expired", (3, 2, 1)),
        ("scc", 5, "cancelled", (3, 1, 2)),
        ("sec", 5, "cancelled", (3, 1, 2)),
    ],
)
def test_the_status_of_a_batch(outcomes: str, cancelling_at: int, status: str, counts: tuple[int, int, int]) -> None:
    batch = Batch(
        id="batch_" + "0" * 32, tenant="t", endpoint=URL, input_file_id="file-1", metadata={}, created_at=1,
        kept_until=9, fingerprint="", custom_ids=["a", "b", "c"], refused={},
    )  # fmt: skip
    progress = Progress(outcomes, cancelling_at)
    if progress.is_over:
        progress = replace(progress, ended_at=7)
    body = batch_body(batch, progress)
    assert body["status"] == status
    assert tuple(body["request_counts"].values()) == counts
    assert bool(body["output_file_id"]) == (progress.is_over and counts[1] > 0)
    assert bool(body["error_file_id"]) == (progress.is_over and counts[2] > 0)
    ended = {word: body[f"{word}_at"] for word in ("completed", "expired", "cancelled")}
    assert {word for word, at in ended.items() if at == 7} == ({status} if progress.is_over else set())
