"""The results as a page: when, on what, and every figure beside its bound."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from tests.chaos.outcome import Outcome
from tests.house.redis_server import server_binary
from tests.house.requirements import ROOT

PACKAGES = ("arq", "redis", "aiohttp", "uvloop")
HEAD = """\
# Results: what survives kills, hangs and restarts

Written by `make chaos` (`python -m tests.chaos`); do not edit. Real processes on one machine: a Redis with an
append-only file, gateways, workers and the simulator. Load is half chats, a quarter streams, and submitted jobs and
embeddings for the rest.

Invariants, after every scenario: every accepted job has ended (I1), once, and its end never changed (I2); it ran at
most once, plus once for each interruption on its record (I4); every answer is the one the model gives to that very
question (I5); no lease, alarm, queue entry or payload is left (I6); counters agree with the records (I7); no process
ended that was not told to (I8). A kill of Redis leaves the machine's page cache alone: power loss is not tested here.
"""


def commit() -> str:
    """The source's commit, `+` if it was changed since; `unknown` outside of a repository."""
    try:
        head = _git("rev-parse", "--short", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def surroundings() -> str:
    """What the run rested on, in one line."""
    server = subprocess.run([server_binary(), "--version"], check=True, capture_output=True, text=True).stdout
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    python = f"Python {platform.python_version()}"
    return f"{' '.join(server.split()[:3])}, {python}, {packages}, {platform.system()}, {os.cpu_count()} cores"


def render(outcomes: Sequence[Outcome], *, seed: int, seconds: float, short: bool, head: str = HEAD) -> str:
    """The whole page."""
    rows = [
        f"| {o.scenario} | {line.what} | {line.n} | {line.figure} | {line.bound} | {line.verdict} |"
        for o in outcomes
        for line in o.lines
    ]
    legend = [f"- {o.scenario}: {o.title}" for o in outcomes]
    breaches = [f"- {o.scenario}: {breach}" for o in outcomes for breach in o.breaches]
    size = "shortened run" if short else "full run"
    facts = [
        f"- commit {commit()}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, seed {seed}, {size}, {seconds:.0f} s",
        f"- {surroundings()}",
    ]
    table = ["| scenario | what | n | figure | bound | verdict |", "|---|---|---|---|---|---|", *rows]
    parts = [head.rstrip(), "\n".join(facts), "\n".join(legend), "\n".join(table)]
    if breaches:
        parts.append("## Breaches\n\n" + "\n".join(breaches))
    return "\n\n".join(parts) + "\n"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
