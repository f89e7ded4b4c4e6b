"""The design document against the tree: what it names is there, and what is there it names."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house.requirements import ROOT
from tests.house.tree import PACKAGES

DESIGN = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
PARTS = ("consumers", "processors", "ollama client", "models", "fallback", "monitoring", "utils", "types")
PATH = re.compile(rf"`((?:{'|'.join((*PACKAGES, 'docs', 'tests'))})(?:/[\w./]+)?)`")
UNIT_TESTS = {
    "providers": ("shared/backends/test_ollama_requests.py", "shared/backends/test_openai_compatible_requests.py",
                  "shared/backends/test_anthropic_requests.py", "shared/backends/test_mock.py"),
    "breaker moves": ("shared/resilience/test_breaker.py",),
    "classification": ("gateway/test_classifier.py", "gateway/test_routing.py"),
    "airgap": ("shared/test_egress.py", "shared/services/test_registry.py"),
    "fallback": ("worker/test_fallback.py",),
    "health": ("shared/services/test_health.py",),
    "statistics": ("gateway/test_providers.py",),
}  # fmt: skip
"""Subject -> the test modules about it, under tests/."""


def rows() -> dict[str, str]:
    """The table of parts: name -> where it is."""
    table = DESIGN.partition("| part | here |\n|---|---|\n")[2].partition("\n\n")[0]
    cells = [line.strip("| ").partition(" | ") for line in table.splitlines()]
    return {name: place for name, _, place in cells}


def names_in(module: Path) -> Iterator[str]:
    """The test functions of a file."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node.name


@pytest.mark.req("S1-103")
def test_each_usual_part_has_its_place_in_the_tree() -> None:
    found = rows()
    assert tuple(found) == PARTS
    for part, place in found.items():
        paths = PATH.findall(place)
        assert paths, part
        assert not [path for path in paths if not (ROOT / path).exists()], part


@pytest.mark.req("S3-46")
def test_the_design_speaks_of_every_package_and_of_nothing_that_is_not_there() -> None:
    paths = set(PATH.findall(DESIGN))
    assert not sorted(path for path in paths if not (ROOT / path).exists())
    assert not [package for package in PACKAGES if f"{package}/" not in DESIGN]


@pytest.mark.req("S3-46")
def test_the_design_leads_from_one_job_s_life_to_what_is_stored_and_sent() -> None:
    titles = re.findall(r"^##+ (.+)$", DESIGN, re.MULTILINE)
    wanted = ["The house", "One job's life", "States", "Keys", "Delivery", "Circuits", "Wire"]
    assert [title for title in titles if title in wanted] == wanted


@pytest.mark.req("S3-42")
@pytest.mark.parametrize("subject", UNIT_TESTS)
def test_each_subject_of_the_router_has_unit_tests(subject: str) -> None:
    for module in UNIT_TESTS[subject]:
        assert len(list(names_in(ROOT / "tests" / module))) >= 3, module
