"""Deadlines, idempotency keys and Prefer."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.request_options import (
    LEAST_DEADLINE_S,
    deadline_s,
    fingerprint,
    idempotency_key,
    idempotent_job_id,
    is_cache_asked_for,
    wants_no_wait,
)
from gateway.request_options import oldest_s as oldest_s_of
from shared.errors import BadRequest


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, 600),
        ({"x-arriero-deadline-seconds": "30"}, 30),
        ({"x-arriero-deadline-seconds": "5000"}, 600),
        ({"x-stainless-read-timeout": "20.5"}, 20.5),
        ({"x-stainless-read-timeout": "20", "x-arriero-deadline-seconds": "10"}, 10),
        ({"x-stainless-read-timeout": "5", "x-arriero-deadline-seconds": "10"}, 5),
        ({"x-stainless-read-timeout": "NOT_GIVEN"}, 600),
        ({"x-stainless-read-timeout": "0"}, 600),
        ({"x-stainless-read-timeout": "-1"}, 600),
        ({"x-stainless-read-timeout": "inf"}, 600),
    ],
)
def test_the_least_of_all_limits_counts(headers: dict[str, str], expected: float) -> None:
    assert deadline_s(headers, 600) == expected


@given(st.text(max_size=20), st.text(max_size=20))
def test_whatever_is_sent_the_deadline_stays_in_bounds(wish: str, hint: str) -> None:
    headers = {"x-arriero-deadline-seconds": wish, "x-stainless-read-timeout": hint}
    try:
        seconds = deadline_s(headers, 600)
    except BadRequest as error:
        assert error.param == "x-arriero-deadline-seconds"
    else:
        assert LEAST_DEADLINE_S <= seconds <= 600


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, "é", "a\x7f"])
def test_a_key_must_be_plain(key: str) -> None:
    with pytest.raises(BadRequest):
        idempotency_key({"Idempotency-Key": key})


def test_no_key_is_no_key() -> None:
    assert idempotency_key({}) is None


@given(st.text(max_size=10), st.text(max_size=10), st.text(max_size=10), st.text(max_size=10))
def test_a_job_id_stands_for_one_tenant_and_key(tenant: str, key: str, other_tenant: str, other_key: str) -> None:
    same = (tenant, key) == (other_tenant, other_key)
    if "\0" in tenant + other_tenant:
        return
    assert (idempotent_job_id(tenant, key) == idempotent_job_id(other_tenant, other_key)) == same


def test_the_order_of_fields_is_not_another_request() -> None:
    assert fingerprint("chat", {"a": 1, "b": {"c": 2, "d": 3}}) == fingerprint("chat", {"b": {"d": 3, "c": 2}, "a": 1})
    assert fingerprint("chat", {"a": [1, 2]}) != fingerprint("chat", {"a": [2, 1]})
    assert fingerprint("chat", {}) != fingerprint("completion", {})


@pytest.mark.parametrize(
    ("prefer", "expected"),
    [("respond-async", True), ("Respond-Async, wait=10", True), ("wait=5; respond-async", True), ("wait=5", False)],
)
def test_prefer(prefer: str, expected: bool) -> None:
    assert wants_no_wait({"Prefer": prefer}) is expected


@pytest.mark.parametrize(
    ("headers", "asked", "oldest_s"),
    [
        ({}, False, math.inf),
        ({"x-arriero-cache": "use"}, True, math.inf),
        ({"Cache-Control": "max-age=60"}, True, 60),
        ({"Cache-Control": "MAX-AGE=60, max-age=5"}, True, 5),
        ({"Cache-Control": "max-age=0"}, False, 0),
        ({"Cache-Control": "max-age=-1"}, False, math.inf),
        ({"Cache-Control": "max-age=soon"}, False, math.inf),
        ({"Cache-Control": "no-cache"}, False, 0),
        ({"Cache-Control": "no-cache, max-age=60"}, False, 0),
        ({"Cache-Control": "no-cache", "x-arriero-cache": "use"}, True, 0),
        ({"Cache-Control": "max-age=60", "x-arriero-cache": "use"}, True, 60),
    ],
)
def test_whether_an_earlier_answer_will_do_and_how_old(headers: dict[str, str], asked: bool, oldest_s: float) -> None:
    assert is_cache_asked_for(headers) is asked
    assert oldest_s_of(headers) == oldest_s
