"""What the queue is told of a run, by what its function raised."""

from __future__ import annotations

import pytest
from arq.worker import Retry

from shared.errors import BackendUnreachable, JobExpired
from shared.queue.endings import CRASHED, NO_ERROR, ending_of
from shared.queue.running import HandBack, RetryLater, Verdict


@pytest.mark.parametrize(
    ("error", "verdict", "code", "delay_s"),
    [
        (RetryLater(BackendUnreachable(), 2.5), Verdict.RETRIED, "backend_unreachable", 2.5),
        (Retry(defer=3), Verdict.RETRIED, "internal_error", 3.0),
        (JobExpired(), Verdict.EXPIRED, "job_timeout", 0.0),
        (BackendUnreachable(), Verdict.DEAD_LETTERED, "backend_unreachable", 0.0),
        (HandBack(1.5), Verdict.RELEASED, "", 1.5),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_each_way_to_end(error: Exception, verdict: Verdict, code: str, delay_s: float) -> None:
    ending = ending_of(error)
    assert ending.error is not None
    assert (ending.verdict, ending.error.code, ending.delay_s) == (verdict, code, delay_s)
    assert ending.handed_back_for is None


def test_a_hand_back_with_a_reason_is_no_error_but_is_noted() -> None:
    ending = ending_of(HandBack(2.0, "backend_busy"))
    assert ending.error == NO_ERROR
    assert ending.handed_back_for is not None
    assert (ending.handed_back_for.code, ending.handed_back_for.retry_after_s) == ("backend_busy", 2.0)


def test_what_no_function_may_raise_sets_the_job_aside() -> None:
    assert ending_of(ZeroDivisionError()) is CRASHED
    assert CRASHED.verdict is Verdict.DEAD_LETTERED
