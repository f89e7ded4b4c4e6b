"""The pytest plugin behind `make requirements`: checks the ids in marks and notes how the marked tests ended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypedDict

import pytest

from tests.house.requirements import known_ids

OUTCOMES = Path("build", "requirement-outcomes.json")
"""Under the root: test -> `Outcome` of its last run; not committed."""
_PROPERTY = "requirement"


class Outcome(TypedDict):
    """How a test ended (passed, failed or skipped), and the requirements it is marked with."""

    ids: list[str]
    outcome: str


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    known = known_ids()
    for item in items:
        ids = [identifier for mark in item.iter_markers("req") for identifier in mark.args]
        unknown = sorted(set(ids) - known)
        if unknown:
            raise pytest.UsageError(f"{item.nodeid} names unknown requirements: {', '.join(unknown)}")
        # Properties travel in the test's reports, so this works under xdist too.
        item.user_properties.extend((_PROPERTY, identifier) for identifier in ids)


class Outcomes:
    """Gathers reports; a parametrised test passed only if every case passed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._seen: dict[str, Outcome] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        ids = sorted(str(value) for name, value in report.user_properties if name == _PROPERTY)
        if not ids or (report.passed and report.when != "call"):
            return
        test = report.nodeid.split("[", 1)[0]
        before = self._seen.get(test, Outcome(ids=[], outcome="passed"))
        worst = report.outcome if before["outcome"] == "passed" else before["outcome"]
        self._seen[test] = Outcome(ids=sorted({*ids, *before["ids"]}), outcome=worst)

    def pytest_sessionfinish(self) -> None:
        if not self._seen:
            return
        merged = read_outcomes(self._root) | self._seen
        path = self._root / OUTCOMES
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(merged, indent=1, sort_keys=True) + "\n")


def read_outcomes(root: Path) -> dict[str, Outcome]:
    """What earlier runs noted; empty before the first."""
    path = root / OUTCOMES
    if not path.exists():
        return {}
    outcomes: dict[str, Outcome] = json.loads(path.read_text())
    return outcomes


def pytest_configure(config: pytest.Config) -> None:
    # Under xdist every report also reaches the controller; the workers must not write the file as well.
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Outcomes(config.rootpath), "requirement-outcomes")
