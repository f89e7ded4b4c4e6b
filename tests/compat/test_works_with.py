"""The page of clients says what the tests say, of the versions that are pinned now."""

from __future__ import annotations

import subprocess
import sys

from tests.compat import works_with
from tests.house.requirements import ROOT


def written() -> list[str]:
    return [line for line in works_with.PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]


def test_the_page_is_of_these_clients_in_these_versions_and_all_of_them_work() -> None:
    everything = {test: "passed" for row in works_with.rows() for test in row.shown_by.values()}
    assert written() == works_with.table(everything), "run `make compat`"


def test_each_cell_names_a_test_that_exists() -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "--quiet", "-p", "no:cacheprovider", "tests/compat"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    existing = {line.removeprefix("tests/compat/") for line in listed.stdout.splitlines()}
    assert {test for row in works_with.rows() for test in row.shown_by.values()} <= existing


def test_what_failed_or_was_left_out_does_not_read_as_working() -> None:
    row = works_with.rows()[0]
    line = works_with.table({row.shown_by["chat"]: "passed", row.shown_by["stream"]: "failed"})[2]
    assert line.split(" | ")[3:] == ["yes", "**no**", "not run", "not run", "not run |"]
