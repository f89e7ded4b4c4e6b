"""What a page of results says of the run itself: machine, versions, commit."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from tests.bench.catalogue import PEERS
from tests.bench.runner import Results
from tests.house.requirements import ROOT

OURS = ("redis", "hiredis", "aiohttp", "httpx", "msgspec", "uvloop")
"""Libraries whose speed is ours."""

_APART = "; row G6 on two servers of its own, one with an append-only file, everysec"


@dataclass(slots=True, frozen=True, kw_only=True)
class Facts:
    """`lines` are (name, text) for a list; `stamp` is what a plot says below itself."""

    lines: tuple[tuple[str, str], ...]
    stamp: str


def gather(results: Results, *, runs: int, quick: bool, append_only: bool, load: float, peers: Iterable[str]) -> Facts:
    """`load` was the machine's when the run began, `peers` are the packages it used."""
    date, commit = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), _commit()
    python = f"{platform.python_implementation()} {platform.python_version()}"
    lines = {
        "Date": date,
        "Commit": commit,
        "Machine": f"{platform.system()} {platform.machine()}, {_processor()}{os.cpu_count()} CPUs, {_memory_gb():.0f} "
        f"GB, load {load:.1f} at the start",
        "Python": f"{python}; {', '.join(f'{name} {version(name)}' for name in OURS)}",
        "Node": _output(["node", "--version"]) or "none",
        "Redis": f"{results.redis_version}, {'append-only file, everysec' if append_only else 'without persistence'}, "
        f"loopback{_APART if 'append-only' in results.values else ''}",
        "Peers": ", ".join(PEERS[name].packages[0] for name in PEERS if name in set(peers)) or "none",
        "Runs": f"{runs} of small sizes, to try it: no figures to keep" if quick else f"{runs}, medians",
    }
    return Facts(lines=tuple(lines.items()), stamp=f"{date}, commit {commit}, {os.cpu_count()} CPUs, medians of {runs}")


def _commit() -> str:
    commit = _output(["git", "rev-parse", "--short=12", "HEAD"]) or "unknown"
    # The page itself and other results may differ; changed sources may not pass silently.
    changed = _output(["git", "status", "--porcelain", "--", ":!docs/results"])
    return f"{commit}, {'with uncommitted changes' if changed else 'clean'}"


def _processor() -> str:
    """The processor's name and a comma, where Linux tells it."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return f"{names[0]}, " if names else ""


def _memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
