"""Dead letters over HTTP: who may, what is shown, running again, forgetting."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from jsonschema_rs import Draft202012Validator

from shared.api_keys import Role, as_key_store, create_key
from shared.errors import BackendFault
from shared.queue.running import RunningJob
from tests.conftest import WaitUntil
from tests.gateway.conftest import CHAT, HandWorker, Served, hello

PATH = "/admin/dead-letters"
Bury = Callable[..., Awaitable[str]]


async def fail(job: RunningJob) -> bytes:
    raise BackendFault("the runner broke")


@pytest.fixture
def bury(served: Served, worker: HandWorker, wait_until: WaitUntil) -> Bury:
    """Submit a job that fails for good; its id. Afterwards jobs succeed again."""

    async def bury(**more: Any) -> str:
        worker.script = fail
        body = {"type": "chat.completion", "request": CHAT, "metadata": {"user": "alice"}, **more}
        job_id = (await served.http.post("/v1/jobs", json=body)).json()["id"]
        ended = await served.http.get(f"/v1/jobs/{job_id}?wait=10")
        assert ended.json()["status"] == "dead_lettered"
        worker.script = hello
        return str(job_id)

    return bury


async def fits(served: Served, name: str, body: Any) -> None:
    """Hold an answer to its description."""
    schemas = (await served.http.get("/openapi.json")).json()["components"]["schemas"]
    Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": {"schemas": schemas}}).validate(body)


@pytest.mark.req("S1-11")
async def test_list_and_show(served: Served, bury: Bury) -> None:
    ids = [await bury() for _ in range(3)]

    page = (await served.http.get(PATH, params={"limit": 2})).json()
    rest = (await served.http.get(PATH, params={"cursor": page["next_cursor"]})).json()
    assert [item["id"] for item in page["data"] + rest["data"]] == ids[::-1]
    assert (page["has_more"], rest["has_more"]) == (True, False)
    await fits(served, "DeadLetterList", page)

    one = (await served.http.get(f"{PATH}/{ids[0]}")).json()
    assert (one["reason"], one["error"]["message"], one["tenant"]) == ("backend_fault", "the runner broke", "default")
    assert [attempt["outcome"] for attempt in one["attempts"]] == ["failed"]
    assert one["request"]["messages"][0]["content"] == "(2 characters)"
    assert one["metadata"] == {"user": "(5 characters)"}
    await fits(served, "DeadLetterDetail", one)
    whole = (await served.http.get(f"{PATH}/{ids[0]}", params={"content": "true"})).json()
    assert (whole["request"]["messages"][0]["content"], whole["metadata"]) == ("hi", {"user": "alice"})

    for wanted, count in (({"reason": "backend_fault"}, 3), ({"model": "other"}, 0), ({"tenant": "default"}, 3)):
        assert len((await served.http.get(PATH, params=wanted)).json()["data"]) == count
    assert (await served.http.get(PATH, params={"since": str(one["finished_at"] + 3600)})).json()["data"] == []
    assert "arriero_dead_letter_jobs 3.0" in (await served.http.get("/metrics")).text


@pytest.mark.parametrize(
    ("method", "path", "body", "param"),
    [
        ("GET", f"{PATH}?cursor=7", None, "cursor"),
        ("GET", f"{PATH}?limit=0", None, "limit"),
        ("GET", f"{PATH}?since=nan", None, "since"),
        ("GET", f"{PATH}?tennant=alice", None, "tennant"),
        ("GET", f"{PATH}/job_1?contents=true", None, "contents"),
        ("POST", f"{PATH}/job_1/replay", {"model": "mistral"}, "model"),
        ("POST", f"{PATH}:purge", {"match": "all", "dry_run": True}, "dry_run"),
        ("POST", f"{PATH}:replay", {"match": "all", "per_secnd": 1}, "per_secnd"),
        ("POST", f"{PATH}:replay", {}, "match"),
        ("POST", f"{PATH}:replay", {"match": {}}, "match"),
        ("POST", f"{PATH}:replay", {"match": "all", "per_second": -1}, "per_second"),
        ("POST", f"{PATH}:replay", {"match": "all", "on_model": "../etc"}, "on_model"),
        ("POST", f"{PATH}:purge", {"match": True}, "match"),
        ("POST", f"{PATH}:purge", {"match": {"tenent": "a"}}, "match.tenent"),
        ("POST", f"{PATH}:purge", {"match": {"since": "yesterday"}}, "match.since"),
    ],
)
async def test_bad_requests_name_the_field(
    served: Served, method: str, path: str, body: dict[str, Any] | None, param: str
) -> None:
    refused = await served.http.request(method, path, json=body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


async def test_what_is_no_dead_letter_is_404(served: Served) -> None:
    for method, path in (("GET", ""), ("POST", "/replay"), ("DELETE", "")):
        for job_id in ("job_unknown", "job%00", "x" * 100):
            answer = await served.http.request(method, f"{PATH}/{job_id}{path}", json={})
            assert answer.status_code == 404, (method, job_id)
            assert answer.json()["error"]["code"] == "dead_letter_not_found"


@pytest.mark.req("S1-11")
async def test_a_replay_runs_it_once_more(served: Served, bury: Bury, worker: HandWorker) -> None:
    old = await bury()

    replayed = (await served.http.post(f"{PATH}/{old}/replay", json={"on_model": "mistral"})).json()

    await fits(served, "DeadLetterReplayed", replayed)
    new = (await served.http.get(f"/v1/jobs/{replayed['id']}?wait=10")).json()
    assert (new["status"], new["model"]) == ("succeeded", "mistral")
    again = (await served.http.post(f"{PATH}/{old}/replay", json={})).json()
    assert (again["id"], again["before"], replayed["before"]) == (new["id"], True, False)
    assert (await served.http.get(f"{PATH}/{old}")).json()["replayed_as"] == new["id"]
    assert (await served.http.get(f"/v1/jobs/{old}")).json()["status"] == "dead_lettered"
    assert len(worker.ran) == 2


async def test_replaying_and_purging_by_filter(served: Served, bury: Bury) -> None:
    ids = {await bury() for _ in range(3)}

    done = (
        await served.http.post(f"{PATH}:replay", json={"match": {"reason": "backend_fault"}, "per_second": 1000})
    ).json()
    await fits(served, "DeadLettersReplayed", done)
    assert {each["replay_of"] for each in done["data"]} == ids
    for each in done["data"]:
        assert (await served.http.get(f"/v1/jobs/{each['id']}?wait=10")).json()["status"] == "succeeded"
    assert (await served.http.post(f"{PATH}:replay", json={"match": "all"})).json()["data"] == []

    one = ids.pop()
    purged = await served.http.delete(f"{PATH}/{one}")
    await fits(served, "DeadLettersPurged", purged.json())
    assert (await served.http.get(f"/v1/jobs/{one}")).status_code == 404
    assert (await served.http.post(f"{PATH}:purge", json={"match": {"model": "other"}})).json()["purged"] == 0
    assert (await served.http.post(f"{PATH}:purge", json={"match": "all"})).json()["purged"] == 2
    assert (await served.http.get(PATH)).json()["data"] == []


async def test_operators_look_and_admins_act(served: Served, bury: Bury) -> None:
    old = await bury()
    store = as_key_store(served.queue.redis)
    keys = {}
    for role in (Role.INFERENCE, Role.OPERATOR, Role.ADMIN):
        text, _ = await create_key(store, "gw", tenant="t", role=role)
        keys[role] = {"Authorization": f"Bearer {text}"}
    calls = [
        ("GET", PATH, Role.OPERATOR),
        ("GET", f"{PATH}/{old}", Role.OPERATOR),
        ("GET", f"{PATH}/{old}?content=true", Role.ADMIN),
        ("POST", f"{PATH}/{old}/replay", Role.ADMIN),
        ("POST", f"{PATH}:replay", Role.ADMIN),
        ("POST", f"{PATH}:purge", Role.ADMIN),
        ("DELETE", f"{PATH}/{old}", Role.ADMIN),
    ]
    for method, path, needed in calls:
        body = {"match": {"tenant": "nobody"}} if ":" in path else {}
        for role, key in keys.items():
            answer = await served.http.request(method, path, json=body, headers=key)
            assert (answer.status_code == 403) == (not role.allows(needed)), (method, path, role)
            assert answer.status_code in (200, 403), answer.text
