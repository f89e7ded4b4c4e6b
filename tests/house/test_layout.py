"""What lies at the top, and what must not be written anywhere."""

from __future__ import annotations

import re

import pytest

from tests.house.requirements import ROOT
from tests.house.tree import PACKAGES, house_files

TOP_LEVEL = {
    *("arriero", "gateway", "infra", "manager", "monitor", "shared", "worker", "tests", "docs", "examples"),
    *("pyproject.toml", "requirements.lock", "Makefile", ".ci", ".env.example", ".gitignore"),
    *("README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "docker-compose.yml"),
}
# Put together here so that this file does not contain them itself.
MACHINE_PATHS = re.compile("|".join([f"/{name}/" for name in ("work", "root", "farm")] + [r"\.\." + "/shared"]))
BINARY = frozenset({".png", ".ico", ".woff2", ".gz"})


@pytest.mark.req("D-08")
def test_the_top_level_is_exactly_what_the_design_names() -> None:
    assert {path.parts[0] for path in house_files()} == TOP_LEVEL


def test_every_folder_of_the_product_is_a_package() -> None:
    sources = [path for path in house_files() if path.suffix == ".py" and path.parts[0] in PACKAGES]
    folders = {path.parent for path in sources}
    assert not [str(folder) for folder in folders if not (ROOT / folder / "__init__.py").exists()]


def test_no_file_is_named_for_nothing() -> None:
    empty_names = {"utils", "util", "helpers", "helper", "common", "misc"}
    assert not [str(path) for path in house_files() if path.stem in empty_names]


def test_no_path_of_the_machine_it_was_written_on() -> None:
    found = []
    for path in house_files():
        if path.suffix not in BINARY:
            lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
            found += [f"{path}:{number}" for number, line in enumerate(lines, 1) if MACHINE_PATHS.search(line)]
    assert not found
