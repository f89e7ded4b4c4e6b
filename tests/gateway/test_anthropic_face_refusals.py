"""Anthropic's face when it says no: in the API's own form, with the API's own words."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from shared.api_keys import Role, as_key_store, create_key
from tests.gateway.conftest import CHAT, HandWorker, Served, StartGateway

ASK: dict[str, Any] = {"model": "llama3.2", "max_tokens": 64, "messages": [{"role": "user", "content": "hi"}]}
MESSAGES = "/v1/messages"


async def ask(served: Served, headers: dict[str, str] | None = None) -> httpx.Response:
    return await served.http.post(MESSAGES, json=ASK, headers=headers)


async def test_a_deadline_from_the_client(served: Served) -> None:
    response = await ask(served, {"x-arriero-deadline-seconds": "0.5"})
    assert response.status_code == 504
    assert response.json()["error"]["type"] == "timeout_error"


async def test_a_full_queue(start_gateway: StartGateway) -> None:
    served = await start_gateway(max_queue_depth=1)
    await served.http.post("/v1/chat/completions", json=CHAT, headers={"Prefer": "respond-async"})
    refused = await ask(served)
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 120
    assert refused.headers["x-should-retry"] == "true"
    assert refused.json()["error"]["type"] == "rate_limit_error"


async def test_the_key_may_come_in_either_header(served: Served, worker: HandWorker) -> None:
    text, _ = await create_key(as_key_store(served.queue.redis), "gw", tenant="t", role=Role.INFERENCE)
    for known in ({"x-api-key": text}, {"Authorization": f"Bearer {text}"}):
        assert (await ask(served, known)).status_code == 200
    record = await served.queue.get(worker.ran[0])
    assert record is not None and record.tenant == "t"
    strangers: list[Any] = [
        {},
        {"x-api-key": "arr_wrong"},
        {"x-api-key": ""},
        {"Authorization": "Bearer arr_wrong", "x-api-key": text},
        [("x-api-key", text), ("x-api-key", text)],
    ]
    for stranger in strangers:
        refused = await served.http.post(MESSAGES, json=ASK, headers=stranger)
        assert refused.status_code == 401
        assert refused.json()["error"]["type"] == "authentication_error"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "kind", "says"),
    [
        ("POST", MESSAGES, b"", 400, "invalid_request_error", "empty"),
        ("POST", MESSAGES, b"{", 400, "invalid_request_error", "not valid JSON"),
        ("POST", MESSAGES, b"{}", 400, "invalid_request_error", "`model`"),
        ("POST", MESSAGES, b'{"model":"m","messages":[]}', 400, "invalid_request_error", "`max_tokens`"),
        ("POST", MESSAGES, b" " * 2000, 413, "request_too_large", "larger"),
        ("GET", MESSAGES, b"", 405, "invalid_request_error", "POST"),
        ("POST", MESSAGES + "/count_tokens", b"{}", 404, "not_found_error", "not counted"),
        ("GET", MESSAGES + "/batches", b"", 404, "not_found_error", "Unknown path"),
    ],
)
async def test_every_refusal_has_the_apis_form(
    start_gateway: StartGateway, method: str, path: str, body: bytes, status: int, kind: str, says: str
) -> None:
    served = await start_gateway(max_body_bytes=1024)
    sent = {"Content-Type": "application/json"}
    response = await served.http.request(method, path, content=body, headers=sent)
    assert response.status_code == status
    told = response.json()
    assert (told["type"], told["error"]["type"]) == ("error", kind)
    assert says in told["error"]["message"]
    assert told["request_id"] == response.headers["request-id"]


async def test_other_paths_keep_their_own_form(served: Served) -> None:
    response = await served.http.get("/v1/messagesx")
    assert response.json()["error"]["code"] == "route_not_found"
    assert "type" not in response.json()
    assert "request-id" not in response.headers
