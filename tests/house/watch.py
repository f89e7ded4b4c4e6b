"""`make test-watch`: runs the tests again whenever a source file changes, those that failed last time first."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from tests.house.requirements import ROOT
from tests.house.tree import PACKAGES

WATCHED = (*PACKAGES, "tests")
SUFFIXES = frozenset({".py", ".lua", ".txt", ".toml"})
LOOK_EVERY_S = 1.0


def snapshot(root: Path = ROOT) -> dict[Path, float]:
    """Every watched file and when it last changed."""
    files = [path for name in WATCHED for path in (root / name).rglob("*") if path.suffix in SUFFIXES]
    files.append(root / "pyproject.toml")
    # A file may go between listing and looking.
    return {path: path.stat().st_mtime for path in files if path.exists()}


def main(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "pytest", "-m", "not slow", "--failed-first", "--exitfirst", *arguments]
    seen: dict[Path, float] = {}
    while True:
        now = snapshot()
        if now != seen:
            # Taken before the run, so that a change made while the tests run is not missed.
            seen = now
            subprocess.run(command, cwd=ROOT, check=False)
            print("Watching; Ctrl-C ends it.", flush=True)
        time.sleep(LOOK_EVERY_S)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
