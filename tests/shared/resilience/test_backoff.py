"""When a job is tried again: a pure decision."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import (
    ArrieroError,
    BackendBusy,
    BackendFault,
    BackendMisconfigured,
    BackendRejected,
    BackendUnreachable,
    ModelNotFound,
)
from shared.resilience.backoff import RetryPolicy, backoff_s, retry_delay_s

POLICY = RetryPolicy(tries=3, base_s=0.5, cap_s=30.0)
UNIT = st.floats(0, 1, exclude_max=True)


@pytest.mark.req("S1-10")
@pytest.mark.parametrize(("attempt", "longest"), [(1, 0.5), (2, 1.0), (3, 2.0), (7, 30.0), (5000, 30.0)])
def test_the_pause_doubles_up_to_the_cap(attempt: int, longest: float) -> None:
    assert backoff_s(attempt, base_s=0.5, cap_s=30.0, unit=1.0) == longest
    assert backoff_s(attempt, base_s=0.5, cap_s=30.0, unit=0.0) == 0.0


@given(attempt=st.integers(1, 10**6), base=st.floats(0.001, 100), cap=st.floats(0.001, 1000), unit=UNIT)
def test_the_pause_stays_between_nothing_and_the_cap(attempt: int, base: float, cap: float, unit: float) -> None:
    assert 0 <= backoff_s(attempt, base_s=base, cap_s=cap, unit=unit) <= cap


@pytest.mark.parametrize(("failures", "again"), [(0, True), (1, True), (2, False), (9, False)])
def test_three_tries_are_three(failures: int, again: bool) -> None:
    delay = retry_delay_s(BackendFault(), failures, POLICY, repeatable=True, unit=0.5)
    assert (delay is not None) is again


@pytest.mark.parametrize("error", [BackendRejected(), BackendMisconfigured(), ModelNotFound(), ArrieroError()])
def test_an_error_that_would_come_again_is_not_retried(error: ArrieroError) -> None:
    assert retry_delay_s(error, 0, POLICY, repeatable=True, unit=0.5) is None


@pytest.mark.parametrize("error", [BackendFault(), BackendBusy(), BackendUnreachable()])
def test_what_the_client_has_begun_to_read_is_not_begun_again(error: ArrieroError) -> None:
    assert retry_delay_s(error, 0, POLICY, repeatable=False, unit=0.5) is None
    assert retry_delay_s(error, 0, POLICY, repeatable=True, unit=0.5) is not None


@given(floor=st.floats(0, 1000), unit=UNIT, failures=st.integers(0, 1))
def test_what_the_backend_asked_for_is_a_floor(floor: float, unit: float, failures: int) -> None:
    delay = retry_delay_s(BackendBusy(retry_after_s=floor), failures, POLICY, repeatable=True, unit=unit)
    assert delay is not None and delay >= floor


@given(failures=st.integers(0, 50), tries=st.integers(1, 20))
def test_a_job_is_never_tried_more_often_than_the_policy_says(failures: int, tries: int) -> None:
    delay = retry_delay_s(BackendFault(), failures, RetryPolicy(tries=tries), repeatable=True, unit=0.1)
    assert (delay is not None) == (failures + 1 < tries)
