"""Operations on models followed to their end: a progress bar on a terminal, elsewhere a line for each change."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from arriero.cli.daemons import Daemon
from arriero.cli.failures import EXIT_INTERRUPTED, CommandFailed
from arriero.models import TERMINAL

WAIT_S = 2
POLL_S = 0.3
Operation = Mapping[str, Any]


def follow(manager: Daemon, operations: Sequence[Operation]) -> list[Operation]:
    """The operations once all have ended, shown on standard error meanwhile. Interrupted, they go on without us."""
    latest = {operation["id"]: operation for operation in operations}
    shown = _Bars() if sys.stderr.isatty() else _Lines()
    with shown:
        try:
            while pending := [one for one in latest.values() if one["status"] not in TERMINAL]:
                for one in pending:
                    # Waiting for one of several would hold up the news of the others.
                    wait = str(WAIT_S) if len(pending) == 1 else "0"
                    latest[one["id"]] = manager.get(f"/models/operations/{one['id']}", wait=wait)
                    shown.show(latest[one["id"]])
                if len(pending) > 1:
                    time.sleep(POLL_S)
        except KeyboardInterrupt:
            ids = ", ".join(latest)
            raise CommandFailed(
                f"goes on by itself: {ids}; `arriero models operations` shows it, `arriero models cancel` ends it",
                EXIT_INTERRUPTED,
            ) from None
    return list(latest.values())


def title(operation: Operation) -> str:
    return f"{operation['op']} {operation['model']} on {operation['host'] or 'all hosts'}"


def step(operation: Operation) -> str:
    """What it is doing, in a word or two."""
    doing = [host["status"] for host in operation["progress"]["hosts"] if host["status"] not in ("waiting", "done")]
    return doing[0] if doing and operation["status"] == "running" else str(operation["status"])


def failure(operation: Operation) -> str:
    """Why it failed, on whichever hosts; empty if it did not."""
    if operation["error"]:
        return str(operation["error"]["message"])
    if operation["status"] != "succeeded":
        return str(operation["status"])
    hosts = (operation["result"] or {}).get("hosts", ())
    return "; ".join(f"{one['host']}: {one['reason']}" for one in hosts if one["outcome"] == "failed")


class _Bars:
    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            DownloadColumn(binary_units=True),
            TimeRemainingColumn(),
            TextColumn("{task.fields[step]}", markup=False),
            console=Console(stderr=True),
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> None:
        self._progress.start()

    def __exit__(self, *exc_info: object) -> None:
        self._progress.stop()

    def show(self, operation: Operation) -> None:
        done = operation["progress"]
        if operation["id"] not in self._tasks:
            self._tasks[operation["id"]] = self._progress.add_task(title(operation), total=None, step="")
        self._progress.update(
            self._tasks[operation["id"]],
            completed=done["completed"],
            # Without bytes the bar pulses until the end.
            total=done["total"] or (1 if operation["status"] in TERMINAL else None),
            step=step(operation),
        )


class _Lines:
    def __init__(self) -> None:
        self._said: dict[str, str] = {}

    def __enter__(self) -> None:
        """Nothing to set up."""

    def __exit__(self, *exc_info: object) -> None:
        """Nothing to clear away."""

    def show(self, operation: Operation) -> None:
        percent = operation["progress"]["percent"]
        # In tenths: a line for each per cent of a large download would fill a log.
        text = step(operation) + (f", {percent // 10 * 10:.0f} %" if percent is not None else "")
        if self._said.get(operation["id"]) != text:
            self._said[operation["id"]] = text
            sys.stderr.write(f"{title(operation)}: {text}\n")
            sys.stderr.flush()
