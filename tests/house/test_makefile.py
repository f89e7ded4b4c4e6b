"""`make help` tells every target, and what the targets name exists."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from tests.house.requirements import ROOT

TARGETS = re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)


def make(*arguments: str) -> str:
    """What make prints, as if typed in a fresh shell: under `make test` it would inherit that one's level and flags."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True, text=True).stdout


@pytest.mark.req("S1-70", "S1-71", "S1-72", "D-03", "D-04", "C15")
def test_the_wanted_targets_are_there() -> None:
    wanted = "run test test-watch coverage test-integration chaos bench lint lint-fix format typecheck docs check ci"
    wanted += " test-load models-list models-preload models-pull models-cleanup doctor top report config-check"
    wanted += " circuit-status circuit-reset circuit-open compat"
    wanted += " requirements lock env-example queue-stats queue-clear health manager monitor gateway worker simulator"
    assert set(wanted.split()) <= set(TARGETS)


def test_help_is_the_default_and_lists_every_target_once() -> None:
    listed = [line.split()[0] for line in make().splitlines()]
    assert listed == TARGETS
    assert len(set(TARGETS)) == len(TARGETS)
    assert all(len(line.split()) > 1 for line in make("help").splitlines())


@pytest.mark.parametrize("target", TARGETS)
def test_each_target_is_at_most_one_line(target: str) -> None:
    recipe = re.search(rf"^{target}:.*\n((?:\t.*\n)*)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    assert recipe[1].count("\n") <= 1


def test_a_folder_named_like_a_target_does_not_hide_it() -> None:
    # gateway/, worker/ and docs/ exist: without .PHONY make would call those targets up to date.
    assert "-m gateway" in make("--dry-run", "gateway")
    assert "config env-example" in make("--dry-run", "docs")
