"""Requirement tracing: the data, the marks, the page, and the note of how tests ended."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house import trace
from tests.house.requirements import ROOT, Requirement, known_ids, marked_tests, requirements
from tests.house.tracing import OUTCOMES, Outcome

A = Requirement("S0-01", "one thing", "Document S0")
B = Requirement("S0-02", "another thing", "Document S0")
C = Requirement("C1", "this against that -> this", "Decisions")


def test_the_data_holds_330_requirements_and_the_card() -> None:
    assert sum(requirement.counts for requirement in requirements()) == 330
    assert {f"D-0{number}" for number in range(1, 10)} <= known_ids()
    assert {f"C{number}" for number in range(1, 36)} <= known_ids()


def test_every_mark_in_the_tree_names_a_known_id() -> None:
    assert marked_tests().keys() <= known_ids()


def test_marks_are_read_from_functions_classes_modules_and_cases(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(
        "import pytest\n"
        "pytestmark = [pytest.mark.req('M'), pytest.mark.slow]\n"
        "@pytest.mark.req('A', 'B')\n"
        "async def test_one(): ...\n"
        "@pytest.mark.req('K')\n"
        "class TestMany:\n"
        "    @pytest.mark.parametrize('x', [pytest.param(1, marks=pytest.mark.req('P')), 2])\n"
        "    def test_two(self, x): ...\n"
        "    def made(self): ...\n"
    )
    one, two = f"{tmp_path.name}/test_some.py::test_one", f"{tmp_path.name}/test_some.py::TestMany::test_two"
    assert marked_tests(tmp_path) == {"M": [two, one], "A": [one], "B": [one], "K": [two], "P": [two]}


def test_an_id_that_is_computed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text("import pytest\n@pytest.mark.req(name)\ndef test_one(): ...\n")
    with pytest.raises(ValueError, match="line 2: write the ids"):
        marked_tests(tmp_path)


def test_the_page_shows_tests_and_gaps() -> None:
    page = trace.render([A, B, C], {"S0-01": ["tests/a/test_a.py::test_a", "tests/b/test_b.py::test_b"]})
    assert "**1 of 2 have a test.**" in page
    assert "## Document S0 (1 of 2)" in page
    assert "| S0-01 | one thing | `a/test_a.py::test_a`<br>`b/test_b.py::test_b` |" in page
    assert "| S0-02 | another thing | none yet |" in page
    assert "| C1 | this against that -> this | none yet |" in page


def test_a_requirement_passes_when_a_test_passed_and_none_failed() -> None:
    tests = {"S0-01": ["x", "y"], "S0-02": ["y"], "S1-01": ["never run"], "S1-02": ["z"]}
    outcomes = {
        "x": Outcome(ids=["S0-01"], outcome="passed"),
        "y": Outcome(ids=["S0-01", "S0-02"], outcome="failed"),
        "z": Outcome(ids=["S1-02"], outcome="skipped"),
    }
    assert trace.passing_ids(tests, outcomes) == set()
    outcomes["y"]["outcome"] = "passed"
    assert trace.passing_ids(tests, outcomes) == {"S0-01", "S0-02"}
    # Marked with another id when it ran: that run says nothing about the new one.
    outcomes["y"]["ids"] = ["S0-01"]
    assert trace.passing_ids(tests, outcomes) == {"S0-01"}


def test_the_report_counts_and_names_the_gaps() -> None:
    report = trace.report([A, B, C], {"S0-01": ["x"]}, set())
    assert report.startswith("0 of 2 requirements have a passing test (1 have a test)")
    assert "not passed yet: S0-01" in report
    assert "no test yet: S0-02" in report


def test_check_tells_a_stale_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "requirements.md"
    assert trace.main(["--check"], page=page) == 1
    assert "make requirements" in capsys.readouterr().out
    assert trace.main([], page=page) == 0
    assert trace.main(["--check"], page=page) == 0


def run_pytest(folder: Path, source: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_some.py").write_text(source)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = req(*ids)\n")
    command = [sys.executable, "-m", "pytest", "-p", "tests.house.tracing", "-p", "no:cacheprovider", str(folder)]
    return subprocess.run([*command, "--rootdir", str(folder)], cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_run_notes_how_marked_tests_ended(tmp_path: Path) -> None:
    run_pytest(
        tmp_path,
        "import pytest\n"
        "@pytest.mark.req('S0-01')\n"
        "def test_good(): pass\n"
        "@pytest.mark.req('S0-02')\n"
        "@pytest.mark.parametrize('x', [1, 0, 1])\n"
        "def test_one_case_bad(x): assert x\n"
        "@pytest.mark.req('S0-03')\n"
        "@pytest.mark.skip\n"
        "def test_left_out(): pass\n"
        "@pytest.fixture\n"
        "def leaky():\n"
        "    yield\n"
        "    raise OSError\n"
        "@pytest.mark.req('S0-04')\n"
        "def test_bad_end(leaky): pass\n"
        "def test_unmarked(): pass\n",
    )
    assert json.loads((tmp_path / OUTCOMES).read_text()) == {
        "test_some.py::test_good": {"ids": ["S0-01"], "outcome": "passed"},
        "test_some.py::test_one_case_bad": {"ids": ["S0-02"], "outcome": "failed"},
        "test_some.py::test_left_out": {"ids": ["S0-03"], "outcome": "skipped"},
        "test_some.py::test_bad_end": {"ids": ["S0-04"], "outcome": "failed"},
    }


def test_an_unknown_id_stops_the_run(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, "import pytest\n@pytest.mark.req('S9-99')\ndef test_good(): pass\n")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "names unknown requirements: S9-99" in done.stdout + done.stderr
