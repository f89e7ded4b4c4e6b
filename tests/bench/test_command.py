"""The command from end to end, on rows that need no peer."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.requirements import ROOT


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_it_measures_and_writes_its_pages(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.bench", "--rows", "depth,clients", "--quick", "--output", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    # 1: a bar was missed, which small sizes and a busy machine may do.
    assert done.returncode in (0, 1), done.stdout + done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bench-clients.md", "bench-depth.md"]
    page = (tmp_path / "bench-depth.md").read_text()
    assert "- Commit: " in page
    assert "| D1 | enqueue p99, one million jobs queued | ms |" in page
    assert "no figures to keep" in page
    assert "## Not measured" not in page


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_append_only_row_measures_both_sides() -> None:
    command = [sys.executable, "-m", "tests.bench", "--rows", "G6", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    for side in ("arriero", "arriero-aof"):
        figures = next(line for line in done.stdout.splitlines() if line.startswith(f"append-only 1/1 {side} "))
        assert re.findall(r"(\w+_per_s) [\d,.]+", figures) == [
            *("enqueue_per_s", "drain_per_s", "many_per_s", "chats_per_s", "intake_per_s")
        ]
