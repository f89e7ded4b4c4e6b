"""The lock files: whole, pinned, hashed, agreeing, and silent about where packages come from."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.house.requirements import ROOT

RUNTIME = ROOT / "requirements.lock"
TESTS = ROOT / "tests" / "requirements.lock"
CLIENTS = ROOT / "tests" / "compat" / "clients" / "requirements.lock"
"""Other people's clients, in an environment of their own."""
ENTRY = re.compile(r"^([a-z0-9-]+)==(\S+)( ; [^\\]+)? \\$")
HASH = re.compile(r"^    --hash=sha256:[0-9a-f]{64}( \\)?$")


def versions(text: str) -> dict[str, str]:
    """Package -> version of a lock file's text."""
    return {found[1]: found[2] for line in text.splitlines() if (found := ENTRY.match(line))}


@pytest.mark.parametrize("path", [RUNTIME, TESTS, CLIENTS], ids=["runtime", "tests", "clients"])
def test_every_line_is_a_pin_or_a_hash(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines
    assert not [line for line in lines if not ENTRY.match(line) and not HASH.match(line)]


def test_the_tests_run_on_the_versions_that_the_services_get() -> None:
    runtime, tests = versions(RUNTIME.read_text()), versions(TESTS.read_text())
    assert runtime.items() <= tests.items()


@pytest.mark.req("D-09")
def test_what_is_declared_is_locked() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project, groups = declared["project"], declared["dependency-groups"]
    runtime, tests = versions(RUNTIME.read_text()), versions(TESTS.read_text())
    assert _names([*project["dependencies"], *groups["setup"]]) <= runtime.keys()
    assert all(_names(extra) <= tests.keys() for extra in project["optional-dependencies"].values())
    card = {"arq", "redis", "httpx", "pydantic", "aiohttp", "prometheus-client", "psutil", "nvidia-ml-py", "tenacity"}
    assert card | {"structlog"} <= runtime.keys()
    assert {"pytest", "fakeredis"} <= tests.keys()


def test_the_clients_that_are_tried_are_locked() -> None:
    declared = [line for line in CLIENTS.with_suffix(".in").read_text().splitlines() if not line.startswith("#")]
    assert _names(declared) <= versions(CLIENTS.read_text()).keys()


def _names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=~! ;]", requirement, maxsplit=1)[0] for requirement in requirements}
