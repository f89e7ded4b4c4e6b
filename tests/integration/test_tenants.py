"""Keys and tenants: real keys, made by the command, on a gateway that demands them."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from redis import Redis

from tests.integration.processes import eventually
from tests.integration.stack import LONG, Stack, chat_body, ended, submit

REVOKED_WITHIN_S = 3.0


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with Stack() as stack:
        stack.gateway()
        stack.worker()
        stack.wait()
        yield stack


@pytest.fixture(scope="module")
def keys(stack: Stack) -> dict[str, str]:
    """Key by tenant and role."""
    wanted = [("llamas", "inference"), ("alpacas", "inference"), ("llamas", "operator"), ("llamas", "admin")]
    return {f"{tenant} {role}": stack.create_key(tenant, role)["key"] for tenant, role in wanted}


@pytest.fixture
def llama(stack: Stack, keys: dict[str, str]) -> Iterator[httpx.Client]:
    with stack.http(keys["llamas inference"]) as client:
        yield client


@pytest.fixture
def alpaca(stack: Stack, keys: dict[str, str]) -> Iterator[httpx.Client]:
    with stack.http(keys["alpacas inference"]) as client:
        yield client


@pytest.mark.usefixtures("keys")
def test_as_soon_as_a_key_exists_every_call_needs_one(stack: Stack) -> None:
    with stack.http() as nobody, stack.http("arr_no_such_key") as stranger:
        eventually(lambda: nobody.get("/v1/models").status_code == 401, 3, "keys are demanded")
        for client in (nobody, stranger):
            refused = client.post("/v1/chat/completions", json=chat_body("hi"))
            assert refused.status_code == 401
            assert refused.headers["WWW-Authenticate"] == "Bearer"
            assert refused.json()["error"]["code"] == "invalid_api_key"
            assert client.get("/health/live").status_code == 200


def test_a_tenant_s_jobs_are_not_there_for_another(llama: httpx.Client, alpaca: httpx.Client) -> None:
    job = submit(llama, chat_body("Why do llamas hum?"))
    ended(llama, job)
    unknown = alpaca.get("/v1/jobs/job_00000000000000000000000000000000")
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/events")):
        answer = alpaca.request(method, f"/v1/jobs/{job}{path}")
        assert answer.status_code == 404
        # Word for word as for a job that never was, but for the request's own id.
        ours, theirs = answer.json()["error"], unknown.json()["error"]
        assert {**ours, "request_id": ""} == {**theirs, "request_id": ""}
    assert job in [listed["id"] for listed in llama.get("/v1/jobs").json()["data"]]
    assert job not in [listed["id"] for listed in alpaca.get("/v1/jobs").json()["data"]]


def test_another_tenant_cannot_cancel(llama: httpx.Client, alpaca: httpx.Client, stack: Stack) -> None:
    job = submit(llama, chat_body(f"Count the stones {LONG}"))
    eventually(lambda: stack.simulator.calls(job), 5, "the call upstream")
    assert alpaca.delete(f"/v1/jobs/{job}").status_code == 404
    assert llama.get(f"/v1/jobs/{job}").json()["status"] == "running"
    assert llama.delete(f"/v1/jobs/{job}").status_code == 200
    assert ended(llama, job)["status"] == "cancelled"


def test_the_same_idempotency_key_of_two_tenants_is_two_jobs(llama: httpx.Client, alpaca: httpx.Client) -> None:
    headers = {"Idempotency-Key": "shared"}
    answers = [client.post("/v1/chat/completions", json=chat_body("hi"), headers=headers) for client in (llama, alpaca)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert len({answer.headers["x-arriero-job-id"] for answer in answers}) == 2


@pytest.mark.parametrize(
    ("role", "allowed", "refused"),
    [
        ("inference", ["GET /v1/models"], ["GET /metrics", "GET /admin/queue", "POST /admin/queue/clear"]),
        ("operator", ["GET /metrics", "GET /admin/queue"], ["POST /admin/queue/clear"]),
        ("admin", ["GET /metrics", "GET /admin/queue", "POST /admin/queue/clear", "GET /v1/models"], []),
    ],
)
def test_a_role_opens_its_doors_and_no_others(
    stack: Stack, keys: dict[str, str], role: str, allowed: list[str], refused: list[str]
) -> None:
    with stack.http(keys[f"llamas {role}"]) as client:
        for call in allowed:
            assert client.request(*call.split()).status_code == 200, call
        for call in refused:
            answer = client.request(*call.split())
            assert answer.status_code == 403, call
            assert answer.json()["error"]["type"] == "permission_error"


def test_a_revoked_key_is_refused(stack: Stack) -> None:
    key = stack.create_key("vicunas")
    with stack.http(key["key"]) as client:
        assert client.get("/v1/models").status_code == 200
        stack.command("keys", "revoke", key["id"], "--yes")
        eventually(lambda: client.get("/v1/models").status_code == 401, REVOKED_WITHIN_S, "the key is refused")


def test_no_key_lies_in_redis_or_in_the_log(stack: Stack, keys: dict[str, str]) -> None:
    with Redis.from_url(stack.redis.url) as redis:
        stored = b" ".join(b"".join(redis.hgetall(name).values()) for name in redis.scan_iter("gw:*:keys"))
    assert b"llamas" in stored
    for key in keys.values():
        assert key.encode() not in stored
        assert key not in stack.gateways[0].log
