"""Keys, roles and host names: who gets in, and that everyone else is told the same."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable

import pytest

from gateway.app import ROUTES, build_app
from gateway.route_table import Role
from shared.access import KeyWatch, allowed_host_names, check_host
from shared.api_keys import ApiKey, as_key_store, create_key, new_key, revoke_key
from shared.errors import Forbidden
from shared.lifecycle import ConfigFault
from tests.conftest import WaitUntil
from tests.gateway.conftest import CHAT, Served, StartGateway

MakeKey = Callable[[Role], Awaitable[dict[str, str]]]


@pytest.fixture
async def make_key(served: Served) -> MakeKey:
    async def make(role: Role) -> dict[str, str]:
        text, _ = await create_key(as_key_store(served.queue.redis), "gw", tenant="t", role=role)
        return {"Authorization": f"Bearer {text}"}

    return make


async def test_every_served_route_is_declared_and_nothing_else_is_served(served: Served) -> None:
    services = served.gateway.services
    assert services is not None
    app = build_app(services)
    declared = {(route.method, route.path) for route in ROUTES}
    found = {(route.method, route.resource.canonical) for route in app.router.routes() if route.resource is not None}
    plain = {(method, re.sub(r":[^}]+}", "}", path)) for method, path in declared}
    assert found == plain
    for route in app.router.routes():
        assert services.routes[route].role in Role


async def test_a_route_nobody_declared_does_not_exist(served: Served) -> None:
    services = served.gateway.services
    assert services is not None
    services.routes.clear()
    assert (await served.http.get("/v1/models/llama3.2")).status_code == 404


async def test_each_role_may_do_its_own(served: Served, make_key: MakeKey) -> None:
    keys = {role: await make_key(role) for role in (Role.INFERENCE, Role.OPERATOR, Role.ADMIN)}
    assert (await served.http.get("/v1/jobs", headers=keys[Role.INFERENCE])).status_code == 200
    for route in ROUTES:
        refused_to_all = not route.answers
        if "{" in route.path or route.path == "/admin/queue/clear" or refused_to_all:
            continue
        anonymous = await served.http.request(route.method, route.path, json={})
        assert (anonymous.status_code == 401) == (route.role is not Role.PUBLIC), route.path
        for role, key in keys.items():
            status = (await served.http.request(route.method, route.path, json={}, headers=key)).status_code
            assert (status == 403) == (not role.allows(route.role)), (route.path, role)
            assert status != 401
    refused = await served.http.post("/admin/queue/clear", headers=keys[Role.OPERATOR])
    assert refused.status_code == 403
    assert (await served.http.post("/admin/queue/clear", headers=keys[Role.ADMIN])).json()["cancelled"] == 0


async def test_every_wrong_key_gets_the_same_answer(served: Served, make_key: MakeKey) -> None:
    good = (await make_key(Role.ADMIN))["Authorization"]
    assert (await served.http.get("/v1/jobs", headers={"Authorization": good})).status_code == 200
    wrong = [
        None,
        "",
        "Bearer",
        "Basic dTpw",
        "Bearer sk-whatever",
        good[:-1] + ("0" if good[-1] != "0" else "1"),
        good.upper(),
        good + "x",
        "Bearer " + "k" * 7000,
        "Bearer " + new_key(tenant="t", role=Role.ADMIN, now=0.0)[0],
    ]
    bodies = set()
    for value in wrong:
        response = await served.http.get("/v1/jobs", headers={} if value is None else {"Authorization": value})
        assert response.status_code == 401, value
        assert response.headers["www-authenticate"] == "Bearer"
        error = response.json()["error"]
        del error["request_id"]
        bodies.add(str(error))
    assert len(bodies) == 1
    twice = [("Authorization", good), ("Authorization", good)]
    assert (await served.http.get("/v1/jobs", headers=twice)).status_code == 401
    in_query = await served.http.get("/v1/jobs", params={"api_key": good.removeprefix("Bearer ")})
    assert in_query.status_code == 401


async def test_a_revoked_key_ends_within_two_seconds(served: Served, wait_until: WaitUntil) -> None:
    store = as_key_store(served.queue.redis)
    text, record = await create_key(store, "gw", tenant="t", role=Role.INFERENCE)
    await create_key(store, "gw", tenant="t", role=Role.INFERENCE)
    headers = {"Authorization": f"Bearer {text}"}
    assert (await served.http.get("/v1/jobs", headers=headers)).status_code == 200
    assert await revoke_key(store, "gw", record.id)

    async def refused() -> bool:
        return (await served.http.get("/v1/jobs", headers=headers)).status_code == 401

    await wait_until(refused, 2.2, description="key refused")


async def test_an_expired_key_is_refused(served: Served) -> None:
    store = as_key_store(served.queue.redis)
    text, _ = await create_key(store, "gw", tenant="t", role=Role.INFERENCE, expires_in_s=0.6)
    headers = {"Authorization": f"Bearer {text}"}
    assert (await served.http.get("/v1/jobs", headers=headers)).status_code == 200
    await asyncio.sleep(0.7)
    assert (await served.http.get("/v1/jobs", headers=headers)).status_code == 401


async def test_the_known_keys_go_on_serving_without_redis() -> None:
    text, record = new_key(tenant="t", role=Role.ADMIN, now=0.0)
    reads = 0

    async def read() -> list[ApiKey]:
        nonlocal reads
        reads += 1
        if reads > 1:
            raise ConnectionError("gone")
        return [record]

    watch = KeyWatch(read)
    await watch.start()
    try:
        await watch.refresh()
        assert await watch.recognise(text) == record
        other, _ = new_key(tenant="t", role=Role.ADMIN, now=0.0)
        await asyncio.gather(*(watch.recognise(other) for _ in range(50)))
        assert reads <= 3, "unknown keys cannot make the gateway hammer Redis"
    finally:
        await watch.stop()


async def test_without_keys_other_machines_are_not_served(start_gateway: StartGateway) -> None:
    with pytest.raises(ConfigFault, match="arriero keys create"):
        await start_gateway(gateway_host="0.0.0.0")


async def test_with_a_key_other_machines_are_served_but_not_for_nothing(
    served: Served, start_gateway: StartGateway
) -> None:
    text, _ = await create_key(as_key_store(served.queue.redis), "gw", tenant="t", role=Role.INFERENCE)
    public = await start_gateway(gateway_host="0.0.0.0")
    assert (await public.http.get("/v1/jobs")).status_code == 401
    assert (await public.http.get("/docs")).status_code == 404, "the documentation page is for loopback"
    named = {"Authorization": f"Bearer {text}", "Host": "gateway.example"}
    assert (await public.http.get("/v1/jobs", headers=named)).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", ""])
async def test_a_rebound_name_is_refused_on_loopback(served: Served, host: str) -> None:
    response = await served.http.post("/v1/chat/completions", json=CHAT, headers={"Host": host})
    assert response.status_code in (400, 403)
    assert (await served.queue.list("default")).jobs == []


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1", "[::1]:8000", "localhost.", "my.name"])
def test_local_names_are_let_in(host: str) -> None:
    check_host(host, allowed_host_names(["My.Name"], "127.0.0.1"))


def test_other_names_are_not() -> None:
    with pytest.raises(Forbidden):
        check_host("other", allowed_host_names([], "127.0.0.1"))


async def test_identity_comes_from_the_key_alone(served: Served, make_key: MakeKey) -> None:
    key = await make_key(Role.INFERENCE)
    spoof = {**key, "X-Tenant": "other", "X-Forwarded-For": "127.0.0.1", "X-User": "root", "Prefer": "respond-async"}
    job = (await served.http.post("/v1/chat/completions", json=CHAT, headers=spoof)).json()
    record = await served.queue.get(job["id"])
    assert record is not None
    assert record.tenant == "t"


async def test_no_origin_is_invited(served: Served) -> None:
    response = await served.http.options(
        "/v1/chat/completions", headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    )
    assert response.status_code == 405
    assert not [name for name in response.headers if name.startswith("access-control")]
