"""run.json: what a running `arriero up` tells other terminals, and the lock that keeps a second one out."""

from __future__ import annotations

import contextlib
import fcntl
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

import psutil

from arriero.settings import STATE_DIR_NAME

OWNER_ONLY = 0o700
"""Mode of directories with data, addresses and logs in them."""


@dataclass(slots=True)
class RunFile:
    """Where the parts of one running stack are. `born` are the processes' creation times, to tell a reused pid.

    `redis_url` is without a password: who starts a stack on a Redis that asks for one has it in the settings.
    """

    up_pid: int
    redis_url: str = ""
    gateway_url: str = ""
    ollama_urls: list[str] = field(default_factory=list)
    urls: dict[str, str] = field(default_factory=dict)
    pids: dict[str, int] = field(default_factory=dict)
    born: dict[str, float] = field(default_factory=dict)


def write_run_file(directory: Path, run: RunFile) -> None:
    """Replaces the file in one step: a reader sees the old or the new one, never half of it."""
    temporary = directory / "run.json.new"
    temporary.unlink(missing_ok=True)
    temporary.touch(mode=0o600)
    temporary.write_text(json.dumps(asdict(run), indent=2) + "\n")
    temporary.replace(directory / "run.json")


def read_run_file(directory: Path) -> RunFile | None:
    """None when there is none, or it is not ours."""
    try:
        return RunFile(**json.loads((directory / "run.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def running_stack(directory: Path) -> RunFile | None:
    """The stack that runs now out of `directory`, if one does."""
    run = read_run_file(directory)
    return run if run is not None and lock_is_held(directory) else None


def remove_run_file(directory: Path) -> None:
    (directory / "run.json").unlink(missing_ok=True)


def take_lock(directory: Path) -> IO[str] | None:
    """Hold the returned file open for as long as the stack runs; None when another stack holds it.

    The kernel frees it with the process, so a killed `arriero up` leaves no stale lock.
    """
    directory.mkdir(mode=OWNER_ONLY, parents=True, exist_ok=True)
    handle = (directory / "up.lock").open("a")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        return None
    return handle


def close_to_others(directory: Path) -> None:
    """Our own directory may have been made by somebody who left it open; a place the user chose stays as it is."""
    if directory.name == STATE_DIR_NAME:
        directory.chmod(OWNER_ONLY)


def lock_is_held(directory: Path) -> bool:
    if not (directory / "up.lock").exists():
        return False
    handle = take_lock(directory)
    if handle is None:
        return True
    handle.close()
    return False


def end_leftovers(run: RunFile) -> list[str]:
    """Kill what a stack that was itself killed left behind (where the kernel does not do it); returns the names."""
    ended: list[str] = []
    for name, pid in run.pids.items():
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            if abs(process.create_time() - run.born.get(name, 0.0)) < 0.1:
                process.kill()
                process.wait(timeout=3)
                ended.append(name)
    return ended


def without_password(url: str) -> str:
    """A Redis URL that says where, and not as whom: without user, password, and options but the database."""
    scheme, separator, rest = url.partition("://")
    place, _, query = rest.partition("?")
    database = next((f"?{option}" for option in query.split("&") if option.startswith("db=")), "")
    return f"{scheme}{separator}{place.rpartition('@')[2]}{database}"
