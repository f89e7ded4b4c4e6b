"""The files of the house, as git sees them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.house.requirements import ROOT

PACKAGES = ("arriero", "gateway", "infra", "manager", "monitor", "shared", "worker")
NOT_OURS = frozenset({".git", ".venv", ".arriero", ".env", "build", "dist", "node_modules"})
"""What lies about but is not tracked; only asked where there is no git."""


def house_files() -> list[Path]:
    """Tracked files and new ones that git would take, relative to the root, sorted; deleted ones are left out."""
    # The clone may belong to someone else than who runs the tests (a CI volume); git would refuse to read it.
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    except (OSError, subprocess.CalledProcessError):
        # An unpacked archive, or no git here.
        return sorted(path.relative_to(ROOT) for path in _walk(ROOT))
    return sorted(path for path in {Path(name) for name in listed.split("\0") if name} if (ROOT / path).is_file())


def _walk(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        name = path.name
        if name in NOT_OURS or name.endswith((".egg-info", "_cache", "__pycache__", ".log")):
            continue
        if path.is_dir():
            yield from _walk(path)
        else:
            yield path


def product_sources() -> list[Path]:
    """Python files of the packages, relative to the root; tests are not among them."""
    return [path for path in house_files() if path.suffix == ".py" and path.parts[0] in PACKAGES]
