"""A log file that several processes share: appended to line by line, put aside by size, deleted by count and age.

`app.log` becomes `app.log.1`, that one `app.log.2`, and so on. A line goes out in one write to a file opened for
appending, so lines of several processes do not mix; who finds the file full moves it under a lock, and the others
notice by the file's inode that it is no longer theirs.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

LOOK_EVERY_S = 1.0
"""How often a process looks whether another one has put the file aside."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """When a file is put aside, and how long it is kept then. `max_age_s` 0: never deleted for its age."""

    max_bytes: int
    backups: int
    max_age_s: float = 0.0


def expired(ages_s: Sequence[float], rotation: Rotation) -> list[int]:
    """Places (from 0, the newest first) of the files put aside so long ago that they go, or that are too many."""
    limit_s = rotation.max_age_s or float("inf")
    return [place for place, age_s in enumerate(ages_s) if place >= rotation.backups or age_s > limit_s]


class LogFile:
    """Write lines; close it. Raises OSError when the file cannot be opened; a later fault loses lines, not jobs."""

    def __init__(self, path: Path, rotation: Rotation) -> None:
        self._path = path
        self._rotation = rotation
        self._lock = threading.Lock()
        self._looked_at = 0.0
        self._size = 0
        self._descriptor = -1
        path.parent.mkdir(parents=True, exist_ok=True)
        self._open()
        with self._alone():
            self._delete_expired()

    def write(self, line: str) -> None:
        """`line` without its line break."""
        data = line.encode("utf-8", "replace") + b"\n"
        with self._lock:
            try:
                self._make_room(len(data))
                self._size += os.write(self._descriptor, data)
            except OSError:
                # A full disk must not take the service down with it; the console has the line.
                return

    def close(self) -> None:
        """Also twice."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1

    def _open(self) -> None:
        opened = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = opened
        self._size = os.fstat(opened).st_size

    def _make_room(self, more: int) -> None:
        now = time.monotonic()
        if now - self._looked_at > LOOK_EVERY_S:
            self._looked_at = now
            # Others write to it, too: the size is theirs as much as ours.
            self._size = os.fstat(self._descriptor).st_size
            if not self._is_current():
                self._open()
        if self._size + more > self._rotation.max_bytes and self._size:
            self._rotate()

    def _is_current(self) -> bool:
        try:
            return os.path.samestat(self._path.stat(), os.fstat(self._descriptor))
        except FileNotFoundError:
            return False

    def _rotate(self) -> None:
        with self._alone():
            # Only one process moves a full file; the next one finds a new file in its place.
            if self._is_current():
                for number in range(len(self._put_aside()), 0, -1):
                    self._aside(number).rename(self._aside(number + 1))
                self._path.rename(self._aside(1))
                self._delete_expired()
            self._open()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._path.with_name(f"{self._path.name}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _aside(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def _put_aside(self) -> list[Path]:
        """The newest first."""
        found: list[Path] = []
        while (path := self._aside(len(found) + 1)).exists():
            found.append(path)
        return found

    def _delete_expired(self) -> None:
        now, files = time.time(), self._put_aside()
        for place in expired([now - path.stat().st_mtime for path in files], self._rotation):
            files[place].unlink(missing_ok=True)
