"""Circuits over HTTP: who may look, who may order, and what comes back."""

from __future__ import annotations

import jsonschema_rs
import pytest

from shared.api_keys import Role, as_key_store, create_key
from tests.gateway.conftest import Served, StartGateway

NAME = "chat:llama2@127.0.0.1:11434"


@pytest.mark.req("S1-49", "S3-28")
async def test_hold_open_look_and_reset(served: Served) -> None:
    http = served.http
    assert (await http.get("/admin/circuits")).json() == {"object": "list", "data": []}
    opened = await http.post("/admin/circuits/force-open", json={"name": NAME, "for_seconds": 120})
    assert opened.status_code == 200
    assert opened.json()["forced"] is True
    (circuit,) = (await http.get("/admin/circuits")).json()["data"]
    assert (circuit["name"], circuit["state"], circuit["changed_by"]) == (NAME, "open", "operator")
    assert 110 < circuit["retry_in_seconds"] <= 120
    for body in ({"name": NAME}, {}):
        closed = (await http.post("/admin/circuits/reset", json=body)).json()["data"]
        assert [(found["name"], found["state"]) for found in closed] == [(NAME, "closed")]


@pytest.mark.req("S3-28")
async def test_there_is_nothing_to_reset_where_nothing_opened(served: Served) -> None:
    await served.http.post("/admin/circuits/force-open", json={"name": NAME})
    answer = await served.http.post("/admin/circuits/reset", json={"name": NAME.replace("llama2", "lama2")})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (404, "circuit_not_found", "name")
    assert f"Did you mean {NAME}?" in error["message"]
    listed = (await served.http.get("/admin/circuits")).json()["data"]
    assert [circuit["name"] for circuit in listed] == [NAME], "no entry for the wrong name"


async def test_answers_are_as_described(served: Served) -> None:
    described = (await served.http.get("/openapi.json")).json()
    opened = await served.http.post("/admin/circuits/force-open", json={"name": NAME})
    listed = await served.http.get("/admin/circuits")
    for name, body in (("Circuit", opened.json()), ("CircuitList", listed.json())):
        jsonschema_rs.Draft202012Validator(
            {"$ref": f"#/components/schemas/{name}", "components": described["components"]}
        ).validate(body)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "name"),
        ({"name": "llama2"}, "name"),
        ({"name": "host:"}, "name"),
        ({"name": NAME, "for_seconds": 0}, "for_seconds"),
        ({"name": NAME, "for_seconds": 1e9}, "for_seconds"),
        ({"name": NAME, "for_seconds": "600"}, "for_seconds"),
        ({"name": NAME, "for_secs": 600}, "for_secs"),
    ],
)
async def test_what_cannot_be_ordered(served: Served, body: dict[str, object], param: str) -> None:
    answer = await served.http.post("/admin/circuits/force-open", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


async def test_a_misspelt_name_does_not_close_them_all(served: Served) -> None:
    await served.http.post("/admin/circuits/force-open", json={"name": NAME})
    answer = await served.http.post("/admin/circuits/reset", json={"nam": NAME})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "nam")
    (circuit,) = (await served.http.get("/admin/circuits")).json()["data"]
    assert circuit["state"] == "open"


async def test_roles(start_gateway: StartGateway) -> None:
    served = await start_gateway()
    keys = {
        role: (await create_key(as_key_store(served.queue.redis), "gw", tenant="t", role=role))[0]
        for role in (Role.INFERENCE, Role.OPERATOR, Role.ADMIN)
    }
    assert served.gateway.services is not None
    await served.gateway.services.keys.refresh()
    for role, may_look, may_order in (
        (Role.INFERENCE, 403, 403),
        (Role.OPERATOR, 200, 403),
        (Role.ADMIN, 200, 200),
    ):
        headers = {"Authorization": f"Bearer {keys[role]}"}
        assert (await served.http.get("/admin/circuits", headers=headers)).status_code == may_look
        for path, body in (("reset", {}), ("force-open", {"name": NAME})):
            answer = await served.http.post(f"/admin/circuits/{path}", json=body, headers=headers)
            assert answer.status_code == may_order
