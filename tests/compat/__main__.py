"""`make compat`: run all tests with other people's clients, write what works to docs/works-with.md.

Arguments go to pytest. The exit status is pytest's.
"""

from __future__ import annotations

import sys

import pytest

from tests.house.requirements import ROOT

FOLDER = "tests/compat/"


class Outcomes:
    """A pytest plugin that remembers how each test ended, by its id below tests/compat: passed, failed or skipped."""

    def __init__(self) -> None:
        self.by_test: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # A failure before or after the test itself is one, too.
        if report.when == "call" or report.outcome != "passed":
            self.by_test[report.nodeid.removeprefix(FOLDER)] = report.outcome


def main() -> int:
    outcomes = Outcomes()
    # Without the tests of the page itself, which is written afterwards.
    own = f"--ignore={FOLDER}test_works_with.py"
    status = pytest.main([FOLDER, f"--rootdir={ROOT}", own, *sys.argv[1:]], plugins=[outcomes])
    # Only now: pytest wants to rewrite the assertions of what it imports before anybody else does.
    from tests.compat.works_with import PAGE, page

    if status in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        PAGE.write_text(page(outcomes.by_test), encoding="utf-8")
        print(f"Written to {PAGE.relative_to(ROOT)}")
    return status


if __name__ == "__main__":
    sys.exit(main())
