"""The limit on calls without an API key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.rate_limit import MOST_ADDRESSES, AddressLimit, RateLimited, take
from shared.api_keys import Role, as_key_store, create_key
from tests.gateway.conftest import HandWorker, StartGateway
from tests.gateway.test_direct import error_of


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def admitted(limit: AddressLimit, address: str, calls: int) -> int:
    count = 0
    for _ in range(calls):
        try:
            limit.admit(address)
        except RateLimited:
            continue
        count += 1
    return count


@given(st.integers(1, 600), st.lists(st.floats(0, 30), max_size=80))
def test_no_minute_has_more_than_twice_the_limit_and_patience_always_pays(per_minute: int, pauses: list[float]) -> None:
    """As many as the limit at once, and then as fast as it refills."""
    clock = Clock()
    limit = AddressLimit(per_minute, now=clock)
    times = []
    for pause in pauses:
        clock.now_s += pause
        try:
            limit.admit("a")
        except RateLimited as error:
            assert error.retry_after_s is not None
            assert 0 < error.retry_after_s <= 60 / per_minute * 1.001
            clock.now_s += error.retry_after_s
            limit.admit("a")
        times.append(clock.now_s)
    for start in times:
        assert len([at for at in times if start <= at < start + 60]) <= 2 * per_minute


def test_a_call_ahead_of_its_time_waits() -> None:
    due_at, wait_s = take(0.0, 10.0, interval_s=2.0, burst=1)
    assert (due_at, wait_s) == (12.0, 0.0)
    assert take(due_at, 11.0, interval_s=2.0, burst=1) == (12.0, 1.0)
    assert take(due_at, 12.0, interval_s=2.0, burst=1) == (14.0, 0.0)


def test_addresses_have_limits_of_their_own_and_zero_is_none() -> None:
    clock = Clock()
    limit = AddressLimit(3, now=clock)
    assert admitted(limit, "127.0.0.1", 5) == 3
    assert admitted(limit, "127.0.0.2", 5) == 3
    clock.now_s += 20
    assert admitted(limit, "127.0.0.1", 5) == 1
    assert admitted(AddressLimit(0), "a", 1000) == 1000


def test_memory_is_bounded() -> None:
    limit = AddressLimit(1, now=Clock())
    for number in range(MOST_ADDRESSES + 50):
        limit.admit(f"address {number}")
    assert len(limit._due_at) == MOST_ADDRESSES


@pytest.mark.req("S0-32")
async def test_calls_without_a_key_are_limited_and_told_when_to_come_back(start_gateway: StartGateway) -> None:
    assert (await start_gateway()).gateway.settings.rate_limit_per_minute == 30
    served = await start_gateway(rate_limit_per_minute=3)
    statuses = [(await served.http.get("/workers/types")).status_code for _ in range(3)]
    assert statuses == [200, 200, 200]
    forged = {"X-Forwarded-For": "192.0.2.7"}
    for path, body in (("/generate", {"prompt": "hi", "worker_type": "local_llm"}), ("/chat", {"message": "hi"})):
        refused = await served.http.post(path, json=body, headers=forged)
        assert refused.status_code == 429
        assert error_of(refused)["error_code"] == "RATE_LIMITED"
        assert 1 <= int(refused.headers["retry-after"]) <= 20
    assert (await served.http.get("/health/ollama")).status_code == 503, "a probe is not counted"
    assert (await served.http.get("/v1/jobs")).status_code == 200, "nor are the other faces"


@pytest.mark.req("S0-32", "C22")
async def test_calls_with_a_key_are_not_counted(start_gateway: StartGateway, worker: HandWorker) -> None:
    served = await start_gateway(rate_limit_per_minute=1)
    text, _ = await create_key(as_key_store(served.queue.redis), "gw", tenant="t", role=Role.INFERENCE)
    for _ in range(4):
        answer = await served.http.get("/workers/types", headers={"Authorization": f"Bearer {text}"})
        assert answer.status_code == 200
