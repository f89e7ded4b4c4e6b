"""Errors on the wire."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing_inputs import Ask
from shared.envelope import accepted_request_id, retry_headers
from shared.errors import BadRequest, ErrorRecord, Overloaded, QueueUnavailable
from shared.routes import Route
from tests.gateway.conftest import Served, StartGateway


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
