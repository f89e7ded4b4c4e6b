"""Whose fault a failure is."""

from __future__ import annotations

import pytest

from shared.usage.faults import is_fault
from shared.usage.figures import OperationUsage


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("backend_fault", True), ("backend_unreachable", True), ("backend_timeout", True), ("answer_incomplete", True),
        ("backend_protocol_error", True), ("backend_misconfigured", True), ("backend_error", True), ("of_2031", True),
        ("backend_busy", False), ("model_loading", False), ("backend_rejected", False), ("job_timeout", False),
    ],
)  # fmt: skip
def test_whose_fault_a_failure_is(code: str, fault: bool) -> None:
    assert is_fault(code) is fault


def test_faults_are_among_the_failures() -> None:
    usage = OperationUsage(calls=9, failures={"backend_timeout": 2, "backend_rejected": 1})
    assert (usage.failed, usage.faulted, usage.faults) == (3, 2, {"backend_timeout": 2})
