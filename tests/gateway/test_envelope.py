"""Errors on the wire."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.app import ROUTES
from gateway.route_table import Role
from gateway.routing_inputs import Ask
from shared.envelope import accepted_request_id, retry_headers
from shared.errors import BadRequest, ErrorRecord, Overloaded, QueueUnavailable
from shared.routes import Route
from tests.gateway.conftest import CHAT, Served, StartGateway


@given(st.one_of(st.none(), st.floats()), st.sampled_from([429, 503]))
def test_a_client_is_told_to_wait_one_to_120_seconds(wait: float | None, status: int) -> None:
    if wait is not None and wait != wait:
        return
    headers = retry_headers(ErrorRecord(code="c", message="m", http_status=status, retry_after_s=wait))
    assert 1 <= int(headers["Retry-After"]) <= 120
    assert 0 <= int(headers["retry-after-ms"]) <= 120_000


def test_what_cannot_succeed_later_is_not_to_be_tried_again() -> None:
    assert retry_headers(BadRequest().record()) == {"x-should-retry": "false"}
    assert retry_headers(Overloaded().record())["x-should-retry"] == "true"
    assert retry_headers(QueueUnavailable(retry_after_s=0.2).record())["retry-after-ms"] == "200"


@pytest.mark.parametrize("given", [None, "", "a b", "a\nb", "x" * 129, "<script>"])
def test_a_harmful_request_id_is_replaced(given: str | None) -> None:
    assert accepted_request_id(given).startswith("req_")


@pytest.mark.req("S0-20", "S0-23", "S0-24", "S0-27", "S0-31")
@pytest.mark.parametrize("debug", [False, True])
async def test_an_unexpected_error_tells_nothing_of_the_inside(
    start_gateway: StartGateway, capfd: pytest.CaptureFixture[str], debug: bool
) -> None:
    served = await start_gateway(debug=debug)
    await break_routing(served)
    response = await served.chat({"x-request-id": "find.me"})
    error = response.json()["error"]
    assert response.status_code == 500
    assert (error["type"], error["code"], error["request_id"]) == ("server_error", "internal_error", "find.me")
    assert response.headers["x-request-id"] == "find.me"
    for inside in ("s3cret", "Traceback", "/gateway/", ".py", "127.0.0.1"):
        assert inside not in response.text
    assert ("ZeroDivisionError" in response.text) is debug
    logged = "".join(capfd.readouterr())
    assert "find.me" in logged
    assert "ZeroDivisionError: s3cret" in logged, "the log has the stack"


async def break_routing(served: Served) -> None:
    async def broken(ask: Ask) -> Route:
        raise ZeroDivisionError("s3cret /gateway/x.py 127.0.0.1")

    services = served.gateway.services
    assert services is not None
    services.router.route = broken  # type: ignore[method-assign]  # a fault no input can cause


def test_no_order_of_an_operator_ignores_what_it_does_not_know() -> None:
    bodies = [route.body for route in ROUTES if route.body is not None and route.role in (Role.OPERATOR, Role.ADMIN)]
    assert len(bodies) > 5
    assert {body.__name__: body.model_config.get("extra") for body in bodies} == {
        body.__name__: "forbid" for body in bodies
    }


async def test_an_order_without_a_body_takes_none(served: Served) -> None:
    """Whoever sends one wants less than everything, or a trial."""
    job = {"type": "chat.completion", "request": CHAT}
    waiting = (await served.http.post("/v1/jobs", json=job)).json()["id"]
    orders = [route for route in ROUTES if route.refuses_bodies]
    assert {"/admin/queue/clear", "/admin/dead-letters/{job_id}"} <= {route.path for route in orders}
    for route in orders:
        path = route.path.partition("{provider:")[0].replace("{job_id}", waiting).replace("{model_job_id}", "op_1")
        path += "nobody" if path.endswith("/v1/providers/") else ""
        refused = await served.http.request(route.method, path, json={"tenant": "nobody"})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "tenant"), path
    large = await served.http.post("/admin/queue/clear", content=b" " * 2_000_000)
    assert large.status_code == 413 and "MAX_BODY_BYTES" in large.json()["error"]["message"]
    assert (await served.http.get(f"/v1/jobs/{waiting}")).json()["status"] == "queued"
    assert (await served.http.post("/admin/queue/clear", json={})).json()["cancelled"] == 1


@pytest.mark.parametrize("path", ["/v1/jobs?after=job_1", "/v1/jobs/job_1?wiat=1", "/jobs?status=x", "/jobs/op_1?w=1"])
async def test_our_own_lists_refuse_what_they_would_ignore(served: Served, path: str) -> None:
    refused = await served.http.get(path)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, path.partition("?")[2].partition("=")[0])
