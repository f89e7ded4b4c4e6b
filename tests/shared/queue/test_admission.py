"""What a refused caller is told: the error, and when to come back."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.queue.admission import QueueLimits, refusal, retry_after_s
from shared.queue.scripts import names, source
from tests.house.requirements import ROOT

ACL_FILE = ROOT / "infra" / "redis" / "users.acl"
_COMMAND = re.compile(r"(?:redis\.p?call\(|in_bulk\(\w+,)\s*'([A-Z]+)'")


@pytest.mark.parametrize(
    ("places", "drain_per_s", "standstill_s", "seconds"),
    [
        (100, 20.0, 0.0, 5),
        (101, 20.0, 0.0, 6),  # whole seconds, rounded up
        (1, 50.0, 0.0, 1),
        (10_000, 1.0, 0.0, 120),
        (100, 0.0, 0.0, 5),  # nothing measured yet
        (0, 20.0, 0.0, 5),  # it is not jobs that take the room
        (100, 20.0, 4.0, 5),
        (100, 20.0, 40.0, 40),  # nothing has ended for 40 s: the rate of better days says nothing
        (100, 20.0, 4000.0, 120),
    ],
)
def test_retry_after(places: float, drain_per_s: float, standstill_s: float, seconds: int) -> None:
    assert retry_after_s(places, drain_per_s, standstill_s=standstill_s) == seconds


@given(st.floats(0, 1e12), st.floats(0, 1e9), st.floats(0, 1e9))
def test_it_is_a_whole_number_from_1_to_120(places: float, drain_per_s: float, standstill_s: float) -> None:
    wait_s = retry_after_s(places, drain_per_s, standstill_s=standstill_s)
    assert isinstance(wait_s, int)
    assert 1 <= wait_s <= 120


@given(st.floats(1, 1e6), st.floats(0.001, 1e6), st.floats(1, 100))
def test_a_faster_queue_never_asks_for_more_patience(places: float, drain_per_s: float, faster: float) -> None:
    assert retry_after_s(places, drain_per_s * faster) <= retry_after_s(places, drain_per_s)


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("queue_full", 429, "rate_limit_error"),
        ("tenant_queue_full", 429, "rate_limit_error"),
        ("queue_bytes_full", 503, "server_error"),
        ("queue_too_slow", 503, "server_error"),
        ("memory_pressure", 503, "server_error"),
        ("deadline_unreachable", 503, "server_error"),
    ],
)
def test_the_callers_share_is_429_and_the_systems_state_503(code: str, status: int, kind: str) -> None:
    error = refusal(f"#{code} 100.000 20.000 0".encode())
    assert (error.code, error.http_status, error.kind) == (code, status, kind)
    assert error.retryable
    assert error.retry_after_s == 5


def test_limits_travel_as_numbers() -> None:
    limits = QueueLimits(
        depth=10, tenant_depth=5, payload_bytes=1000, oldest_wait_s=1.5, memory_percent=80, estimates=True
    )
    assert limits.packed() == "10 5 1000 1500 80 1"
    assert QueueLimits().packed() == "0 0 0 0 0 0"


def test_the_shipped_acl_allows_every_command_of_the_scripts() -> None:
    allowed = set(re.findall(r"\+([a-z|]+)", ACL_FILE.read_text()))
    called = {call.lower() for name in names() for call in _COMMAND.findall(source(name))}
    assert len(called) > 20
    assert called - allowed == set()
